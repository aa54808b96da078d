import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.adapters.vllm_load.counting import Ring, growth
from dynawatt.adapters.vllm_load.page import PodPage


def page(finished, running=0.0, waiting=0.0, kv=0.5):
    return PodPage(running, waiting, kv, {("finished", 0.0): finished, ("ttft", 0.5): finished / 2})


def test_growth_between_two_looks():
    grown = growth(page(10.0, 2.0, 1.0, 0.2), page(30.0, 6.0, 0.0, 0.4), 10.0)
    assert grown == pytest.approx(
        {
            ("finished", 0.0): 20.0, ("ttft", 0.5): 10.0, ("running_change", 0.0): 4.0, ("waiting_change", 0.0): -1.0,
            ("running_s", 0.0): 40.0, ("kv_usage_s", 0.0): 3.0, ("kv_pod_s", 0.0): 10.0,
        }
    )  # fmt: skip


def test_a_process_that_began_anew_had_nothing():
    grown = growth(page(100.0, 50.0, 20.0), page(7.0, 3.0, 1.0), 10.0)
    assert (grown["finished", 0.0], grown["running_change", 0.0], grown["waiting_change", 0.0]) == (7.0, 3.0, 1.0)


def test_buckets_that_are_gone_mean_a_new_process():
    other = PodPage(0.0, 0.0, None, {("finished", 0.0): 100.0, ("ttft", 0.4): 1.0})
    grown = growth(page(10.0), other, 10.0)
    assert grown["finished", 0.0] == 100.0
    assert ("kv_usage_s", 0.0) not in grown


def test_a_window_takes_whole_looks():
    ring = Ring()
    assert ring.over(30.0) == (0.0, {})
    for look in range(10):
        ring.add(10.0 * look, 10.0 * look + 10, [("a", {("finished", 0.0): 1.0})], 1000.0)
    assert ring.over(30.0) == (30.0, {"a": {("finished", 0.0): 3.0}})
    assert ring.over(5.0)[0] == 10.0
    assert ring.over(999.0)[0] == 100.0
    ring.clear()
    assert ring.over(30.0) == (0.0, {})


def test_shapes_and_buckets_may_change():
    ring = Ring()
    ring.add(0.0, 10.0, [("a", {("ttft", 0.5): 1.0}), ("a", {("ttft", 0.5): 2.0})], 1000.0)
    ring.add(10.0, 20.0, [("a", {("ttft", 0.4): 4.0, ("ttft", 0.5): 5.0}), ("b", {("ttft", 0.5): 7.0})], 1000.0)
    assert ring.over(20.0) == (20.0, {"a": {("ttft", 0.5): 8.0, ("ttft", 0.4): 4.0}, "b": {("ttft", 0.5): 7.0}})


@given(
    counts=st.lists(st.integers(0, 50), min_size=1, max_size=40),
    window=st.integers(1, 40),
    restarts=st.sets(st.integers(0, 39)),
)
def test_nothing_is_lost_or_counted_twice(counts, window, restarts):
    ring, before, total = Ring(), page(5.0), 5.0
    for look, count in enumerate(counts):
        total = float(count) if look in restarts and count < total else total + count
        after = page(total)
        ring.add(float(look), look + 1.0, [("a", growth(before, after, 1.0))], window)
        before = after
    seconds, grown = ring.over(float(window))
    taken = min(window, len(counts))
    assert seconds == taken
    assert grown["a"]["finished", 0.0] == sum(counts[-taken:])
