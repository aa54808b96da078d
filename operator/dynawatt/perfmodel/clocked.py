"""A replica at one clock: seconds and joules of an iteration as plain sums.

Given how many tokens an iteration processes and how many requests decode in it,
its time and its energy are straight lines in the context that decoding requests
attend to, and in the query-key pairs of prefills. The simulator lives off that:
it adds up a run of thousands of equal decode iterations in closed form.
"""

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dynawatt.perfmodel.models import Batch

Numbers: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ClockedReplica:
    """Costs of a replica's iterations with all its GPUs at one clock. Energies are joules per GPU."""

    clock_mhz: float
    tokens: Numbers
    """Grid of tokens processed in an iteration (decode requests + prefill tokens), ascending from 1."""
    tokens_s: Numbers
    """Seconds of all that depends on the number of tokens alone, on that grid; linear between its points."""
    tokens_j: Numbers
    """Energy of the same work beyond ``active_w``."""
    requests: Numbers
    """Grid of decoding requests, ascending from 0."""
    requests_s: Numbers
    """Seconds of what depends on their number: attention kernels, sampling, the scheduler."""
    request_j: float
    """Energy per decoding request, beyond ``active_w``."""
    context_s: Numbers
    """Seconds per token of their contexts, on the same grid."""
    context_j: float
    """Energy per token of their contexts, beyond ``active_w``."""
    pair_s: float
    """Seconds per query-key pair of prefilled chunks."""
    pair_j: float
    iteration_s: float
    """Seconds of an iteration whatever is in it."""
    active_w: float
    """Power while iterations run, work done by them not counted."""
    idle_w: float
    """Power with the model loaded and no work."""
    tdp_w: float

    def step_s(self, batch: Batch) -> float:
        """Seconds of one iteration. Raises ValueError outside the profile's range."""
        tokens = batch.decode_requests + batch.prefill_tokens
        self._check(tokens, batch.decode_requests)
        return (
            self.iteration_s
            + _at(self.tokens, self.tokens_s, tokens)
            + _at(self.requests, self.requests_s, batch.decode_requests)
            + _at(self.requests, self.context_s, batch.decode_requests) * batch.decode_context_tokens
            + self.pair_s * batch.prefill_pairs
        )

    def energy_j(self, batch: Batch) -> float:
        """Joules per GPU of one iteration, at most what TDP allows."""
        step_s = self.step_s(batch)
        work_j = (
            _at(self.tokens, self.tokens_j, batch.decode_requests + batch.prefill_tokens)
            + self.request_j * batch.decode_requests
            + self.context_j * batch.decode_context_tokens
            + self.pair_j * batch.prefill_pairs
        )
        return min(self.tdp_w * step_s, self.active_w * step_s + work_j)

    def scaled(self, time_factor: float, power_factor: float) -> "ClockedReplica":
        """All iterations take so many times as long and draw so many times the watts, TDP and idling included."""
        joules = time_factor * power_factor
        return replace(
            self,
            tokens_s=self.tokens_s * time_factor,
            tokens_j=self.tokens_j * joules,
            requests_s=self.requests_s * time_factor,
            request_j=self.request_j * joules,
            context_s=self.context_s * time_factor,
            context_j=self.context_j * joules,
            pair_s=self.pair_s * time_factor,
            pair_j=self.pair_j * joules,
            iteration_s=self.iteration_s * time_factor,
            active_w=self.active_w * power_factor,
            idle_w=self.idle_w * power_factor,
            tdp_w=self.tdp_w * power_factor,
        )

    def _check(self, tokens: float, requests: float) -> None:
        if not 1 <= tokens <= self.tokens[-1]:
            raise ValueError(f"iteration of {tokens} tokens: the profile covers 1 to {self.tokens[-1]:.0f}")
        if not 0 <= requests <= self.requests[-1]:
            raise ValueError(f"{requests} decoding requests: the profile covers up to {self.requests[-1]:.0f}")


def _at(grid: Numbers, values: Numbers, x: float) -> float:
    return float(np.interp(x, grid, values))
