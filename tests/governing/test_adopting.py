from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from dynawatt.governing.governor import CLEAN_S, LOAD_WINDOW_S, ClockGovernor, GovernorReason
from dynawatt.governing.table import ClockRow

from .pods import CEILING_MHZ, FLOOR_MHZ, ROWS, Pod, clocks, table

SETTLED = int(LOAD_WINDOW_S + CLEAN_S + 2 * len(ROWS))
ANY_RPS = st.floats(0, 9)
FAR_APART_RPS = st.sampled_from([0.5 * step for step in range(19)])
"""By more than the slack, which else spans several rows."""


@st.composite
def tables(draw, loads_rps=ANY_RPS, unique=False):
    rows = draw(st.lists(st.integers(500, 2100), min_size=1, max_size=16, unique=True))
    loads = sorted(draw(st.lists(loads_rps, min_size=len(rows), max_size=len(rows), unique=unique)))
    return table(rows=tuple(ClockRow(mhz, rps, 1e3 * rps, 20) for mhz, rps in zip(sorted(rows), loads, strict=True)))


def settled(rate_rps):
    it, pod = ClockGovernor(table(), FLOOR_MHZ, CEILING_MHZ), Pod()
    clocks(it, pod, SETTLED, rate_rps)
    return it, pod


@settings(max_examples=30)
@given(rate_rps=st.floats(0, 10), later_rps=st.floats(0, 10))
def test_the_same_table_changes_nothing(rate_rps, later_rps):
    (it, pod), (same, other_pod) = settled(rate_rps), settled(rate_rps)
    for _ in range(SETTLED):
        it.adopt(replace(table()), FLOOR_MHZ, CEILING_MHZ)
        assert it.step(pod.now_s, pod.second(later_rps)) == same.step(other_pod.now_s, other_pod.second(later_rps))
        assert it.reason == same.reason


def test_tables_that_change_all_the_time_do_not_keep_the_clock_up():
    it, pod = settled(7.0)
    for second in range(SETTLED):
        it.adopt(table(prompt_tokens=1000.0 + second), FLOOR_MHZ, CEILING_MHZ)
        it.step(pod.now_s, pod.second(0.1))
    assert it.clock_mhz == FLOOR_MHZ


@given(rate_rps=st.floats(0, 10), new=tables(), floor_mhz=st.integers(500, 2000), span_mhz=st.integers(0, 900))
def test_the_new_range_is_kept_and_the_clock_does_not_fall(rate_rps, new, floor_mhz, span_mhz):
    it, pod = settled(rate_rps)
    before_mhz = it.clock_mhz
    it.adopt(new, floor_mhz, floor_mhz + span_mhz)
    assert it.clock_mhz >= min(before_mhz, floor_mhz + span_mhz)
    for _ in range(30):
        assert floor_mhz <= it.step(pod.now_s, pod.second(rate_rps)) <= floor_mhz + span_mhz


@settings(max_examples=30)
@given(rate_rps=st.floats(0, 10), new=tables(FAR_APART_RPS, unique=True))
def test_a_new_table_settles_where_it_would_have_settled_from_the_start(rate_rps, new):
    it, pod = settled(rate_rps)
    it.adopt(new, FLOOR_MHZ, CEILING_MHZ)
    fresh, fresh_pod = ClockGovernor(new, FLOOR_MHZ, CEILING_MHZ), Pod()
    for _ in range(2 * SETTLED):
        it.step(pod.now_s, pod.second(rate_rps))
        fresh.step(fresh_pod.now_s, fresh_pod.second(rate_rps))
    # Between the row that a load needs and the next, the clock stays where it came from.
    rows = [row.clock_mhz for row in new.within(FLOOR_MHZ, CEILING_MHZ)]
    assert abs(rows.index(it.clock_mhz) - rows.index(fresh.clock_mhz)) <= 1


def test_reasons():
    it, pod = ClockGovernor(table(), FLOOR_MHZ, CEILING_MHZ), Pod()
    assert it.reason is GovernorReason.STARTING
    clocks(it, pod, 5, 2.0)
    assert it.reason is GovernorReason.STARTING
    clocks(it, pod, 10, 2.0)
    assert it.reason is GovernorReason.SETTLING
    clocks(it, pod, SETTLED, 2.0)
    assert it.reason is GovernorReason.LOAD
    clocks(it, pod, 1, 2.0, late=9.0)
    assert it.reason is GovernorReason.BURNING
    clocks(it, pod, 11, 2.0)
    assert it.reason is GovernorReason.SETTLING
    it.step(pod.now_s + 1, Pod().second(0.1)._replace(finished=0.0))
    assert it.reason is GovernorReason.STARTING
