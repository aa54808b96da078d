"""The SLO of an LLMService as the pure code takes it; neither side knows the other."""

from dynawatt.api.llmservice import SLO
from dynawatt.quantities import seconds
from dynawatt.workload.objectives import LatencyObjectives


def latency_objectives(slo: SLO) -> LatencyObjectives:
    """TTFT objectives by input length, and TBT, in seconds."""
    ttft = tuple((entry.max_input_tokens, seconds(entry.milliseconds)) for entry in slo.time_to_first_token)
    return LatencyObjectives(ttft=ttft, tbt_s=slo.tbt_objective_s)
