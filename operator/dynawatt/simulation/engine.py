"""One vLLM replica at iteration level, as plainly as its rules can be written.

The rules stand in ``settings``; here each of them is a few lines that look at
every request of the batch anew. This engine drives the sandbox's vLLM pods in
real time, and is what the compiled core of the fleet simulator is checked
against. It knows no clock: it is told when an iteration starts, and says how long it takes.
"""

import math
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dynawatt.perfmodel.models import Batch, PowerModel, StepModel, chunk_pairs
from dynawatt.simulation.settings import EngineSettings, QueueOrder


class ReplicaModels(StepModel, PowerModel, Protocol):
    """Seconds and watts of a replica of one shape."""


@dataclass(slots=True, eq=False)
class EngineRequest:
    """A request and how far it has come."""

    request_id: str
    arrival_s: float
    input_tokens: int
    output_tokens: int
    deadline_s: float = math.inf
    """When its first token is due, on the same clock as its arrival; for the queue orders that go by it."""
    generated_tokens: int = 0
    prompt_tokens: int = 0
    """Tokens to prefill, set at admission: after a preemption also those generated before."""
    kv_tokens: int = 0
    """Tokens in the KV cache, by work or by a prefix-cache hit."""
    kv_blocks: int = 0
    """KV blocks held: 0 exactly when it does not run."""
    scheduled_s: float | None = None
    """Start of the first iteration that worked on it."""
    preemptions: int = 0
    preempted_s: float = 0.0
    """When it was last preempted while decoding, which is also when it got its last token before that."""
    submitted: int = 0
    """Its place in the order of submission."""

    @property
    def decodes(self) -> bool:
        """Whether it runs and its prompt is done."""
        return self.kv_blocks > 0 and self.kv_tokens >= self.prompt_tokens


@dataclass(frozen=True, slots=True)
class Iteration:
    """One step of the engine: known when it starts, applied when it ends."""

    batch: Batch
    duration_s: float
    power_w: float
    """Mean per GPU."""
    decoding: Sequence[EngineRequest]
    chunks: Sequence[tuple[EngineRequest, int]]
    """Prefilled requests with the number of tokens each."""
    first_tokens: Sequence[EngineRequest]
    """Requests whose prefill is complete with this iteration; it yields their first token, or after a preemption the
    next."""

    @property
    def emitting(self) -> list[EngineRequest]:
        """Requests that get exactly one token when the iteration ends, unless they are aborted before."""
        return [*self.decoding, *self.first_tokens]


@dataclass(slots=True)
class ReplicaEngine:
    """Queue and batch of one replica."""

    settings: EngineSettings
    models: ReplicaModels
    waiting: list[EngineRequest] = field(default_factory=list)
    """In order of rank."""
    running: list[EngineRequest] = field(default_factory=list)
    """In order of admission."""
    preemptions_total: int = 0
    _submissions: int = 0

    @property
    def running_count(self) -> int:
        """Requests in the batch, partly prefilled ones included."""
        return len(self.running)

    @property
    def waiting_count(self) -> int:
        """Requests that have not been admitted, or were preempted."""
        return len(self.waiting)

    @property
    def free_blocks(self) -> int:
        """KV blocks that no request holds."""
        return self.settings.kv_blocks - sum(request.kv_blocks for request in self.running)

    @property
    def kv_usage(self) -> float:
        """Fraction of the KV blocks that requests hold."""
        return 1 - self.free_blocks / self.settings.kv_blocks

    def submit(self, request: EngineRequest) -> None:
        """Queue a request. Raises ValueError when it can never fit into the KV cache."""
        if self._blocks(request.input_tokens + request.output_tokens) > self.settings.kv_blocks:
            raise ValueError(f"request {request.request_id} needs more tokens than the KV cache holds")
        self._submissions += 1
        request.submitted = self._submissions
        insort(self.waiting, request, key=self._rank)

    def abort(self, request: EngineRequest) -> None:
        """Remove a request wherever it is; one that is not here is ignored."""
        if request in self.waiting:
            self.waiting.remove(request)
        elif request in self.running:
            self._release(request)

    def start_iteration(self, now_s: float, clock_mhz: float) -> Iteration | None:
        """Schedule the next iteration; None when no request is here."""
        preempted = self._grow(now_s)
        decoding = [request for request in self.running if request.decodes]
        room = self.settings.max_num_batched_tokens - len(decoding)
        chunks = self._schedule_prefills(room, now_s, may_admit=not preempted)
        if not decoding and not chunks:
            return None
        batch = Batch(
            decode_requests=len(decoding),
            decode_context_tokens=sum(request.input_tokens + request.generated_tokens for request in decoding),
            prefill_tokens=sum(tokens for _, tokens in chunks),
            prefill_pairs=sum(chunk_pairs(tokens, request.kv_tokens) for request, tokens in chunks),
        )
        return Iteration(
            batch=batch,
            duration_s=self.models.step_s(batch, clock_mhz),
            power_w=self.models.power_w(batch, clock_mhz),
            decoding=decoding,
            chunks=chunks,
            first_tokens=[r for r, tokens in chunks if r.kv_tokens + tokens == r.prompt_tokens],
        )

    def finish_iteration(self, iteration: Iteration) -> list[EngineRequest]:
        """Apply an iteration and return the requests that got their last token."""
        for request, tokens in [*((request, 1) for request in iteration.decoding), *iteration.chunks]:
            request.kv_tokens += tokens
        finished = []
        for request in iteration.emitting:
            if not request.kv_blocks:
                continue  # aborted while the iteration ran
            request.generated_tokens += 1
            if request.generated_tokens >= request.output_tokens:
                self._release(request)
                finished.append(request)
        return finished

    def _grow(self, now_s: float) -> bool:
        """Give decoding requests the blocks they are about to write to; True when one was preempted for that."""
        preempted = False
        while len(growing := self._growing()) > self.free_blocks:
            # Never the last one: alone it may have all blocks, and submit() refused what those cannot hold.
            self._preempt(now_s)
            preempted = True
        for request in growing:
            request.kv_blocks += 1
        return preempted

    def _growing(self) -> list[EngineRequest]:
        block_tokens = self.settings.block_tokens
        return [r for r in self.running if r.decodes and r.kv_tokens == r.kv_blocks * block_tokens]

    def _preempt(self, now_s: float) -> None:
        request = max(self.running, key=self._rank)
        if request.decodes:
            request.preempted_s = now_s
        self._release(request)
        request.preemptions += 1
        self.preemptions_total += 1
        insort(self.waiting, request, key=self._rank)

    def _schedule_prefills(self, room: int, now_s: float, *, may_admit: bool) -> list[tuple[EngineRequest, int]]:
        """Share out the room for tokens that decoding leaves, and admit waiting requests as they get some."""
        candidates = [request for request in self.running if not request.decodes] + self.waiting
        if self.settings.queue_order is QueueOrder.DEADLINE:
            candidates.sort(key=self._rank)
        chunks: list[tuple[EngineRequest, int]] = []
        for request in candidates:
            if room <= 0:
                break
            if not request.kv_blocks:  # it waits
                may_admit = may_admit and self._fits(request)
                if not may_admit:
                    continue
                self._admit(request, now_s)
            tokens = min(request.prompt_tokens - request.kv_tokens, room)
            if self.settings.long_prefill_token_threshold:
                tokens = min(tokens, self.settings.long_prefill_token_threshold)
            chunks.append((request, tokens))
            room -= tokens
        return chunks

    def _fits(self, request: EngineRequest) -> bool:
        blocks = self._blocks(request.input_tokens + request.generated_tokens)
        return len(self.running) < self.settings.max_num_seqs and blocks <= self.free_blocks

    def _admit(self, request: EngineRequest, now_s: float) -> None:
        self.waiting.remove(request)
        self.running.append(request)
        request.prompt_tokens = request.input_tokens + request.generated_tokens
        request.kv_tokens = self.settings.cached_tokens(request.prompt_tokens)
        request.kv_blocks = self._blocks(request.prompt_tokens)
        if request.scheduled_s is None:
            request.scheduled_s = now_s

    def _release(self, request: EngineRequest) -> None:
        self.running.remove(request)
        request.kv_blocks = request.kv_tokens = 0

    def _rank(self, request: EngineRequest) -> tuple[float, float, int]:
        if self.settings.queue_order is QueueOrder.FCFS:
            return 0.0, 0.0, request.submitted
        return request.deadline_s, request.arrival_s, request.submitted

    def _blocks(self, tokens: int) -> int:
        return math.ceil(tokens / self.settings.block_tokens)
