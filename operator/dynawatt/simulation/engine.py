"""One vLLM replica at iteration level: continuous batching with chunked prefill.

The same object drives the sandbox's vLLM pods in real time and every simulation
on virtual time; it knows no clock and is told when an iteration starts. Rules
of vLLM V1: decoding requests go first, the token budget that is left goes to
prefills in arrival order, a prompt may be split over iterations, and when the
KV cache is full the youngest running request is preempted and recomputed.

An iteration costs O(requests that join or leave), not O(batch): a decoding
request gets one token per round, so its last round is known when it joins.
"""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from dynawatt.perfmodel.catalog import ReplicaModels
from dynawatt.perfmodel.models import Batch


@dataclass(slots=True, eq=False)
class EngineRequest:
    """A request and how far it has come."""

    request_id: str
    arrival_s: float
    input_tokens: int
    output_tokens: int
    prefilled_tokens: int = 0
    generated_tokens: int = 0
    """Exact when the request is not decoding; while it decodes, as of the round in which it joined."""
    scheduled_s: float | None = None
    """Start of the first iteration that worked on it."""
    preemptions: int = 0
    preempted_s: float = 0.0
    """When it was last preempted while decoding, which is also when it got its last token before that."""
    _joined_round: int = 0
    _ticket: int = 0
    """Which entry among the engine's last rounds is valid; 0 when not decoding."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens to prefill: after a preemption also those generated so far."""
        return self.input_tokens + self.generated_tokens


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The engine flags that matter for batching."""

    max_num_batched_tokens: int
    max_num_seqs: int
    kv_capacity_tokens: int


@dataclass(frozen=True, slots=True)
class Iteration:
    """One step of the engine: known when it starts, applied when it ends."""

    batch: Batch
    duration_s: float
    power_w: float
    """Per GPU."""
    chunks: Sequence[tuple[EngineRequest, int]]
    """Prefilled requests with the number of tokens each."""
    decoding: Sequence[EngineRequest]

    @property
    def first_tokens(self) -> list[EngineRequest]:
        """Requests whose prefill ends with this iteration; it yields their first token (again, after a preemption)."""
        return [
            request for request, tokens in self.chunks if request.prefilled_tokens + tokens == request.prompt_tokens
        ]

    @property
    def emitting(self) -> list[EngineRequest]:
        """Requests that get exactly one token when the iteration ends; ask before it is applied."""
        return [*self.decoding, *self.first_tokens]


@dataclass(slots=True)
class ReplicaEngine:
    """Queues and batches of one replica."""

    settings: EngineSettings
    models: ReplicaModels
    waiting: deque[EngineRequest] = field(default_factory=deque)
    prefilling: list[EngineRequest] = field(default_factory=list)
    decoding: list[EngineRequest] = field(default_factory=list)
    preemptions_total: int = 0
    _round: int = 0
    _last_rounds: list[tuple[int, int, EngineRequest]] = field(default_factory=list)
    _ticket: int = 0
    _decode_context_tokens: int = 0
    _kv_tokens: int = 0

    @property
    def running_count(self) -> int:
        """Requests in the batch, partly prefilled ones included."""
        return len(self.prefilling) + len(self.decoding)

    @property
    def waiting_count(self) -> int:
        """Requests that have not been scheduled yet."""
        return len(self.waiting)

    @property
    def kv_usage(self) -> float:
        """Fraction of the KV cache in use."""
        return min(1.0, self._kv_tokens / self.settings.kv_capacity_tokens)

    def submit(self, request: EngineRequest) -> None:
        """Queue a request. Raises ValueError when it can never fit into the KV cache."""
        if request.input_tokens + request.output_tokens > self.settings.kv_capacity_tokens:
            raise ValueError(f"request {request.request_id} needs more tokens than the KV cache holds")
        self.waiting.append(request)

    def abort(self, request: EngineRequest) -> None:
        """Remove a request wherever it is; one that is not here is ignored."""
        if request in self.waiting:
            self.waiting.remove(request)
        elif request in self.prefilling:
            self.prefilling.remove(request)
            self._kv_tokens -= request.prompt_tokens
        elif request._ticket:
            self._leave(request)

    def start_iteration(self, now_s: float, clock_mhz: float) -> Iteration | None:
        """Schedule the next iteration; None when there is nothing to do."""
        self._make_room(now_s)
        chunks = self._schedule_prefills(now_s)
        if not chunks and not self.decoding:
            return None
        batch = Batch(
            decode_requests=len(self.decoding),
            decode_context_tokens=self._decode_context_tokens,
            prefill_tokens=sum(tokens for _, tokens in chunks),
            prefill_context_tokens=sum(request.prefilled_tokens for request, _ in chunks),
        )
        return Iteration(
            batch=batch,
            duration_s=self.models.step.step_s(batch, clock_mhz),
            power_w=self.models.power.power_w(batch, clock_mhz),
            chunks=chunks,
            decoding=self.decoding,
        )

    def finish_iteration(self, iteration: Iteration) -> Sequence[EngineRequest]:
        """Apply an iteration and return the requests that got their last token."""
        self._round += 1
        self._decode_context_tokens += len(self.decoding)
        self._kv_tokens += len(self.decoding)
        finished: list[EngineRequest] = []
        while self._last_rounds and self._last_rounds[0][0] <= self._round:
            _, ticket, request = heapq.heappop(self._last_rounds)
            if ticket == request._ticket:
                self._leave(request)
                finished.append(request)
        for request, tokens in iteration.chunks:
            if request not in self.prefilling:
                continue  # aborted while the iteration ran
            request.prefilled_tokens += tokens
            if request.prefilled_tokens == request.prompt_tokens:
                self.prefilling.remove(request)
                if self._join(request):
                    finished.append(request)
        return finished

    def _schedule_prefills(self, now_s: float) -> list[tuple[EngineRequest, int]]:
        budget = self.settings.max_num_batched_tokens - len(self.decoding)
        chunks: list[tuple[EngineRequest, int]] = []
        for request in self.prefilling:
            if budget <= 0:
                break
            tokens = min(budget, request.prompt_tokens - request.prefilled_tokens)
            chunks.append((request, tokens))
            budget -= tokens
        while budget > 0 and self.waiting and self.running_count < self.settings.max_num_seqs:
            request = self.waiting[0]
            if self._kv_tokens + request.prompt_tokens + len(self.decoding) > self.settings.kv_capacity_tokens:
                break
            self.waiting.popleft()
            self.prefilling.append(request)
            self._kv_tokens += request.prompt_tokens
            if request.scheduled_s is None:
                request.scheduled_s = now_s
            tokens = min(budget, request.prompt_tokens)
            chunks.append((request, tokens))
            budget -= tokens
        return chunks

    def _make_room(self, now_s: float) -> None:
        """Preempt the youngest requests until every decoding one can grow by a token; prefilling ones are youngest."""
        while self.running_count > 1 and self._kv_tokens + len(self.decoding) > self.settings.kv_capacity_tokens:
            if self.prefilling:
                request = self.prefilling.pop()
                self._kv_tokens -= request.prompt_tokens
            else:
                request = self.decoding[-1]
                self._leave(request)
                request.preempted_s = now_s
            request.prefilled_tokens = 0
            request.preemptions += 1
            self.preemptions_total += 1
            self.waiting.appendleft(request)

    def _join(self, request: EngineRequest) -> bool:
        """Take a prefilled request, which has just got a token, into the batch; True when that was its last."""
        request.generated_tokens += 1
        self._kv_tokens += 1
        if request.generated_tokens >= request.output_tokens:
            self._kv_tokens -= request.prompt_tokens
            return True
        request._joined_round = self._round
        self.decoding.append(request)
        self._decode_context_tokens += request.prompt_tokens
        self._ticket += 1
        request._ticket = self._ticket
        last_round = self._round + request.output_tokens - request.generated_tokens
        heapq.heappush(self._last_rounds, (last_round, self._ticket, request))
        return False

    def _leave(self, request: EngineRequest) -> None:
        self.decoding.remove(request)
        request._ticket = 0
        request.generated_tokens += self._round - request._joined_round
        self._decode_context_tokens -= request.prompt_tokens
        self._kv_tokens -= request.prompt_tokens
