import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dynawatt.load.digest import GapDigest


@given(
    arrays(np.float64, st.integers(1, 200), elements=st.floats(1e-5, 9e3)), st.sampled_from([0.0, 0.5, 0.9, 0.99, 1])
)
def test_quantiles_are_close(gaps_s, fraction):
    digest = GapDigest()
    digest.add(gaps_s[:50])
    digest.add(gaps_s[50:])
    true_s = np.sort(gaps_s)[max(0, int(np.ceil(fraction * len(gaps_s))) - 1)]
    assert digest.count == len(gaps_s)
    assert digest.quantile_s(fraction) == pytest.approx(true_s, rel=0.0051)


def test_gaps_outside_the_range():
    digest = GapDigest()
    assert digest.quantile_s(0.5) is None
    digest.add(np.array([0.0, 0.0, 0.0, 1e9]))
    assert digest.quantile_s(0.5) == 0
    assert digest.quantile_s(1.0) == pytest.approx(1e4, rel=0.02)
