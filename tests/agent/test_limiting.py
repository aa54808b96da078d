from hypothesis import given
from hypothesis import strategies as st

from dynawatt.agent.limiting import CALLS_PER_S, CallLimit

BURST = 6
PAUSES_S = st.lists(st.floats(0.0, 5.0), min_size=1, max_size=60)


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(1, 3), st.sampled_from([0.0, 2.0])), max_size=60))
def test_no_stretch_of_time_has_more_calls_than_it_may(attempts: list[tuple[float, int, float]]) -> None:
    limit, now_s = CallLimit(), 100.0
    made: list[tuple[float, int]] = []
    for pause_s, calls, reserve in attempts:
        now_s += pause_s
        if limit.take(now_s, calls, reserve=reserve):
            made.append((now_s, calls))
    for first, (begin_s, _) in enumerate(made):
        total = 0
        for end_s, calls in made[first:]:
            total += calls
            assert total <= BURST + CALLS_PER_S * (end_s - begin_s) + 1e-6


@given(PAUSES_S)
def test_a_governor_that_moves_the_clock_every_second_never_waits(pauses_s: list[float]) -> None:
    limit, now_s = CallLimit(), 100.0
    for pause_s in pauses_s:
        now_s += 1.0 + pause_s
        assert limit.take(now_s, reserve=2.0)


@given(PAUSES_S)
def test_what_is_reserved_is_there(pauses_s: list[float]) -> None:
    limit, now_s = CallLimit(), 100.0
    for pause_s in pauses_s:
        now_s += pause_s / 10
        limit.take(now_s, reserve=2.0)
    assert limit.take(now_s)
    assert limit.take(now_s)


def test_a_call_that_may_not_be_made_costs_nothing() -> None:
    limit = CallLimit()
    assert limit.take(0.0, 5)
    assert not limit.take(0.0, 2)
    assert limit.take(0.0, 1)
    assert not limit.take(0.3)
    assert limit.take(1.0 / 3.0 + 1e-9)


def test_a_clock_that_goes_back_gives_nothing() -> None:
    limit = CallLimit()
    assert limit.take(1000.0, 6)
    assert not limit.take(0.0)
