"""dynawatt itself: whether its own processes work, what they do and what they cost."""

from typing import Final

from dynawatt.dashboards.expressions import SERVICE
from dynawatt.dashboards.page import Page, Section
from dynawatt.dashboards.panels import BAD, FAIR, GOOD, Look, Panel, Query, Steps, lines, number, states

_OPERATOR: Final = "on (job, instance) group by (job, instance) (dynawatt_api_writes_total)"
"""Which process is the operator, whatever its job is called."""
_LATE_CYCLE: Final = Steps(GOOD, ((5.0, FAIR), (30.0, BAD)))
_AGE: Final = "time() - max by (node) (dynawatt_agent_last_cycle_timestamp_seconds)"
_NODE: Final = "{{node}}"


def _plan_quantile(quantile: float) -> str:
    rate = "sum by (le) (rate(dynawatt_plan_duration_seconds_bucket[$__rate_interval]))"
    return f"histogram_quantile({quantile:g}, {rate})"


def _agents(metric: str, how: str = "max") -> str:
    return f"{how} by (node) ({metric})"


def _alerts(state: str) -> str:
    chosen = f'ALERTS{{alertname=~"Dynawatt.*", alertstate="{state}"}}'
    return f"max by (alertname, namespace, llmservice, node) ({chosen})"


def _trouble(title: str, text: str, metric: str, *, good: int) -> Panel:
    """A gauge of the agents that should be ``good`` on every node."""
    names = {good: ("as it should be", GOOD), 1 - good: ("not", BAD)}
    return states(title, text, Query(_agents(metric), _NODE), names=names, width=6)


_NOW: Final = (
    number(
        "Services",
        "LLMServices that the operator looks after.",
        Query(f"count(group by ({SERVICE}) (dynawatt_reconcile_age_seconds))", "services"),
        unit="none",
    ),
    number(
        "Longest without a look",
        "Since the last look at the service that waits longest. Above 60 s (orange) the operator is slow; above 120 s "
        "(red) it is stuck and somebody is alerted.",
        Query("max(dynawatt_reconcile_age_seconds)", "age"),
        unit="s",
        steps=Steps(GOOD, ((60.0, FAIR), (120.0, BAD))),
        decimals=0,
    ),
    number(
        "Agents",
        "That Prometheus reads.",
        Query("count(" + _agents("dynawatt_agent_last_cycle_timestamp_seconds") + ")", "agents"),
        unit="none",
    ),
    number(
        "Oldest agent cycle",
        "An agent works once per second. Above 5 s (orange) one is slow, above 30 s (red) it is stuck.",
        Query(f"max({_AGE})", "age"),
        unit="s",
        steps=_LATE_CYCLE,
    ),
    number(
        "Pods with a claim",
        "Whose GPUs the agents govern.",
        Query(f"sum({_agents('dynawatt_agent_claims')})", "claims"),
        unit="none",
    ),
    number(
        "Claims without effect",
        "Refused by an agent: the pod's GPUs cannot be governed. Above 0 (orange) see the GPUNode of its node.",
        Query(f"sum({_agents('dynawatt_agent_claims_refused')})", "refused"),
        unit="none",
        steps=Steps(GOOD, ((1.0, FAIR),)),
    ),
)
_WORK: Final = (
    lines(
        "Age of the last look, by service",
        "Seconds. It rises to the interval between looks (10 s) and falls; above 120 s (red) somebody is alerted.",
        Query(f"min by ({SERVICE}) (dynawatt_reconcile_age_seconds)", "{{namespace}}/{{llmservice}}"),
        unit="s",
        steps=Steps(GOOD, ((120.0, BAD),)),
    ),
    lines(
        "How long a plan takes",
        "Median and 95th percentile of the interval. Above 30 s (orange) plans come late for a load that grows.",
        Query(_plan_quantile(0.5), "median"),
        Query(_plan_quantile(0.95), "P95"),
        unit="s",
        steps=Steps(GOOD, ((30.0, FAIR),)),
    ),
    lines(
        "Plans",
        "Per second: for all services, or for some whose load or replicas changed. None for half an hour alerts.",
        Query("sum by (scope) (rate(dynawatt_plan_duration_seconds_count[$__rate_interval]))", "{{scope}}"),
        unit="cps",
    ),
    lines(
        "Writes to the Kubernetes API",
        "Requests per second that change something. Renewals of the Lease go on; the rest is rare when all is steady.",
        Query("sum by (verb, resource) (rate(dynawatt_api_writes_total[$__rate_interval]))", "{{verb}} {{resource}}"),
        unit="reqps",
        stacked=True,
    ),
    lines(
        "Memory of the operator",
        "Resident. Surfaces of latency are most of it.",
        Query(f"process_resident_memory_bytes and {_OPERATOR}", "operator"),
        unit="bytes",
    ),
    lines(
        "CPU of the operator",
        "Cores, without the worker that simulates. Above 1 (orange) looks are late: it has one event loop.",
        Query(f"rate(process_cpu_seconds_total[$__rate_interval]) and {_OPERATOR}", "operator"),
        unit="none",
        steps=Steps(GOOD, ((1.0, FAIR),)),
    ),
)
_AGENTS: Final = (
    lines(
        "Duration of an agent's cycle",
        "It must fit into a second: above that (orange) clocks follow late.",
        Query(_agents("dynawatt_agent_cycle_seconds"), _NODE),
        unit="s",
        steps=Steps(GOOD, ((1.0, FAIR),)),
    ),
    lines(
        "Age of the operator's Lease",
        "As each agent sees it. Above 30 s (red) all clocks return to their defaults.",
        Query(_agents("dynawatt_agent_lease_age_seconds"), _NODE),
        unit="s",
        steps=Steps(GOOD, ((30.0, BAD),)),
    ),
    lines(
        "Clock commands",
        "Lock and reset calls per second and node. Governors that change clocks all the time would show here.",
        Query("sum by (node) (rate(dynawatt_clock_commands_total[$__rate_interval]))", _NODE),
        unit="cps",
    ),
    lines(
        "What fails in agents",
        "In the interval, all nodes: cycles, commands that the driver refused, pods that could not be read, claims for "
        "clocks that a GPU does not have. From 1 on (orange) the agent's log says more.",
        *(
            Query(f"sum(increase({metric}[$__rate_interval]))", name)
            for name, metric in {
                "cycles": "dynawatt_agent_cycle_failures_total",
                "clock commands": "dynawatt_clock_set_failures_total",
                "readings of pods": "dynawatt_agent_scrape_failures_total",
                "claims fitted": "dynawatt_claims_snapped_total",
            }.items()
        ),
        unit="none",
        steps=Steps(GOOD, ((1.0, FAIR),)),
        looks=(Look("clock commands|cycles", colour=BAD),),
        bars=True,
    ),
    _trouble(
        "Lease is fresh",
        "Claims hold only while it is (green); else (red) clocks return to their defaults.",
        "dynawatt_agent_lease_fresh",
        good=1,
    ),
    _trouble(
        "Switch is on",
        "The ConfigMap dynawatt-switch turns everything off (red).",
        "dynawatt_agent_switched_off",
        good=0,
    ),
    _trouble(
        "Journal can be written",
        "Without it (red) no GPU is locked, because nobody could reset it after a crash.",
        "dynawatt_agent_journal_failing",
        good=0,
    ),
    _trouble(
        "Allocations are known",
        "Whether the kubelet tells which pod holds which GPU. If not (red), clocks stay as they are, then return.",
        "dynawatt_agent_allocations_failing",
        good=0,
    ),
)
_ALERTS: Final = (
    states(
        "Alerts",
        "Of dynawatt, pending (orange) and firing (red). Each has a runbook under docs/runbooks.",
        Query(
            f"{_alerts('firing')} * 2\nor {_alerts('pending')}",
            "{{alertname}} {{namespace}} {{llmservice}} {{node}}",
        ),
        names={1: ("pending", FAIR), 2: ("firing", BAD)},
        width=24,
        height=6,
    ),
)

ITSELF: Final = Page(
    "dynawatt-itself",
    "dynawatt / Itself",
    "Whether dynawatt's own processes work, what they do and what they cost.",
    (
        Section("Now", _NOW),
        Section("Operator", _WORK),
        Section("Agents", _AGENTS),
        Section("Alerts", _ALERTS),
    ),
    (),
)
