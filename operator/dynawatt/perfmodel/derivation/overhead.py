"""The engine's own time: scheduling, sampling, output, communication between its processes.

Tables of GPU operations do not have it. It is what steps of a whole engine take
beyond what the profile says of the GPU, fitted to measurements under a constant
number of requests. Prompts are not in those measurements: their mean length is
fitted along, from what the same rows say of models whose prefill costs differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from dynawatt.perfmodel.clocked import ClockedReplica, Numbers
from dynawatt.perfmodel.derivation.closed_loop import ClosedLoopRow, steady_state

_PROMPT_TOKENS: Final = np.arange(50.0, 1001.0, 50.0)


@dataclass(frozen=True, slots=True)
class EngineOverhead:
    """Seconds of the engine that no GPU clock changes."""

    iteration_s: float
    parallel_s: float
    """Added to each iteration of replicas of several GPUs, which several processes drive."""
    request_s: float
    """Per decoding request and iteration."""
    prompt_tokens: float
    """Mean prompt of the measured load, part of the fit."""

    def iteration_overhead_s(self, tensor_parallel: int) -> float:
        """Seconds per iteration at a degree."""
        return self.iteration_s + (self.parallel_s if tensor_parallel > 1 else 0.0)


def mean_step_s(replica: ClockedReplica, row: ClosedLoopRow, prompt_tokens: float) -> float:
    """What the profile says of the mean iteration of a closed loop."""
    iterations = steady_state(row.requests, prompt_tokens, row.output_tokens)
    return sum(share * replica.step_s(batch) for share, batch in iterations)


def fit_overhead(
    measured: Sequence[tuple[ClosedLoopRow, ClockedReplica]], prompt_tokens: float | None = None
) -> EngineOverhead:
    """The overhead with the least relative error, outliers weighing little.

    Args:
        measured: rows, each with the replica at its clock, its profile without overhead.
        prompt_tokens: mean prompt of the load; None to fit it.
    """
    # Late, as in perfmodel/nonnegative.py.
    from scipy.optimize import least_squares  # noqa: PLC0415

    lengths = _PROMPT_TOKENS if prompt_tokens is None else np.array([prompt_tokens])
    gpu_s = np.array([[mean_step_s(replica, row, length) for length in lengths] for row, replica in measured])
    steps_s = np.array([row.step_s for row, _ in measured])
    requests = np.array([row.requests for row, _ in measured])
    parallel = np.array([float(row.tensor_parallel > 1) for row, _ in measured])

    def errors(values: Numbers) -> Numbers:
        iteration_ms, parallel_ms, request_us, length = values
        gpu_only_s = np.array([np.interp(length, lengths, times) for times in gpu_s])
        engine_s = (iteration_ms + parallel_ms * parallel) * 1e-3 + request_us * 1e-6 * requests
        return np.asarray((gpu_only_s + engine_s) / steps_s - 1)

    middle = float(np.median(lengths))
    fitted = least_squares(
        errors,
        x0=[1.0, 0.1, 30.0, middle],
        bounds=([0.0, 0.0, 0.0, lengths[0] - 1e-3], [np.inf, np.inf, np.inf, lengths[-1] + 1e-3]),
        x_scale=[1.0, 1.0, 10.0, 100.0],
        loss="soft_l1",
        f_scale=0.05,
    )
    iteration_ms, parallel_ms, request_us, length = (float(value) for value in fitted.x)
    return EngineOverhead(iteration_ms * 1e-3, parallel_ms * 1e-3, request_us * 1e-6, length)


MEASURED: Final[Mapping[str, EngineOverhead]] = {
    "h100-sxm": EngineOverhead(iteration_s=0.32e-3, parallel_s=0.79e-3, request_s=32.8e-6, prompt_tokens=410.0),
    "b200-sxm": EngineOverhead(iteration_s=1.36e-3, parallel_s=0.03e-3, request_s=36.3e-6, prompt_tokens=410.0),
}
"""By GPU, as ``dynawatt profile derive --ml-energy`` fits them to ML.ENERGY v3, for runs without that file."""
