"""What must hold after every half-step of any history, whatever the settings."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from dynawatt.simulation.engine import EngineRequest, ReplicaEngine
from dynawatt.simulation.settings import EngineSettings, QueueOrder

from .conftest import HandModels

SETTINGS = st.builds(
    lambda budget, seqs, blocks, block_tokens, threshold, order, hits: EngineSettings(
        budget, min(seqs, budget), blocks * block_tokens + block_tokens - 1, threshold, order, hits, block_tokens
    ),
    st.integers(1, 40),
    st.integers(1, 8),
    st.integers(5, 60),
    st.sampled_from([1, 4]),
    st.sampled_from([0, 3, 10]),
    st.sampled_from(QueueOrder),
    st.sampled_from([0.0, 0.3, 1.0]),
)
SUBMIT = st.tuples(st.just("submit"), st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(0, 5)))
ABORT = st.tuples(st.just("abort"), st.integers(0, 30))
HALF_STEP = st.tuples(st.just("half-step"), st.none())
HISTORY = st.lists(st.one_of(SUBMIT, SUBMIT, HALF_STEP, HALF_STEP, HALF_STEP, ABORT), max_size=80)


class Run:
    """An engine through a history, looked at from outside after each half-step."""

    def __init__(self, flags):
        self.flags = flags
        self.engine = ReplicaEngine(flags, HandModels())
        self.requests = []
        self.ended = set()
        self.emitted, self.prefilled, self.decoded, self.cached = Counter(), Counter(), Counter(), Counter()
        self.iteration = None
        self.now_s = 0.0

    def submit(self, input_tokens, output_tokens, patience_s):
        request = EngineRequest("r", self.now_s, input_tokens, output_tokens, self.now_s + patience_s)
        blocks = -(-(input_tokens + output_tokens) // self.flags.block_tokens)
        try:
            self.engine.submit(request)
        except ValueError:
            assert blocks > self.flags.kv_blocks
        else:
            assert blocks <= self.flags.kv_blocks
            self.requests.append(request)

    def abort(self, index):
        if self.requests:
            request = self.requests[index % len(self.requests)]
            self.engine.abort(request)
            self.ended.add(request)

    def half_step(self):
        if self.iteration is None:
            self._start()
        else:
            self._finish()
        self._check_state()

    def rank(self, request):
        place = self.requests.index(request)
        if self.flags.queue_order is QueueOrder.FCFS:
            return (place,)
        return (request.deadline_s, request.arrival_s, place)

    def _start(self):
        engine, flags = self.engine, self.flags
        self.now_s += 1
        queue, batch, preemptions = list(engine.waiting), list(engine.running), engine.preemptions_total
        self.iteration = engine.start_iteration(self.now_s, 1000)
        if self.iteration is None:
            assert not queue
            assert not batch
            return
        preempted = [request for request in batch if request in engine.waiting]
        admitted = [request for request in engine.running if request not in batch]
        self._check_order(queue, preempted, admitted)
        assert engine.preemptions_total - preemptions == len(preempted)
        tokens = dict(self.iteration.chunks)
        assert all(0 < each <= (flags.long_prefill_token_threshold or each) for each in tokens.values())
        work = len(self.iteration.decoding) + sum(tokens.values())
        assert 0 < work <= flags.max_num_batched_tokens
        if work < flags.max_num_batched_tokens:
            self._check_nothing_could_be_added(tokens, preempted)
        self.prefilled.update(tokens)
        self.decoded.update(self.iteration.decoding)
        for request in admitted:
            self.cached[request] = request.kv_tokens  # work of this iteration is not in it yet

    def _check_order(self, queue, preempted, admitted):
        assert not (preempted and admitted)
        assert admitted == queue[: len(admitted)]
        if preempted:
            assert min(map(self.rank, preempted)) > max(map(self.rank, self.engine.running))

    def _check_nothing_could_be_added(self, tokens, preempted):
        """Room is left over only when every prefill has all it may have and the next in the queue cannot run."""
        threshold = self.flags.long_prefill_token_threshold
        for request in self.engine.running:
            if not request.decodes:
                left = request.prompt_tokens - request.kv_tokens
                assert tokens[request] == min(left, threshold or left)
        if self.engine.waiting and not preempted:
            head = self.engine.waiting[0]
            full = len(self.engine.running) == self.flags.max_num_seqs
            blocks = -(-(head.input_tokens + head.generated_tokens) // self.flags.block_tokens)
            assert full or blocks > self.engine.free_blocks

    def _finish(self):
        emitting = [request for request in self.iteration.emitting if request not in self.ended]
        finished = self.engine.finish_iteration(self.iteration)
        self.iteration = None
        assert not self.ended.intersection(finished)
        self.emitted.update(emitting)
        self.ended.update(finished)
        assert all(self.emitted[request] == request.output_tokens for request in finished)

    def _check_state(self):
        engine, flags = self.engine, self.flags
        here = Counter([*engine.waiting, *engine.running])
        assert here == Counter(request for request in self.requests if request not in self.ended)
        assert engine.waiting == sorted(engine.waiting, key=self.rank)
        assert len(engine.running) <= flags.max_num_seqs
        held = sum(request.kv_blocks for request in engine.running)
        assert held <= flags.kv_blocks
        assert engine.kv_usage == 1 - (flags.kv_blocks - held) / flags.kv_blocks
        assert not any(request.kv_blocks or request.kv_tokens for request in engine.waiting)
        for request in engine.running:
            writing = self.iteration is not None and request in self.iteration.decoding
            tokens = max(request.prompt_tokens, request.kv_tokens + writing)
            assert request.kv_blocks == -(-tokens // flags.block_tokens)
            if request.decodes:
                assert request.kv_tokens == request.input_tokens + request.generated_tokens - 1

    def drain(self):
        for _ in range(100_000):
            if self.iteration is None and not self.engine.running_count + self.engine.waiting_count:
                return
            self.half_step()
        raise AssertionError("requests are left over")


@settings(max_examples=300, deadline=None)
@given(flags=SETTINGS, history=HISTORY)
def test_any_history_goes_by_the_rules_and_loses_no_token(flags, history):
    run = Run(flags)
    aborted = 0
    for action, argument in history:
        match action:
            case "submit":
                run.submit(*argument)
            case "abort":
                aborted += 1
                run.abort(argument)
            case _:
                run.half_step()
    run.drain()
    assert run.engine.kv_usage == 0
    assert run.engine.preemptions_total == sum(request.preemptions for request in run.requests)
    for request in run.requests:
        if request.generated_tokens == request.output_tokens:
            assert run.emitted[request] == request.output_tokens
            if not request.preemptions:
                worked = run.prefilled[request], run.decoded[request]
                assert worked == (request.input_tokens - run.cached[request], request.output_tokens - 1)
        else:
            assert aborted
    if flags.queue_order is QueueOrder.FCFS:
        starts_s = [request.scheduled_s for request in run.requests if request.scheduled_s is not None]
        assert starts_s == sorted(starts_s)
