from hypothesis import given
from hypothesis import strategies as st

from dynawatt.forecast.high_water import HighWater


@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 100)), min_size=1), st.integers(0, 60))
def test_it_is_the_highest_value_of_the_window(steps, window_s):
    high_water, now_s, seen = HighWater(float(window_s)), 0.0, []
    for step_s, value in steps:
        now_s += step_s
        seen.append((now_s, value))
        assert high_water.add(now_s, value) == max(v for t, v in seen if t >= now_s - window_s)
