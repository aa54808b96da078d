"""Replicas with made-up but plausible costs, for tests of the compiled core."""

from dataclasses import dataclass, field

import numpy as np

from dynawatt.perfmodel.clocked import ClockedReplica


@dataclass(frozen=True)
class HandReplica:
    """Stands in for ReplicaProfile: about a 70B model on eight H100, by a roofline one can do in one's head.

    Weights take 6 ms to read, and 30 us of arithmetic per token at 2000 MHz; a token of context 15 ns.
    """

    tensor_parallel: int = 8
    tdp_w: float = 700.0
    context_s: float = 15e-9
    context_j: float = 2e-6
    name: str = "hand"
    max_iteration_tokens: int = 8192
    max_decode_requests: int = 1024
    _clocked: dict = field(default_factory=dict, compare=False)

    def at_clock(self, clock_mhz: float) -> ClockedReplica:
        if clock_mhz not in self._clocked:
            self._clocked[clock_mhz] = self._make(clock_mhz)
        return self._clocked[clock_mhz]

    def _make(self, clock_mhz: float) -> ClockedReplica:
        slowdown = 2000.0 / clock_mhz
        tokens = np.array([1.0, 8, 64, 256, 512, 1024, 2048, 8192])
        requests = np.array([0.0, 1, 16, 128, 1024])
        return ClockedReplica(
            clock_mhz=clock_mhz,
            tokens=tokens,
            tokens_s=(6e-3**4 + (30e-6 * slowdown * tokens) ** 4) ** 0.25 + 1.5e-3 + 4e-7 * tokens,
            tokens_j=0.7 + 0.012 * tokens / slowdown,
            requests=requests,
            requests_s=1e-4 + 1.1e-6 * requests,
            request_j=3e-5,
            context_s=self.context_s * np.array([1.1, 1.1, 1.05, 1.0, 1.0]),
            context_j=self.context_j,
            pair_s=2.1e-10 * slowdown,
            pair_j=3e-8,
            iteration_s=1.3e-3,
            active_w=150.0 / slowdown + 50,
            idle_w=110.0 / slowdown + 5,
            tdp_w=self.tdp_w,
        )

    def step_s(self, batch, clock_mhz):
        return self.at_clock(clock_mhz).step_s(batch)

    def power_w(self, batch, clock_mhz):
        clocked = self.at_clock(clock_mhz)
        return clocked.energy_j(batch) / clocked.step_s(batch)
