"""Recording rules: what dashboards and alerts have in common, computed once.

The operator asks Prometheus without them, because it must work where nobody loads
rules; names of vLLM's metrics and their aliases come from the same table.
"""

from typing import Final, NamedTuple

from dynawatt.adapters.vllm_names import TBT, TTFT
from dynawatt.dashboards.expressions import PODS, SERVICE, WINDOW, by_pod, by_service, of_services, rate_of


class Recording(NamedTuple):
    """One recorded series."""

    name: str
    """Of the form level:metric:operation, as Prometheus recommends."""
    expression: str
    text: str
    """What it is, in a sentence with its unit."""


POWER_W: Final = "llmservice:dynawatt_gpu_power_watts:sum"
ENERGY_RATE_W: Final = f"llmservice:dynawatt_energy_joules:rate{WINDOW}"
TOKEN_RATE: Final = f"llmservice:dynawatt_generated_tokens:rate{WINDOW}"
TOKEN_ENERGY_J: Final = f"llmservice:dynawatt_energy_per_token_joules:ratio_rate{WINDOW}"
TTFT_BUCKETS: Final = f"llmservice:dynawatt_ttft_seconds_bucket:rate{WINDOW}"
TBT_BUCKETS: Final = f"llmservice:dynawatt_tbt_seconds_bucket:rate{WINDOW}"
RATE_RPS: Final = "llmservice:dynawatt_requests_per_second:max"
ATTAINMENT: Final = "llmservice:dynawatt_slo_attainment:ratio"
_MISSED: Final = "llmservice:dynawatt_slo_missed_requests_per_second:product"
_JUDGED: Final = "llmservice:dynawatt_slo_judged_requests_per_second:product"
SAVED_6H_J: Final = "llmservice:dynawatt_saved_energy_joules:increase6h"
SAVING_BAND_J: Final = "llmservice:dynawatt_saving_band_joules:increase6h"
BURN_WINDOWS: Final = ("5m", "30m", "1h", "6h", "3d")


def burn_rate(window: str) -> str:
    """Name of the error budget's burn rate over one of BURN_WINDOWS."""
    return f"llmservice:dynawatt_slo_burn_rate:ratio_rate{window}"


def _saved(bound: str) -> str:
    return by_service(f'dynawatt_saved_energy_joules{{bound="{bound}"}}', "counterfactual")


_PODS: Final = Recording(
    PODS,
    # Or the rates of five minutes would lose what a pod did that has just gone.
    f"max by ({SERVICE}, pod, shape) (max_over_time(dynawatt_pod_info[{WINDOW}]))",
    "1 for each pod that an LLMService has, or had within five minutes, with its shape.",
)
_ENERGY: Final = (
    Recording(POWER_W, of_services("dynawatt_gpu_power_watts"), "Power of the GPUs that its pods hold, in W."),
    Recording(
        ENERGY_RATE_W,
        of_services(by_pod(f"rate(dynawatt_pod_energy_joules_total[{WINDOW}])")),
        "The same as a mean over five minutes, in W.",
    ),
    Recording(
        TOKEN_RATE,
        of_services(by_pod(f'rate(dynawatt_pod_tokens_total{{kind="generation"}}[{WINDOW}])')),
        "Tokens generated per second, read by the agents in the same cycles as the energy.",
    ),
    Recording(TOKEN_ENERGY_J, f"{ENERGY_RATE_W} / ({TOKEN_RATE} > 0)", "J per generated token."),
)
_LATENCY: Final = (
    Recording(
        TTFT_BUCKETS, of_services(rate_of(TTFT, "_bucket"), "le"), "First tokens per second by time to first token."
    ),
    Recording(TBT_BUCKETS, of_services(rate_of(TBT, "_bucket"), "le"), "Gaps between tokens per second by their time."),
)
_CHARGED_6H: Final = f"sum by ({SERVICE}) (increase(dynawatt_charged_energy_joules_total[6h]))"
_INSTEAD_6H: Final = f"sum by ({SERVICE}, counterfactual) (increase(dynawatt_counterfactual_energy_joules_total[6h]))"
_SAVING: Final = (
    Recording(
        SAVED_6H_J,
        f"{_INSTEAD_6H}\n- on ({SERVICE}) group_left ()\n{_CHARGED_6H}",
        "Counterfactual less charged energy of the last six hours, in J; below 0 where more was used.",
    ),
    Recording(
        SAVING_BAND_J,
        f"{_INSTEAD_6H}\n* on ({SERVICE}, counterfactual)\n"
        f"(\n  {_saved('high')}\n  - {_saved('expected')}\n)\n"
        f"/ on ({SERVICE}, counterfactual)\n"
        f"({by_service('dynawatt_counterfactual_energy_joules_total', 'counterfactual')} > 0)",
        "Half the width of the band around it, in J.",
    ),
)
_TTFT_BOUND: Final = by_service('dynawatt_slo_ttft_attainment_bound_ratio{inputs="all", bound="high"}')
_TBT: Final = by_service('dynawatt_slo_attainment_ratio{objective="tbt"}', "objective")
_SLO: Final = (
    Recording(RATE_RPS, by_service("dynawatt_observed_requests_per_second"), "Requests that arrive per second."),
    Recording(
        ATTAINMENT,
        f'{_TBT}\nor label_replace({_TTFT_BOUND}, "objective", "ttft", "", "")',
        "Fraction in time, by objective; of first tokens the most that is possible where objectives differ by length.",
    ),
    Recording(
        _MISSED,
        f"(1 - {ATTAINMENT}) * on ({SERVICE}) group_left () {RATE_RPS}",
        "Requests per second times the fraction that is surely late.",
    ),
    Recording(
        _JUDGED,
        f"{ATTAINMENT} ^ 0 * on ({SERVICE}) group_left () {RATE_RPS}",
        "Requests per second while it is known how many are late.",
    ),
    *(
        Recording(
            burn_rate(window),
            f"sum_over_time({_MISSED}[{window}]) / sum_over_time({_JUDGED}[{window}])\n"
            f"/ on ({SERVICE}) group_left ()\n(1 - {by_service('dynawatt_slo_target_ratio')})",
            f"How many times faster than allowed the error budget was used over {window}.",
        )
        for window in BURN_WINDOWS
    ),
)

GROUPS: Final = {
    "dynawatt.services": (_PODS, *_ENERGY, *_LATENCY),
    "dynawatt.slo": _SLO,
    "dynawatt.savings": _SAVING,
}
"""By name of the group; the rules of a group are evaluated one after the other."""
