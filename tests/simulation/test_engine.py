from collections import Counter
from dataclasses import astuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynawatt.simulation.engine import EngineRequest, EngineSettings, ReplicaEngine

from .conftest import hand_models
from .slow_engine import SlowEngine, SlowRequest

CLOCK_MHZ = 1980
LIMITS = st.builds(
    lambda budget, seqs, capacity: EngineSettings(budget, min(seqs, budget), capacity),
    st.integers(1, 40),
    st.integers(1, 8),
    st.integers(20, 120),
)
SUBMIT = st.tuples(st.just("submit"), st.integers(1, 60), st.integers(1, 60))
ABORT = st.tuples(st.just("abort"), st.integers(0, 30), st.just(0))
HALF_STEP = st.tuples(st.just("half-step"), st.just(0), st.just(0))
HISTORY = st.lists(st.one_of(SUBMIT, HALF_STEP, HALF_STEP, ABORT), max_size=80)


def engine(budget=64, seqs=8, capacity=1000):
    return ReplicaEngine(EngineSettings(budget, seqs, capacity), hand_models())


def request(name="r", input_tokens=10, output_tokens=3):
    return EngineRequest(name, 0.0, input_tokens, output_tokens)


class Pair:
    """The engine and the slow one through the same history."""

    def __init__(self, limits):
        self.limits = limits
        self.fast = ReplicaEngine(limits, hand_models())
        self.slow = SlowEngine(limits.max_num_batched_tokens, limits.max_num_seqs, limits.kv_capacity_tokens)
        self.requests = []
        self.aborted, self.finished = set(), set()
        self.emitted = Counter()
        self.iteration = None
        self.now_s = 0.0

    def submit(self, input_tokens, output_tokens):
        name = str(len(self.requests))
        fast = EngineRequest(name, self.now_s, input_tokens, output_tokens)
        if input_tokens + output_tokens > self.limits.kv_capacity_tokens:
            with pytest.raises(ValueError, match=f"request {name} needs more tokens"):
                self.fast.submit(fast)
            return
        slow = SlowRequest(name, input_tokens, output_tokens)
        self.requests.append((fast, slow))
        self.fast.submit(fast)
        self.slow.submit(slow)

    def abort(self, index):
        if not self.requests:
            return
        fast, slow = self.requests[index % len(self.requests)]
        self.fast.abort(fast)
        self.slow.abort(slow)
        if fast.request_id not in self.finished:
            self.aborted.add(fast.request_id)

    def half_step(self):
        if self.iteration is None:
            self._start()
        else:
            self._finish()
        self._compare()

    def _start(self):
        self.now_s += 1
        self.iteration = self.fast.start_iteration(self.now_s, CLOCK_MHZ)
        batch = self.slow.start()
        assert (astuple(self.iteration.batch) if self.iteration else None) == batch
        if self.iteration:
            done = self.iteration.batch.decode_requests + self.iteration.batch.prefill_tokens
            assert 0 < done <= self.limits.max_num_batched_tokens
            assert self.fast.running_count <= self.limits.max_num_seqs
        decoding = len(self.fast.decoding)
        assert self.fast._kv_tokens + decoding <= self.limits.kv_capacity_tokens

    def _finish(self):
        batch_size = self.fast.running_count
        emitting = [r.request_id for r in self.iteration.emitting if r.request_id not in self.aborted]
        finished = [r.request_id for r in self.fast.finish_iteration(self.iteration)]
        self.iteration = None
        assert (sorted(emitting), sorted(finished)) == tuple(map(sorted, self.slow.finish()))
        self.emitted.update(emitting)
        self.finished.update(finished)
        assert self.fast._kv_tokens <= self.limits.kv_capacity_tokens + batch_size

    def _compare(self):
        fast, slow = self.fast, self.slow
        assert fast._decode_context_tokens == slow.decode_context_tokens
        assert fast._kv_tokens == slow.kv_tokens
        assert [r.request_id for r in fast.waiting] == [r.name for r in slow.waiting]
        assert [r.request_id for r in [*fast.decoding, *fast.prefilling]] == [r.name for r in slow.running]
        assert (fast.running_count, fast.waiting_count) == (len(slow.running), len(slow.waiting))
        assert fast.preemptions_total == slow.preemptions

    def drain(self):
        for _ in range(100_000):
            self.half_step()
            if self.iteration is None and not self.fast.running_count and not self.fast.waiting_count:
                return
        pytest.fail("requests are left over")


@settings(max_examples=250, deadline=None)
@given(limits=LIMITS, history=HISTORY)
def test_any_history_goes_by_the_rules_and_loses_no_token(limits, history):
    pair = Pair(limits)
    for action, first, second in history:
        match action:
            case "submit":
                pair.submit(first, second)
            case "abort":
                pair.abort(first)
            case _:
                pair.half_step()
    pair.drain()
    assert pair.fast._kv_tokens == pair.fast._decode_context_tokens == 0
    assert pair.fast.kv_usage == 0
    for fast, _ in pair.requests:
        name = fast.request_id
        assert (name in pair.finished) != (name in pair.aborted)
        if name in pair.finished:
            assert pair.emitted[name] == fast.output_tokens == fast.generated_tokens
    starts_s = [fast.scheduled_s for fast, _ in pair.requests if fast.scheduled_s is not None]
    assert starts_s == sorted(starts_s)
    assert sum(fast.preemptions for fast, _ in pair.requests) == pair.fast.preemptions_total


def run(running, *, limit=1000):
    """All iterations up to the end, with the names that got a token in each."""
    tokens = []
    for now_s in range(limit):
        iteration = running.start_iteration(float(now_s), CLOCK_MHZ)
        if iteration is None:
            return tokens
        tokens.append([r.request_id for r in iteration.emitting])
        running.finish_iteration(iteration)
    raise AssertionError("the engine never runs dry")


def test_an_idle_engine_has_nothing_to_do():
    assert engine().start_iteration(0.0, CLOCK_MHZ) is None


def test_a_long_prompt_is_split_and_decoding_goes_on_beside_it():
    running = engine(budget=16)
    running.submit(request("short", 6, 5))
    running.submit(request("long", 30, 2))
    # 6 + 10, then 1 + 15, then 1 + 5 tokens of budget
    assert run(running) == [["short"], ["short"], ["short", "long"], ["short", "long"], ["short"]]


def test_a_full_batch_makes_others_wait():
    running = engine(seqs=2)
    for name in "abc":
        running.submit(request(name, 4, 2))
    assert run(running) == [["a", "b"], ["a", "b"], ["c"], ["c"]]


def test_a_preempted_request_is_recomputed_and_finishes():
    running = engine(capacity=40)
    older, younger = request("older", 15, 20), request("younger", 15, 20)
    running.submit(older)
    running.submit(younger)
    tokens = run(running)
    assert Counter(name for names in tokens for name in names) == {"older": 20, "younger": 20}
    assert (older.preemptions, younger.preemptions, running.preemptions_total) == (0, 1, 1)
    # 30 prompt tokens, then 2 a round: the sixth round would need a 41st token.
    assert younger.preempted_s == 5.0
    assert younger.scheduled_s == 0.0
    assert tokens[5:20] == [["older"]] * 15
    assert tokens[20:] == [["younger"]] * 15


def test_a_half_prefilled_prompt_makes_room_before_older_requests_lose_their_tokens():
    running = engine(budget=2, capacity=60)
    running.submit(request("older", 2, 40))
    running.submit(request("younger", 50, 2))
    usage = []
    for now_s in range(200):
        iteration = running.start_iteration(float(now_s), CLOCK_MHZ)
        if iteration is None:
            break
        running.finish_iteration(iteration)
        usage.append(running._kv_tokens)
    assert running.preemptions_total == 1
    assert max(usage) <= 60


def test_a_prompt_that_makes_room_keeps_its_first_start_and_its_last_token():
    running = engine(budget=2, capacity=60)
    younger = request("younger", 50, 2)
    running.submit(request("older", 2, 40))
    running.submit(younger)
    tokens = run(running)
    assert younger.preemptions == 1
    assert younger.preempted_s == 0.0
    assert younger.scheduled_s == 1.0
    assert Counter(name for names in tokens for name in names) == {"older": 40, "younger": 2}


@pytest.mark.parametrize(("input_tokens", "fits"), [(97, True), (98, False)])
def test_what_can_never_fit_is_refused(input_tokens, fits):
    running = engine(capacity=100)
    if fits:
        running.submit(request("r", input_tokens, 3))
        assert len(run(running)) == 4  # 64 + 33 prompt tokens, then two more
    else:
        with pytest.raises(ValueError, match="request r needs more tokens than the KV cache holds"):
            running.submit(request("r", input_tokens, 3))


def test_aborting_a_stranger_changes_nothing():
    running = engine()
    running.submit(request("here"))
    running.abort(request("elsewhere"))
    assert run(running) == [["here"]] * 3


def test_iteration_carries_the_models_answers():
    running = engine()
    running.submit(request("r", 8, 2))
    prefill = running.start_iteration(0.0, 500)
    assert (prefill.duration_s, prefill.power_w) == (4.0, 400.0)
    running.finish_iteration(prefill)
    decode = running.start_iteration(4.0, 1000)
    assert (decode.duration_s, decode.power_w) == (1.125, 200.0)


def test_kv_usage_is_a_fraction_of_the_cache():
    running = engine(capacity=40)
    running.submit(request("r", 19, 5))
    running.finish_iteration(running.start_iteration(0.0, CLOCK_MHZ))
    assert running.kv_usage == 0.5
