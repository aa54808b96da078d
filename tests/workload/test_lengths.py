import numpy as np
import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.workload.lengths import JointLengths, LengthCurve

UNIFORM = LengthCurve(((0.0, 0.5), (1.0, 100.5)))


def test_knots_at_a_half_say_how_many_have_so_many_tokens_or_fewer():
    curve = LengthCurve(((0.0, 5.5), (0.3, 6.5), (0.9, 9.5), (1.0, 100.5)))
    lengths = curve.at((np.arange(100_000) + 0.5) / 100_000)
    assert [(lengths <= tokens).mean() for tokens in (5, 6, 9, 100)] == pytest.approx([0, 0.3, 0.9, 1], abs=1e-4)


def test_samples_follow_both_marginals_and_the_copula():
    """Short inputs have long outputs and the other way round, but for one in ten."""
    lengths = JointLengths(UNIFORM, LengthCurve(((0.0, 1000.5), (1.0, 2000.5))), ((1, 9), (9, 1)))
    inputs, outputs = lengths.sample(100_000, np.random.default_rng(1))
    assert np.quantile(inputs, [0, 0.25, 0.5, 1]) == pytest.approx([1, 25, 50, 100], abs=1)
    assert np.quantile(outputs, [0, 0.25, 0.5, 1]) == pytest.approx([1001, 1250, 1500, 2000], abs=10)
    assert ((inputs <= 50) == (outputs > 1500)).mean() == pytest.approx(0.9, abs=0.005)


def test_unequal_rows_do_not_bend_the_inputs():
    inputs, outputs = JointLengths(UNIFORM, UNIFORM, ((1, 1), (50, 50))).sample(50_000, np.random.default_rng(2))
    assert (inputs <= 50).mean() == pytest.approx(0.5, abs=0.01)
    assert abs(np.corrcoef(inputs, outputs)[0, 1]) < 0.02


def test_mix_depends_on_the_seed():
    lengths = JointLengths(UNIFORM, UNIFORM)
    same, again, other = (lengths.mix(50, seed).input_tokens.tolist() for seed in (1, 1, 2))
    assert same == again != other


@pytest.mark.parametrize(
    ("knots", "message"),
    [
        (((0.1, 1.0), (1.0, 2.0)), "fractions"),
        (((0.0, 1.0), (0.9, 2.0)), "fractions"),
        (((0.0, 1.0), (0.6, 2.0), (0.5, 3.0), (1.0, 4.0)), "fractions"),
        (((0.0, 0.0), (1.0, 2.0)), "tokens"),
        (((0.0, 3.0), (1.0, 2.0)), "tokens"),
    ],
)
def test_impossible_curves(knots, message):
    with pytest.raises(InvalidInputError, match=message):
        LengthCurve(knots)
