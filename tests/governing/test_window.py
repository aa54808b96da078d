import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.governing.window import Counts, CountWindow, LongCountWindow

LENGTH_S = 10.0
BOTH = pytest.mark.parametrize("kind", [CountWindow, LongCountWindow])


def counts(now_s, value=0.0):
    return Counts(now_s, *[value + index for index in range(7)])


@BOTH
@given(gaps_s=st.lists(st.floats(0.01, 30.0), min_size=1, max_size=300), start_s=st.floats(-1e9, 1e9))
def test_gives_the_youngest_that_is_old_enough_or_the_oldest(kind, gaps_s, start_s):
    window, added, now_s = kind(LENGTH_S), [], start_s
    for gap_s in gaps_s:
        now_s += gap_s
        added.append(counts(now_s, value=2 * now_s))
        old_enough = [one for one in added if one.now_s <= now_s - LENGTH_S]
        assert window.add(added[-1]) == (old_enough[-1] if old_enough else added[0])


@BOTH
def test_forgets_everything(kind):
    window = kind(LENGTH_S)
    for second in range(30):
        window.add(counts(float(second)))
    window.clear()
    assert window.add(counts(31.0)) == counts(31.0)


def test_half_an_hour_of_a_pod_takes_little_memory():
    window = LongCountWindow(1800.0)
    tracemalloc.start()
    for second in range(5_000):
        window.add(counts(float(second)))
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 1800 * 8 * 8 <= kept_bytes < 200_000
