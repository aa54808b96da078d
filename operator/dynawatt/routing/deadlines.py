"""When the first token of a request is due.

The queue orders ``priority`` and ``deadline`` go by this: see ``simulation.settings``.
"""

from dynawatt.workload.objectives import LatencyObjectives


def deadline_s(arrival_s: float, input_tokens: int, objectives: LatencyObjectives) -> float:
    """When the first token of a request is due, on the clock of its arrival."""
    return arrival_s + objectives.ttft_s(input_tokens)
