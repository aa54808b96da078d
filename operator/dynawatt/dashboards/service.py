"""One service: whether it keeps its promises, under which load, at which operating point, and why."""

from typing import Final

from dynawatt.adapters.vllm_names import KV_USAGE, RUNNING, WAITING
from dynawatt.api.conditions import ConditionType
from dynawatt.dashboards.expressions import PODS, SERVICE, by_pod, value_of
from dynawatt.dashboards.page import LLMSERVICE, NAMESPACE, Page, Section
from dynawatt.dashboards.panels import BAD, FAIR, GOOD, PLAIN, QUIET, Look, Query, Steps, lines, number, states
from dynawatt.dashboards.recording import POWER_W, RATE_RPS, TBT_BUCKETS, TTFT_BUCKETS, burn_rate
from dynawatt.dashboards.selecting import chosen, said

_WHICH: Final = "{{namespace}}/{{llmservice}}"
_MARGIN: Final = Steps(BAD, ((0.0, GOOD),))
_BURN: Final = Steps(GOOD, ((1.0, FAIR), (14.4, BAD)))
_TARGET: Final = Query(f"max({chosen('dynawatt_slo_target_ratio')})", "target")
_RED: Final = Look("target|objective", colour=BAD, dashed=True)
_TBT: Final = said("dynawatt_slo_attainment_ratio", 'objective="tbt"')
_TTFT: Final = "dynawatt_slo_ttft_attainment_bound_ratio"
_WANTED: Final = "|".join(
    type_
    for type_ in ConditionType
    if type_ not in (ConditionType.PROGRESSING, ConditionType.CLOCKS_GOVERNED, ConditionType.CONFLICTING)
)
"""Conditions that should be True."""
_MEANS: Final = {"min": "lowest", "avg": "mean", "max": "highest"}


def _margin(attainment: str) -> Query:
    """Attainment less its target, of the service that is worst off."""
    return Query(f"min({attainment} - on ({SERVICE}) {said('dynawatt_slo_target_ratio')})", "margin")


def _percentiles(buckets: str) -> tuple[Query, ...]:
    return tuple(
        Query(f"histogram_quantile({percent / 100:g}, sum by (le) ({chosen(buckets)}))", f"P{percent:g}")
        for percent in (50, 90, 99)
    )


def _objective(name: str) -> str:
    metric = chosen("dynawatt_slo_objective_seconds", f'objective="{name}"')
    return f"max by (inputs) ({metric})"


def _of_pods(expression: str, how: str = "sum") -> str:
    """Series of pods, of all chosen services together."""
    return f"{how} (\n  {expression}\n  * on (namespace, pod) group_left (llmservice) {chosen(PODS)}\n)"


def _state(types: str, status: str, value: int) -> str:
    """A value for the conditions that have a status."""
    metric = said("dynawatt_condition", f'type=~"{types}", status="{status}"', "type")
    return f"{metric} * {value}"


def _conditions(types: str, *, good: str) -> str:
    """0 for what calls for somebody, 1 for what is not known, 2 for what is as it should be."""
    bad = "True" if good == "False" else "False"
    return "\nor ".join((_state(types, good, 2), _state(types, "Unknown", 1), _state(types, bad, 0)))


_PROMISES: Final = (
    number(
        "TBT attainment above target",
        "Gaps between tokens within their objective, less what the SLO wants, of the service that is worst off. Below "
        "0 (red) the SLO is missed.",
        _margin(_TBT),
        unit="percentunit",
        steps=_MARGIN,
        decimals=2,
    ),
    number(
        "TTFT above target, at most",
        "The same for first tokens: the most that is possible, as vLLM does not measure them by input length. Below 0 "
        "(red) the SLO is surely missed.",
        _margin(said(_TTFT, 'inputs="all", bound="high"')),
        unit="percentunit",
        steps=_MARGIN,
        decimals=2,
    ),
    number(
        "Error budget burn, one hour",
        "How many times faster than allowed requests are late, of the worst service and objective. Above 1 (orange) "
        "the SLO is missed if it goes on; above 14.4 (red) somebody is alerted.",
        Query(f"max({chosen(burn_rate('1h'))})", "burn rate"),
        unit="none",
        steps=_BURN,
        decimals=2,
    ),
    number(
        "Requests arriving",
        "Per second, mean over the operator's rate window, all chosen services together.",
        Query(f"sum({chosen(RATE_RPS)})", "requests"),
        unit="reqps",
        decimals=1,
    ),
    number(
        "Replicas Ready",
        "Of all shapes of the chosen services. 0 (red) serves nobody.",
        Query("sum(" + said("dynawatt_replicas", 'state="ready"', "shape") + ")", "replicas"),
        unit="none",
        steps=Steps(BAD, ((1.0, GOOD),)),
    ),
    number(
        "Conditions to look at",
        "How many conditions are False that should be True, and Conflicting that are True. Above 0 (orange) look at "
        "the conditions below, and at `dynawatt explain`.",
        Query(
            "count("
            + said("dynawatt_condition", f'type=~"{_WANTED}", status="False"', "type")
            + " or "
            + said("dynawatt_condition", 'type="Conflicting", status="True"', "type")
            + ") or vector(0)",
            "conditions",
        ),
        unit="none",
        steps=Steps(GOOD, ((1.0, FAIR),)),
    ),
)
_LATENCIES: Final = (
    lines(
        "First tokens in time, by input length",
        "Between which bounds the attainment of each class of input tokens lies; they meet where one objective holds "
        "for all. A class is surely missed where even the most is below the target (red), and surely kept where the "
        "least is above it.",
        Query("max by (inputs) (" + chosen(_TTFT, 'bound="high"') + ")", "{{inputs}}, at most"),
        Query("min by (inputs) (" + chosen(_TTFT, 'bound="low"') + ")", "{{inputs}}, at least"),
        _TARGET,
        unit="percentunit",
        looks=(Look("at least", dashed=True), _RED),
        from_zero=False,
        most=1,
    ),
    lines(
        "Gaps between tokens in time",
        "Fraction within the objective, as vLLM measures it; below the target (red) the SLO is missed.",
        Query(_TBT, _WHICH),
        _TARGET,
        unit="percentunit",
        looks=(_RED,),
        from_zero=False,
        most=1,
    ),
    lines(
        "Time to first token",
        "Percentiles over all input lengths, in five minutes, between the bounds of vLLM's buckets. The objective of "
        "a class (red) is for its own inputs alone.",
        *_percentiles(TTFT_BUCKETS),
        Query(_objective("ttft"), "objective, {{inputs}} tokens"),
        unit="s",
        looks=(_RED,),
    ),
    lines(
        "Time between tokens",
        "Percentiles in five minutes, between the bounds of vLLM's buckets. The SLO wants its percentile below the "
        "objective (red).",
        *_percentiles(TBT_BUCKETS),
        Query(_objective("tbt"), "objective"),
        unit="s",
        looks=(_RED,),
    ),
    lines(
        "Error budget burn",
        "How many times faster than allowed requests are late, of the worst service. Above 14.4 over one hour and five "
        "minutes together (red), or 6 over six hours, somebody is alerted; above 1 (orange) the SLO is missed.",
        *(
            Query(f"max by (objective) ({chosen(burn_rate(window))})", f"{{{{objective}}}}, {window}")
            for window in ("5m", "1h", "6h")
        ),
        unit="none",
        steps=_BURN,
        width=24,
    ),
)
_LOAD: Final = (
    lines(
        "Forecast and observed load",
        "Requests per second: what arrives, what was expected of these five minutes, and what is planned to be ready "
        "for. Above the latter it is planned anew at once.",
        Query("sum(" + chosen("dynawatt_forecast_requests_per_second", 'level="high"') + ")", "ready for"),
        Query("sum(" + chosen("dynawatt_forecast_requests_per_second", 'level="expected"') + ")", "expected"),
        Query(f"sum({chosen(RATE_RPS)})", "observed"),
        unit="reqps",
        looks=(
            Look("ready for", colour=QUIET, dashed=True),
            Look("expected", colour=FAIR, dashed=True),
            Look("observed", colour=PLAIN),
        ),
    ),
    lines(
        "Requests in the pods",
        "Running, and waiting for room in the KV cache or in a batch. Requests that wait for long miss their TTFT.",
        Query(_of_pods(value_of(RUNNING)), "running"),
        Query(_of_pods(value_of(WAITING)), "waiting"),
        unit="none",
        looks=(Look("waiting", colour=FAIR),),
        stacked=True,
    ),
    lines(
        "KV cache in use",
        "Mean and fullest pod. Above 95 % (red) vLLM preempts requests and computes them again.",
        Query(_of_pods(value_of(KV_USAGE), "avg"), "mean"),
        Query(_of_pods(value_of(KV_USAGE), "max"), "fullest"),
        unit="percentunit",
        steps=Steps(GOOD, ((0.95, BAD),)),
        most=1,
    ),
    lines(
        "Burstiness of arrivals",
        "Variance over mean of requests per second, by pod: 1 for Poisson arrivals (dashed line); capacity falls as it "
        "rises.",
        Query(_of_pods(by_pod("dynawatt_pod_arrival_dispersion", "max"), "avg"), "mean"),
        Query(_of_pods(by_pod("dynawatt_pod_arrival_dispersion", "max"), "max"), "burstiest"),
        unit="none",
        steps=Steps(GOOD, ((1.0, PLAIN),)),
    ),
)
_POINT: Final = (
    lines(
        "Replicas by shape",
        "Ready replicas of each shape (GPUs each), and what the last decision wants of all (dashed).",
        Query("sum by (shape) (" + said("dynawatt_replicas", 'state="ready"', "shape") + ")", "{{shape}}"),
        Query(f"sum({said('dynawatt_desired_replicas')})", "decided"),
        unit="none",
        looks=(Look("decided", colour=QUIET, dashed=True),),
        stepped=True,
    ),
    lines(
        "SM clock",
        "Of the GPUs that the pods hold: lowest, mean and highest, and what governors ask for. GPUs that are not asked "
        "for anything run at their default clock, idle ones lower.",
        *(Query(_of_pods("dynawatt_gpu_sm_clock_hertz", how), name) for how, name in _MEANS.items()),
        Query(_of_pods("dynawatt_gpu_requested_clock_hertz", "avg"), "asked for, mean"),
        unit="hertz",
        looks=(Look("asked for", colour=QUIET, dashed=True),),
    ),
    lines(
        "Power: measured and predicted",
        "Of what runs, under the load that is observed. Calibration moves the prediction; if they stay more than a "
        "quarter apart, ModelAccurate becomes False.",
        Query(f"sum({said('dynawatt_measured_power_watts')})", "measured"),
        Query(f"sum({said('dynawatt_predicted_power_watts')})", "predicted"),
        Query(f"sum({chosen(POWER_W)})", "agents, now"),
        unit="watt",
        looks=(Look("predicted", dashed=True), Look("agents", colour=QUIET)),
    ),
    lines(
        "Why governors choose their clock",
        "Pods by reason: load is the least clock that suffices, settling waits before it goes lower, burning is the "
        "ceiling because the error budget is used up too fast, starting and blind are the ceiling without knowledge.",
        Query(_of_pods("dynawatt_governor_reason", "sum by (reason)"), "{{reason}}"),
        unit="none",
        looks=(Look("burning", colour=BAD), Look("blind", colour=FAIR)),
        stacked=True,
    ),
)
_DECISIONS: Final = (
    lines(
        "Decisions by reason",
        "Plans that changed something, or confirmed it (Steady). SLOUnreachable and MinimumUnreachable (red) want more "
        "GPUs, CannotPlan (red) is explained in the status; the words are those of lastDecision.",
        Query(
            f"sum by (reason) (increase({chosen('dynawatt_decisions_total')}[$__rate_interval]))",
            "{{reason}}",
        ),
        unit="none",
        looks=(Look("Unreachable|CannotPlan", colour=BAD), Look("Steady", colour=QUIET)),
        bars=True,
    ),
    lines(
        "Looks that held everything",
        "Per second, by reason: nothing is changed while something is not known. NoLoadYet and NotPlannedYet pass; "
        "MetricsQueryFailed does not pass by itself.",
        Query(f"sum by (reason) (rate({chosen('dynawatt_held_cycles_total')}[$__rate_interval]))", "{{reason}}"),
        unit="cps",
        looks=(Look("Failed|Error", colour=BAD),),
        bars=True,
    ),
    states(
        "Conditions",
        "As in the status of the LLMService: as they should be (green), not known (orange), or calling for somebody "
        "(red). Progressing and ClocksGoverned are left out, because either way may be right.",
        Query(_conditions(_WANTED, good="True"), f"{{{{type}}}} {_WHICH}"),
        Query(_conditions(ConditionType.CONFLICTING, good="False"), f"{{{{type}}}} {_WHICH}"),
        names={0: ("calls for somebody", BAD), 1: ("not known", FAIR), 2: ("as it should be", GOOD)},
        width=16,
    ),
    lines(
        "Calibration",
        "What predictions are multiplied with, as learnt from measurements: 1 where they agree. Beyond a quarter "
        "either way (red) the model is off: ModelAccurate tells.",
        Query(said("dynawatt_calibration_factor", "", "shape", "kind"), "{{kind}}, {{shape}}"),
        unit="none",
        steps=Steps(BAD, ((0.75, GOOD), (1.25, BAD))),
        width=8,
        from_zero=False,
    ),
)

SERVICE_PAGE: Final = Page(
    "dynawatt-service",
    "dynawatt / Service",
    "Whether services keep their latency objectives, under which load, at which operating point, and why.",
    (
        Section("Promises", (*_PROMISES, *_LATENCIES)),
        Section("Load", _LOAD),
        Section("Operating point", _POINT),
        Section("Decisions", _DECISIONS),
    ),
    (NAMESPACE, LLMSERVICE),
)
