"""Alerts, each with a runbook that says what it means and what to do."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dynawatt.api.conditions import ConditionType
from dynawatt.dashboards.expressions import SERVICE, by_service
from dynawatt.dashboards.recording import SAVED_6H_J, SAVING_BAND_J, burn_rate

_FAST_BURN: Final = 14.4
"""Of a budget for 30 days an hour takes 2 %."""
_SLOW_BURN: Final = 6.0
"""Of a budget for 30 days six hours take 5 %."""
_NEARLY_ALL: Final = 0.9
"""Late requests that alert in any case: a budget of 10 % and more cannot burn 14.4 times too fast."""


class Severity(StrEnum):
    """How soon somebody must look."""

    CRITICAL = "critical"
    """Now: users notice, or hardware is left in a state that nobody asked for."""
    WARNING = "warning"
    """In working hours."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule."""

    name: str
    expression: str
    hold: str
    """For how long it must be true."""
    severity: Severity
    summary: str
    description: str

    @property
    def runbook(self) -> str:
        """Its page in the repository."""
        return f"docs/runbooks/{self.name}.md"


def _condition(type_: ConditionType, status: str) -> str:
    metric = f'dynawatt_condition{{type="{type_}", status="{status}"}}'
    return f"{by_service(metric)} == 1"


def _replicas(state: str) -> str:
    return by_service(f'dynawatt_replicas{{state="{state}"}}', "shape")


def _burns(window: str, times: float) -> str:
    most = f"clamp_max({_NEARLY_ALL} / (1 - {by_service('dynawatt_slo_target_ratio')}), {times:g})"
    return f"{burn_rate(window)} > on ({SERVICE}) group_left () {most}"


def _both(short: str, long: str, times: float) -> str:
    """The long window says that it matters, the short one that it goes on."""
    return f"(\n  {_burns(long, times)}\nand\n  {_burns(short, times)}\n)"


_ITS: Final = "{{ $labels.namespace }}/{{ $labels.llmservice }}"
_NODE: Final = "{{ $labels.node }}"
_REQUESTED: Final = "dynawatt_gpu_requested_clock_hertz"
_SEEN: Final = "max by (node) (dynawatt_agent_last_cycle_timestamp_seconds)"

ALERTS: Final = (
    Alert(
        "DynawattSLOBurningFast",
        _both("5m", "1h", _FAST_BURN),
        "2m",
        Severity.CRITICAL,
        f"{_ITS} misses its SLO: error budget of {{{{ $labels.objective }}}} burns fast",
        "Over the last hour {{ $value | humanize }} times as many requests were late as the SLO allows.",
    ),
    Alert(
        "DynawattSLOBurningSlowly",
        f"{_both('30m', '6h', _SLOW_BURN)}\nor\n{_both('6h', '3d', 1.0)}",
        "15m",
        Severity.WARNING,
        f"{_ITS} misses its SLO: error budget of {{{{ $labels.objective }}}} burns slowly",
        "For hours {{ $value | humanize }} times as many requests were late as the SLO allows.",
    ),
    Alert(
        "DynawattSLOUnattainable",
        _condition(ConditionType.SLO_ATTAINABLE, "False"),
        "15m",
        Severity.WARNING,
        f"{_ITS} cannot meet its SLO within its limits",
        "No operating point that is allowed and fits carries the expected load; the fastest one is used.",
    ),
    Alert(
        "DynawattMetricsMissing",
        _condition(ConditionType.METRICS_AVAILABLE, "False"),
        "10m",
        Severity.WARNING,
        f"dynawatt knows nothing of the load of {_ITS}",
        "Prometheus does not answer with fresh vLLM metrics. Everything is held as it is, replicas as well as clocks.",
    ),
    Alert(
        "DynawattOperatorAbsent",
        "absent(dynawatt_plan_duration_seconds_count)",
        "10m",
        Severity.WARNING,
        "The dynawatt operator is gone or not scraped",
        "Without an operator replicas stay as they are, and agents return all clocks to their defaults.",
    ),
    Alert(
        "DynawattPlanStuck",
        f"min by ({SERVICE}) (dynawatt_reconcile_age_seconds) > 120\n"
        f"or\n{by_service('dynawatt_observed_requests_per_second')}\n"
        "and on () (sum(increase(dynawatt_plan_duration_seconds_count[30m])) == 0)",
        "5m",
        Severity.WARNING,
        f"dynawatt does not plan for {_ITS}",
        "The operator has not finished a look at the service for minutes, or made no plan for half an hour.",
    ),
    Alert(
        "DynawattChangeStuck",
        f"{_replicas('desired')}\n!= {_replicas('ready')}",
        "45m",
        Severity.WARNING,
        f"Replicas of {_ITS} do not become what was decided",
        "{{ $value }} replicas of {{ $labels.shape }} are wanted, and another number is Ready, for 45 minutes.",
    ),
    Alert(
        "DynawattClocksUnreset",
        f"max by (node, gpu_uuid) ({_REQUESTED})\n"
        "and on (node) (\n"
        "  max by (node) (dynawatt_agent_lease_fresh) == 0\n"
        "or\n"
        "  max by (node) (dynawatt_agent_switched_off) == 1\n"
        ")\n"
        f'or max by (node, gpu_uuid) ({_REQUESTED}{{pod=""}})\n'
        f"or (max by (node, gpu_uuid) (last_over_time({_REQUESTED}[30m])) unless on (node) {_SEEN})\n"
        'or sum by (node) (increase(dynawatt_clock_set_failures_total{command="reset"}[15m])) > 0',
        "2m",
        Severity.CRITICAL,
        f"GPU clocks on {_NODE} are locked and should not be",
        "A GPU is held at a clock although no claim holds, its agent is gone, or the driver refused to reset it.",
    ),
    Alert(
        "DynawattAgentStale",
        f"time() - {_SEEN} > 30\n"
        "or\n"
        "time() - max by (node) (max_over_time(dynawatt_agent_last_cycle_timestamp_seconds[1h]))\n"
        f"unless on (node) {_SEEN}",
        "2m",
        Severity.WARNING,
        f"The dynawatt agent on {_NODE} is stuck or gone",
        "It finished its last cycle {{ $value | humanizeDuration }} ago. Energy is not counted, no clock is governed.",
    ),
    Alert(
        "DynawattModelDrifted",
        _condition(ConditionType.MODEL_ACCURATE, "False"),
        "30m",
        Severity.WARNING,
        f"{_ITS} is not what its model predicts",
        "Measured latencies or watts are far from the profile. Plans are made with corrected numbers meanwhile.",
    ),
    Alert(
        "DynawattConflict",
        _condition(ConditionType.CONFLICTING, "True"),
        "10m",
        Severity.WARNING,
        f"Something else scales {_ITS}",
        "dynawatt leaves its replicas alone; clocks go on being governed.",
    ),
    Alert(
        "DynawattSavingsNegative",
        f'{SAVED_6H_J}{{counterfactual="as-found"}} + {SAVING_BAND_J}{{counterfactual="as-found"}} < 0',
        "30m",
        Severity.WARNING,
        f"{_ITS} uses more energy than it would without dynawatt",
        "Over six hours the saving against the fleet as it was found is {{ $value | humanize }}J at most.",
    ),
    Alert(
        "DynawattGPUUnhealthy",
        "max by (node, gpu_uuid) (dynawatt_gpu_healthy) == 0",
        "5m",
        Severity.WARNING,
        f"GPU {{{{ $labels.gpu_uuid }}}} on {_NODE} is unhealthy",
        "It does not answer, or shows an uncorrected ECC error, a failed row remap, or a critical XID.",
    ),
)
