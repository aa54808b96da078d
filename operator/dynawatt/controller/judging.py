"""Whether measured latencies meet the SLO, as far as vLLM's own metrics can tell.

vLLM's TTFT histogram has no input lengths, so attainment by length cannot be
measured from it. What can be said for certain is said; between the two bounds
the answer is Unknown.
"""

from dynawatt.adapters.vllm_metrics import LoadObservation, fraction_within
from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.llmservice import SLO
from dynawatt.controller.draft import StatusDraft


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
    if tbt < wanted:
        message = f"fewer than {wanted:.0%} of gaps between tokens are within {slo.inter_token_milliseconds} ms"
        draft.set(ConditionType.SLO_MET, False, Reason.SLO_MISSED, message)
    elif highest < wanted:
        message = f"fewer than {wanted:.0%} of first tokens come within even the longest objective"
        draft.set(ConditionType.SLO_MET, False, Reason.SLO_MISSED, message)
    elif lowest >= wanted:
        draft.set(ConditionType.SLO_MET, True, Reason.WITHIN_SLO, "even the tightest TTFT objective and TBT are met")
    else:
        message = "TBT is met; vLLM does not measure TTFT by input length, so that part cannot be told"
        draft.set(ConditionType.SLO_MET, None, Reason.WITHIN_SLO, message)
