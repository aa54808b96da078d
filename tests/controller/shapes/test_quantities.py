from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.controller.shapes.quantities import amount, cores, memory


@pytest.mark.parametrize(
    ("quantity", "factor", "scaled"),
    [
        ("16Gi", 2, "32Gi"),
        ("16Gi", Fraction(1, 8), "2Gi"),
        ("10Gi", Fraction(1, 4), "2560Mi"),
        ("512Gi", 2, "1Ti"),
        ("64G", Fraction(1, 2), "32G"),
        ("500M", 2, "1G"),
        ("1Gi", Fraction(1, 3), "357913942"),
        ("68719476736", Fraction(1, 2), "34359738368"),
        ("12e9", 1, "12G"),
        (1024, 1, "1024"),
    ],
)
def test_memory_as_the_api_server_writes_it(quantity, factor, scaled):
    assert memory(amount(quantity) * factor, quantity) == scaled


@pytest.mark.parametrize(
    ("quantity", "factor", "scaled"),
    [("32", Fraction(1, 2), "16"), ("500m", 4, "2"), ("1", Fraction(1, 8), "125m"), ("3", Fraction(1, 7), "429m")],
)
def test_cores_as_the_api_server_writes_them(quantity, factor, scaled):
    assert cores(amount(quantity) * factor) == scaled


@given(st.integers(1, 2**50), st.sampled_from(["", "Gi", "G"]))
def test_what_is_written_is_what_was_meant(size, like):
    assert amount(memory(Fraction(size), f"1{like}")) == size
    assert amount(cores(Fraction(size, 1000))) == Fraction(size, 1000)


def test_nonsense():
    with pytest.raises(ValueError, match="many"):
        amount("many")
