"""When the first token of a request is due, and the order of requests by it.

The queue orders ``priority`` and ``deadline`` go by this: see ``simulation.settings``.
"""

import numpy as np
from numpy.typing import NDArray

from dynawatt.workload.objectives import LatencyObjectives


def deadline_s(arrival_s: float, input_tokens: int, objectives: LatencyObjectives) -> float:
    """When the first token of a request is due, on the clock of its arrival."""
    return arrival_s + objectives.ttft_s(input_tokens)


def by_deadline(
    arrival_s: NDArray[np.float64], input_tokens: NDArray[np.int64], objectives: LatencyObjectives
) -> NDArray[np.int64]:
    """Positions of requests in the order in which they are due; among equals by arrival, then as they stand."""
    due_s = arrival_s + objectives.ttft_s_of(input_tokens)
    return np.lexsort((arrival_s, due_s))
