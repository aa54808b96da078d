"""Latency objectives: time to first token by input length, and the gap between tokens."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class LatencyObjectives:
    """What a request's latency is held against. Raises InvalidInputError when an objective makes no sense."""

    ttft: tuple[tuple[int | None, float], ...]
    """(longest input in tokens, objective in seconds), ascending; the last has None and holds for all longer inputs."""
    tbt_s: float
    """Longest gap between two tokens of a request, in seconds."""

    def __post_init__(self) -> None:
        """Check order and signs."""
        *bounded, last = self.ttft or ((0, 0.0),)
        bounds = [bound for bound, _ in bounded if bound is not None]
        if last[0] is not None or len(bounds) < len(bounded) or bounds != sorted(set(bounds)):
            raise InvalidInputError(
                f"TTFT objectives {self.ttft}: input lengths must ascend and only the last entry must have none"
            )
        if not all(objective_s > 0 for _, objective_s in self.ttft):
            raise InvalidInputError(f"TTFT objectives {self.ttft}: every objective must be above 0")
        if not self.tbt_s > 0:
            raise InvalidInputError(f"TBT objective {self.tbt_s} s: must be above 0")

    def ttft_s(self, input_tokens: int) -> float:
        """Objective in seconds for an input of this many tokens."""
        return next(objective_s for bound, objective_s in self.ttft if bound is None or input_tokens <= bound)

    def ttft_s_of(self, input_tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """Objectives in seconds, shape as the inputs."""
        bounds = np.array([bound for bound, _ in self.ttft if bound is not None], dtype=np.int64)
        objectives = np.array([objective_s for _, objective_s in self.ttft])
        return np.asarray(objectives[np.searchsorted(bounds, input_tokens, side="left")])
