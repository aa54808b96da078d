"""What a profile says of an observed window: seconds of gaps and prefills, joules.

Observed is what the replicas did, predicted is how long the profile takes for that
very work. So neither the rate nor the burstiness of arrivals has to be known, and
a model that is too fast by a factor shows that factor: unlike in latencies at a
given load, where a slow replica also has larger batches and longer queues.

Iterations are of two kinds. All decode; some also prefill a chunk, as many as the
prompt tokens need. The mean over the gaps is linear in their share.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from statistics import mean
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.clocked import ClockedReplica
from dynawatt.perfmodel.models import Batch
from dynawatt.perfmodel.profile import ReplicaProfile
from dynawatt.planning.calibration.observing import Observation
from dynawatt.workload.mix import LengthMix

Numbers = NDArray[np.float64]

_PROMPTS: Final = 256
"""Of the mix, that stand for all."""


class ChunkLimits(Protocol):
    """The engine flags that decide how prompts are cut."""

    @property
    def max_num_batched_tokens(self) -> int:
        """Tokens of an iteration."""
        ...

    @property
    def max_num_seqs(self) -> int:
        """Requests in a batch."""
        ...

    @property
    def long_prefill_token_threshold(self) -> int:
        """Most tokens of one prompt in an iteration; 0 for no limit."""
        ...


class Prediction(NamedTuple):
    """By the profile."""

    gap_s: float
    """Mean gap between tokens; 0 where there was none."""
    prefill_sum_s: float
    """From the first iteration of each prompt to its first token, while few prompts wait for each other."""
    energy_j: float
    """All GPUs of the observed replicas."""
    prefilling: float
    """Part of the time that iterations prefill in: near 1 prompts wait for each other, longer than predicted."""


class _Iterations(NamedTuple):
    """Costs of two kinds, per GPU."""

    decode_s: float
    decode_j: float
    token_s: float
    """What one prompt token adds, mean over chunks."""
    token_j: float
    tokens: float
    """Of a chunk, mean."""
    prompt_s: float
    """All iterations of a prompt: this, and ``prompt_token_s`` for every token."""
    prompt_token_s: float


@dataclass(frozen=True)
class Predictor:
    """For one shape under one mix. Takes the replica's factors as they are; learning asks the profile's own."""

    replica: ReplicaProfile
    limits: ChunkLimits
    mix: LengthMix

    def predict(self, seen: Observation) -> Prediction:
        """What the profile says of this window. Raises InvalidInputError for a clock that the GPU does not have."""
        if not (seen.gaps > 0 and seen.gap_sum_s > 0):
            idle_w = mean(self._costs(clock_mhz).idle_w for clock_mhz in seen.clocks_mhz)
            return Prediction(0.0, 0.0, self.replica.tensor_parallel * seen.replica_s * idle_w, 0.0)
        clocks = Counter(seen.clocks_mhz)
        parts = [(self._at(seen, clock_mhz), count / clocks.total()) for clock_mhz, count in clocks.items()]
        return Prediction(
            # Of a second at each clock come as many gaps as fit into it.
            gap_s=1 / sum(share / part.gap_s for part, share in parts),
            prefill_sum_s=sum(share * part.prefill_sum_s for part, share in parts),
            energy_j=sum(share * part.energy_j for part, share in parts),
            prefilling=sum(share * part.prefilling for part, share in parts),
        )

    def _at(self, seen: Observation, clock_mhz: float) -> Prediction:
        """As if all had happened at one clock."""
        costs, busy = self._costs(clock_mhz), max(seen.busy_share, 1e-9)
        context = seen.decoding * self._mean_context if seen.context_tokens is None else seen.context_tokens
        each = self._iterations(costs, seen.decoding / busy, context / seen.decoding)
        # Prompts come while requests decode as often as at any time.
        gap_tokens = seen.prompt_tokens / seen.replica_s * (seen.gap_sum_s / seen.gaps)
        gap_s = each.decode_s + gap_tokens * each.token_s
        busy_tokens = gap_tokens / busy
        busy_w = (each.decode_j + busy_tokens * each.token_j) / (each.decode_s + busy_tokens * each.token_s)
        chunk_s = each.decode_s + each.tokens * each.token_s
        prefilling = min(1.0, gap_tokens / each.tokens * chunk_s / gap_s)
        # Of the prompts that meet another one's last chunk, half find too little room beside it: one iteration more.
        met_s = seen.prefills * prefilling / 2 * chunk_s
        return Prediction(
            gap_s=gap_s,
            prefill_sum_s=seen.prefills * each.prompt_s + seen.prompt_tokens * each.prompt_token_s + met_s,
            energy_j=self.replica.tensor_parallel * seen.replica_s * (busy * busy_w + (1 - busy) * costs.idle_w),
            prefilling=prefilling,
        )

    def _costs(self, mean_mhz: float) -> ClockedReplica:
        return self.replica.at_clock(self._clock_mhz(mean_mhz))

    def _clock_mhz(self, mean_mhz: float) -> float:
        """Means may lie a little outside of what the GPU has."""
        gpu = self.replica.gpu
        if not 0.5 * gpu.min_clock_mhz <= mean_mhz <= 1.5 * gpu.default_clock_mhz:
            raise InvalidInputError(
                f"observed clock {mean_mhz} MHz of {gpu.name}: must be between {gpu.min_clock_mhz} and "
                f"{gpu.default_clock_mhz}"
            )
        return float(np.clip(round(mean_mhz), gpu.min_clock_mhz, gpu.default_clock_mhz))

    def _iterations(self, costs: ClockedReplica, decoding: float, per_request: float) -> _Iterations:
        # While none decodes no gap passes.
        requests = min(max(1.0, decoding), self.limits.max_num_seqs, costs.requests[-1])
        batch = Batch(requests, requests * per_request, 0, 0.0)
        decode_s, decode_j = costs.step_s(batch), costs.energy_j(batch)
        sizes, pairs, counts = self._chunks(max(1, round(self.limits.max_num_batched_tokens - requests)))
        tokens = np.append(np.minimum(requests + sizes, costs.tokens[-1]), requests)
        tokens_s, tokens_j = (np.interp(tokens, costs.tokens, each) for each in (costs.tokens_s, costs.tokens_j))
        added_s = tokens_s[:-1] - tokens_s[-1] + costs.pair_s * pairs
        work_j = tokens_j[:-1] - tokens_j[-1] + costs.pair_j * pairs
        both_s = decode_s + added_s
        uncapped_j = decode_j + costs.active_w * added_s + work_j
        added_j = np.minimum(costs.tdp_w * both_s, uncapped_j) - decode_j
        chunks, prompt_tokens = counts.sum(), float(counts @ sizes)
        # A line through the prompts of the mix: how long they are decides most, and each window has others.
        by_prompt_s = (counts * both_s).reshape(2, -1).sum(axis=0)
        prompt_token_s, prompt_s = _line(self._prompts, by_prompt_s)
        return _Iterations(
            decode_s=decode_s,
            decode_j=decode_j,
            token_s=float(counts @ added_s) / prompt_tokens,
            token_j=float(counts @ added_j) / prompt_tokens,
            tokens=prompt_tokens / float(chunks),
            prompt_s=prompt_s,
            prompt_token_s=prompt_token_s,
        )

    def _chunks(self, room: int) -> tuple[Numbers, Numbers, Numbers]:
        """Chunks of all prompts when each has an iteration's room to itself: tokens, query-key pairs, how many."""
        limit = min(room, self.limits.long_prefill_token_threshold or room)
        full, rest = np.divmod(self._prompts, limit)
        # Pairs are quadratic: those of all full chunks of a prompt, and of its last one.
        full_pairs = (full * limit) * (full * limit + 1) / 2
        rest_pairs = self._prompts * (self._prompts + 1) / 2 - full_pairs
        has_rest = (rest > 0).astype(np.float64)
        sizes = np.concatenate([np.full(len(full), float(limit)), rest])
        pairs = np.concatenate([full_pairs / np.maximum(1, full), rest_pairs])
        return sizes, pairs, np.concatenate([full, has_rest])

    @cached_property
    def _prompts(self) -> Numbers:
        """Lengths that stand for the mix, each as often."""
        ordered = np.sort(self.mix.input_tokens)
        rows = np.linspace(0, len(ordered) - 1, min(len(ordered), _PROMPTS))
        return np.asarray(ordered[np.rint(rows).astype(np.int64)], np.float64)

    @cached_property
    def _mean_context(self) -> float:
        """Tokens of a request while it decodes, mean over its gaps."""
        gaps = np.maximum(0.0, self.mix.output_tokens - 1.0)
        if not gaps.any():
            return float(self.mix.input_tokens.mean()) + 1
        return float(gaps @ (self.mix.input_tokens + 1 + gaps / 2) / gaps.sum())


def _line(x: Numbers, y: Numbers) -> tuple[float, float]:
    """Slope and value at 0 of the straight line nearest to these points; level where all x are the same."""
    spread = x - x.mean()
    squares = float(spread @ spread)
    slope = float(spread @ y) / squares if squares > 0 else 0.0
    return slope, float(y.mean() - slope * x.mean())
