"""Whether measured latencies meet the SLO, as far as vLLM's own metrics can tell.

vLLM's TTFT histogram has no input lengths, so attainment by length cannot be
measured from it. What can be said for certain is said; between the two bounds
the answer is Unknown.
"""

import math

from dynawatt.adapters.vllm_load.histograms import fraction_within
from dynawatt.adapters.vllm_load.source import LoadObservation
from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.llmservice import SLO
from dynawatt.controller.draft import StatusDraft
from dynawatt.workload.mix import Histogram


def judge_slo(draft: StatusDraft, slo: SLO, load: LoadObservation) -> None:
    """Set SLOMet from the latency histograms."""
    objectives = [objective_s for _, objective_s in slo.ttft_objectives_s]
    tbt = fraction_within(load.tbt, slo.tbt_objective_s)
    lowest = fraction_within(load.ttft, min(objectives))
    highest = fraction_within(load.ttft, max(objectives))
    if tbt is None or lowest is None or highest is None:
        draft.set(ConditionType.SLO_MET, None, Reason.NO_LOAD_YET, "no latencies were measured yet")
        return
    wanted = slo.attainment_target
    status: bool | None
    if tbt < wanted:
        status, reason = False, Reason.SLO_MISSED
        message = f"fewer than {wanted:.0%} of gaps between tokens are within {slo.inter_token_milliseconds} ms"
    elif highest < wanted:
        status, reason = False, Reason.SLO_MISSED
        message = f"fewer than {wanted:.0%} of first tokens come within even the longest objective"
    elif lowest >= wanted:
        status, reason = True, Reason.WITHIN_SLO
        message = "even the tightest TTFT objective and TBT are met"
    else:
        status, reason = None, Reason.WITHIN_SLO
        message = "TBT is met; vLLM does not measure TTFT by input length, so that part cannot be told"
    looked_at = [(load.ttft, min(objectives)), (load.ttft, max(objectives)), (load.tbt, slo.tbt_objective_s)]
    rough = dict.fromkeys(filter(None, (_between_buckets(*each) for each in looked_at)))
    draft.set(ConditionType.SLO_MET, status, reason, "; ".join([message, *rough]))


def _between_buckets(histogram: Histogram, objective_s: float) -> str | None:
    """What is lost where vLLM's histogram has no bucket that ends with the objective."""
    upper_s = min((upper for upper, _ in histogram if upper >= objective_s), default=objective_s)
    if math.isclose(upper_s, objective_s) or math.isinf(upper_s):
        return None
    told = f"{1000 * objective_s:g} ms lies inside a bucket of vLLM's histogram that ends at {1000 * upper_s:g} ms"
    return f"{told}: here it is interpolated, and agents judge by {1000 * upper_s:g} ms"
