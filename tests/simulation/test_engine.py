"""The rules of simulation.settings one by one, in numbers that can be followed on paper."""

from itertools import pairwise

import pytest

from dynawatt.perfmodel.models import Batch
from dynawatt.simulation.engine import EngineRequest, ReplicaEngine
from dynawatt.simulation.settings import EngineSettings, QueueOrder

from .conftest import HandModels

BY_DEADLINE = [QueueOrder.PRIORITY, QueueOrder.DEADLINE]


def engine(budget=64, seqs=8, kv=1000, block=1, **flags):
    return ReplicaEngine(EngineSettings(budget, seqs, kv, block_tokens=block, **flags), HandModels())


def submit(running, name, input_tokens, output_tokens=1, **fields):
    request = EngineRequest(name, fields.pop("arrival_s", 0.0), input_tokens, output_tokens, **fields)
    running.submit(request)
    return request


def step(running, now_s=0.0):
    """One iteration: the requests that decode in it, and the prompt tokens of those that prefill."""
    iteration = running.start_iteration(now_s, 1000)
    running.finish_iteration(iteration)
    return [r.request_id for r in iteration.decoding], {r.request_id: tokens for r, tokens in iteration.chunks}


def steps(running, limit=1000):
    """Iterations up to the end, each a second after the other."""
    found = []
    while running.running_count or running.waiting_count:
        found.append(step(running, float(len(found))))
        assert len(found) < limit
    return found


def names(requests):
    return [request.request_id for request in requests]


def test_an_idle_engine_has_nothing_to_do():
    assert engine().start_iteration(0.0, 1000) is None


def test_an_iteration_carries_its_batch_and_the_models_answers():
    running = engine(budget=16)
    submit(running, "short", 6, 2)
    step(running)
    submit(running, "long", 30)
    iteration = running.start_iteration(1.0, 500)
    assert iteration.batch == Batch(1, 7, 15, 15 * 16 / 2)
    assert (iteration.duration_s, iteration.power_w) == (6.0, 400.0)
    running.finish_iteration(iteration)
    iteration = running.start_iteration(7.0, 500)
    # The second chunk's tokens attend to the 15 of the first, and to themselves.
    assert iteration.batch == Batch(0, 0, 15, 15 * 15 + 15 * 16 / 2)


def test_rule_1_decoding_comes_first_and_prefills_get_the_rest():
    running = engine(budget=16)
    submit(running, "short", 6, 5)
    submit(running, "long", 30, 2)
    assert steps(running) == [
        ([], {"short": 6, "long": 10}),
        (["short"], {"long": 15}),
        (["short"], {"long": 5}),
        (["short", "long"], {}),
        (["short"], {}),
    ]


@pytest.mark.parametrize(
    ("input_tokens", "blocks"),
    [
        (4, [1, 2, 2, 2, 2, 3]),  # the prompt fills its block, so the first token already needs another
        (3, [1, 1, 2, 2, 2, 2]),
    ],
)
def test_rule_2_a_decoding_request_takes_blocks_as_it_fills_them(input_tokens, blocks):
    running = engine(block=4, kv=40)
    request = submit(running, "r", input_tokens, 6)
    found = []
    for _ in blocks:
        iteration = running.start_iteration(0.0, 1000)
        found.append(request.kv_blocks)
        assert running.kv_usage == pytest.approx(request.kv_blocks / 10)
        running.finish_iteration(iteration)
    assert found == blocks
    assert (running.kv_usage, running.running_count) == (0, 0)


def test_rule_2_the_youngest_makes_room_and_is_recomputed():
    running = engine(kv=40)
    older, younger = submit(running, "older", 15, 20), submit(running, "younger", 15, 20)
    found = steps(running)
    # Both hold 15 tokens after the first step and 20 after the sixth; the seventh would need 42 blocks.
    assert found[:6] == [([], {"older": 15, "younger": 15})] + [(["older", "younger"], {})] * 5
    assert found[6:20] == [(["older"], {})] * 14
    assert found[20:] == [([], {"younger": 21})] + [(["younger"], {})] * 13
    assert (older.preemptions, younger.preemptions, running.preemptions_total) == (0, 1, 1)
    assert (younger.preempted_s, younger.scheduled_s) == (6.0, 0.0)


def test_rule_2_a_half_done_prompt_is_young_too():
    running = engine(budget=2, kv=60)
    submit(running, "older", 2, 40)
    step(running)
    younger = submit(running, "younger", 50, 2)
    for _ in range(8):
        assert step(running) == (["older"], {"younger": 1})
    assert running.free_blocks == 0
    assert step(running, 9.0) == (["older"], {})
    assert (younger.kv_tokens, younger.kv_blocks, names(running.waiting)) == (0, 0, ["younger"])
    assert (younger.preemptions, younger.preempted_s) == (1, 0.0)  # it has had no token to wait after


def test_rule_2_of_several_preempted_the_oldest_is_first_in_the_queue():
    running = engine(kv=19)
    for name in "abc":
        submit(running, name, 1, 16)
    submit(running, "d", 1, 1)
    found = steps(running)
    order = [name for _, chunks in found for name in chunks]
    assert order[:4] == ["a", "b", "c", "d"]
    # 3 x 6 blocks fit, 3 x 7 do not: "c" goes; 2 x 9 fit, 2 x 10 do not: "b" goes, ahead of "c".
    assert order[4:6] == ["b", "c"]


@pytest.mark.parametrize("queue_order", BY_DEADLINE)
def test_rule_2_the_latest_deadline_makes_room_however_old(queue_order):
    running = engine(kv=21, queue_order=queue_order)
    late = submit(running, "late", 10, 5, deadline_s=9.0)
    submit(running, "soon", 10, 5, deadline_s=5.0)
    step(running)
    assert step(running) == (["soon"], {})
    assert (names(running.waiting), late.preemptions) == (["late"], 1)


def test_rule_2_a_request_alone_may_fill_the_cache():
    running = engine(kv=40, block=4)
    submit(running, "r", 10, 30)
    assert len(steps(running)) == 30
    assert running.preemptions_total == 0


def test_rule_3_the_threshold_splits_long_prompts_and_lets_short_ones_pass():
    running = engine(long_prefill_token_threshold=4)
    submit(running, "long", 10)
    submit(running, "short", 3)
    assert steps(running) == [([], {"long": 4, "short": 3}), ([], {"long": 4}), ([], {"long": 2})]


@pytest.mark.parametrize(
    ("queue_order", "expected"),
    [
        (QueueOrder.FCFS, [{"long": 8}, {"long": 4, "middle": 4}, {"middle": 1, "urgent": 6}]),
        (QueueOrder.PRIORITY, [{"long": 8}, {"long": 4, "urgent": 4}, {"urgent": 2, "middle": 5}]),
        (QueueOrder.DEADLINE, [{"urgent": 6, "middle": 2}, {"middle": 3, "long": 5}, {"long": 7}]),
    ],
)
def test_rule_3_only_deadline_sets_a_long_prefill_aside(queue_order, expected):
    running = engine(budget=8, queue_order=queue_order)
    submit(running, "long", 20, deadline_s=9.0)
    assert step(running) == ([], {"long": 8})
    submit(running, "middle", 5, deadline_s=5.0)
    submit(running, "urgent", 6, deadline_s=2.0)
    assert steps(running) == [([], chunks) for chunks in expected]


def test_rule_4_no_more_than_max_num_seqs_run():
    running = engine(seqs=2)
    for name in "abc":
        submit(running, name, 4, 2)
    assert steps(running) == [([], {"a": 4, "b": 4}), (["a", "b"], {}), ([], {"c": 4}), (["c"], {})]


def test_rule_4_a_prompt_needs_all_its_blocks_and_holds_up_smaller_ones_behind_it():
    running = engine(block=4, kv=24)
    submit(running, "a", 8, 5)
    step(running)
    submit(running, "b", 13)
    submit(running, "c", 1)
    # "a" grows into a third block first, so three of six are free: too few for "b", and "c" waits behind it.
    assert steps(running) == [(["a"], {})] * 4 + [([], {"b": 13, "c": 1})]


def test_rule_4_nothing_is_admitted_while_something_is_preempted():
    running = engine(kv=20, queue_order=QueueOrder.PRIORITY)
    submit(running, "soon", 9, 3, deadline_s=1.0)
    submit(running, "late", 10, 3, deadline_s=9.0)
    step(running)
    submit(running, "between", 1, deadline_s=5.0)
    assert step(running) == (["soon"], {})  # ten blocks are free, as "late" has just lost them
    assert step(running) == (["soon"], {"between": 1})


def test_rule_4_who_cannot_be_admitted_does_not_stop_half_done_prompts():
    running = engine(budget=8, seqs=1, queue_order=QueueOrder.DEADLINE)
    submit(running, "long", 20, deadline_s=9.0)
    step(running)
    submit(running, "urgent", 6, deadline_s=2.0)
    assert steps(running) == [([], {"long": 8}), ([], {"long": 4}), ([], {"urgent": 6})]


def test_rule_4_without_room_nothing_is_admitted():
    running = engine(budget=2, seqs=2)
    submit(running, "a", 2, 9)
    step(running)
    submit(running, "b", 9)
    assert step(running) == (["a"], {"b": 1})
    submit(running, "c", 1)
    assert step(running) == (["a"], {"b": 1})
    assert names(running.waiting) == ["c"]


@pytest.mark.parametrize(
    ("prompt", "ratio", "worked"),
    [
        (22, 0.5, 14),  # 11 tokens are two whole blocks
        (22, 0.1, 22),  # 2.2 tokens are none
        (22, 1.0, 2),
        (20, 1.0, 4),  # the last block is worked on, as a token must be
        (1, 1.0, 1),
    ],
)
def test_rule_5_the_prefix_cache_spares_whole_blocks_of_work_but_no_memory(prompt, ratio, worked):
    running = engine(block=4, kv=100, prefix_hit_ratio=ratio)
    request = submit(running, "r", prompt, 2)
    iteration = running.start_iteration(0.0, 1000)
    assert iteration.batch == Batch(0, 0, worked, worked * (prompt - worked + (worked + 1) / 2))
    assert request.kv_blocks == -(-prompt // 4)
    running.finish_iteration(iteration)
    assert running.start_iteration(1.0, 1000).batch == Batch(1, prompt + 1, 0, 0)


def test_rule_5_holds_for_what_is_recomputed_too():
    running = engine(block=4, kv=32, prefix_hit_ratio=0.5)
    submit(running, "older", 12, 9)
    submit(running, "younger", 12, 9)
    found = steps(running)
    # Four blocks each hold 16 tokens: the first token and four more. "younger" then has 17 to prefill, 8 of them known.
    assert found[:5] == [([], {"older": 8, "younger": 8})] + [(["older", "younger"], {})] * 4
    assert found[5:9] == [(["older"], {})] * 4
    assert found[9] == ([], {"younger": 9})


def test_rule_6_the_end_of_the_prefill_is_the_first_token():
    running = engine(budget=8)
    one, two = submit(running, "one", 4, 1), submit(running, "two", 8, 2)
    iteration = running.start_iteration(0.0, 1000)
    assert (names(iteration.first_tokens), names(iteration.emitting)) == (["one"], ["one"])
    assert running.finish_iteration(iteration) == [one]
    assert (one.generated_tokens, one.kv_blocks, two.generated_tokens, two.kv_tokens) == (1, 0, 0, 4)
    iteration = running.start_iteration(1.0, 1000)
    assert (names(iteration.first_tokens), running.finish_iteration(iteration)) == (["two"], [])
    iteration = running.start_iteration(2.0, 1000)
    assert (names(iteration.first_tokens), names(iteration.emitting)) == ([], ["two"])
    assert running.finish_iteration(iteration) == [two]


@pytest.mark.parametrize("queue_order", BY_DEADLINE)
def test_rule_7_deadline_then_arrival_then_submission(queue_order):
    running = engine(seqs=1, queue_order=queue_order)
    for name, arrival_s, deadline_s in [("d", 2, 8), ("b", 1, 8), ("c", 1, 8), ("a", 3, 7)]:
        submit(running, name, 4, arrival_s=arrival_s, deadline_s=deadline_s)
    assert [list(chunks) for _, chunks in steps(running)] == [["a"], ["b"], ["c"], ["d"]]


@pytest.mark.parametrize("queue_order", BY_DEADLINE)
def test_rule_7_without_deadlines_all_orders_are_fcfs(queue_order):
    running, fcfs = engine(kv=60, queue_order=queue_order), engine(kv=60)
    for index, tokens in enumerate([12, 30, 7, 21, 3]):
        for each in (running, fcfs):
            submit(each, str(index), tokens, 20, arrival_s=float(index))
    assert steps(running) == steps(fcfs)
    assert running.preemptions_total == fcfs.preemptions_total > 0


@pytest.mark.parametrize("queue_order", BY_DEADLINE)
def test_rule_7_a_preempted_request_queues_by_its_deadline(queue_order):
    running = engine(kv=21, queue_order=queue_order)
    submit(running, "soon", 10, 5, deadline_s=5.0)
    submit(running, "late", 10, 5, deadline_s=9.0)
    step(running)
    submit(running, "between", 10, 5, deadline_s=7.0)
    step(running)
    assert names(running.waiting) == ["between", "late"]


@pytest.mark.parametrize(("input_tokens", "fits"), [(97, True), (98, False)])
def test_rule_8_what_can_never_fit_is_refused(input_tokens, fits):
    running = engine(kv=103, block=4)  # 25 whole blocks
    if fits:
        submit(running, "r", input_tokens, 3)
        assert len(steps(running)) == 4  # 64 + 33 prompt tokens, then two more
    else:
        with pytest.raises(ValueError, match="request r needs more tokens than the KV cache holds"):
            submit(running, "r", input_tokens, 3)


def test_aborting_frees_what_a_request_holds_wherever_it_is():
    running = engine(budget=8, seqs=2, kv=40)
    decoding, prefilling, waiting = (
        submit(running, name, tokens, 9) for name, tokens in [("d", 4), ("p", 20), ("w", 5)]
    )
    step(running)
    iteration = running.start_iteration(1.0, 1000)
    assert iteration.batch == Batch(1, 5, 7, 7 * (4 + 4))
    for request, free_blocks in [(waiting, 15), (decoding, 20), (prefilling, 40)]:
        running.abort(request)
        assert running.free_blocks == free_blocks
    assert running.finish_iteration(iteration) == []
    assert (decoding.generated_tokens, prefilling.generated_tokens) == (1, 0)
    assert running.start_iteration(2.0, 1000) is None


def test_aborting_a_stranger_changes_nothing():
    running = engine()
    submit(running, "here", 10, 3)
    running.abort(EngineRequest("elsewhere", 0.0, 10, 3))
    assert len(steps(running)) == 3


def test_scheduled_is_the_start_of_the_first_work():
    running = engine(seqs=1)
    requests = [submit(running, name, 4, 2) for name in "abc"]
    steps(running)
    assert all(after.scheduled_s - before.scheduled_s == 2 for before, after in pairwise(requests))
