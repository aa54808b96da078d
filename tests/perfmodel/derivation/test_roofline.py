import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.perfmodel.derivation.measured import Kind, TokenOperation
from dynawatt.perfmodel.derivation.roofline import RELATIVE_CLOCKS, aggregate, other_part, p_norm, split

TOKENS = (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192, 16384)
COUNTS = np.array(TOKENS, dtype=float)


def matrix(weights_s, token_s, norm, *, noise=0.0, name="gemm"):
    memory_s, compute_s = np.full_like(COUNTS, weights_s), token_s * COUNTS
    stretch = 1 + noise * np.random.default_rng(3).random(len(COUNTS))
    return TokenOperation(name, Kind.MATRIX, stretch * p_norm(memory_s, compute_s, norm), memory_s / 1.2, compute_s / 2)


def test_other_part_completes_the_norm():
    memory_s, compute_s = np.array([1.0, 2.0, 0.0]), np.array([3.0, 0.5, 2.0])
    assert other_part(p_norm(memory_s, compute_s, 2.2), memory_s, 2.2) == pytest.approx(compute_s, rel=1e-6, abs=1e-6)
    assert other_part(np.array([1.0]), np.array([1.5]), 2.0) == pytest.approx([0.0])


@pytest.mark.parametrize("norm", [1.3, 2.0, 3.5])
def test_recovers_memory_and_compute_of_one_operation(norm):
    operation = matrix(5e-3, 20e-6, norm)
    whole = aggregate([operation], TOKENS)
    # The roofline bends over so slowly for small p that its far ends are not quite reached.
    assert whole.split.memory_s[:6] == pytest.approx(np.full(6, 5e-3), rel=0.06)
    assert whole.split.compute_s[-3:] == pytest.approx(20e-6 * COUNTS[-3:], rel=0.06)
    assert whole.norm == pytest.approx(norm, abs=0.3)


@given(st.floats(1.0, 6.0), st.floats(0.0, 0.5))
def test_parts_make_up_the_measured_time_whatever_the_noise(norm, noise):
    operation = matrix(5e-3, 20e-6, 2.0, noise=noise)
    parts = split(operation, TOKENS, norm)
    assert parts.at(1.0, norm) == pytest.approx(operation.seconds, rel=1e-9)


def test_noise_of_short_steps_does_not_become_arithmetic():
    operation = matrix(5e-3, 20e-6, 3.0, noise=0.1)
    slower = split(operation, TOKENS, 3.0).at(0.4, 3.0)
    # Weights bound 8 tokens: 160 us of arithmetic against 5 ms. A clock of 40 % must not matter.
    assert slower[3] / operation.seconds[3] < 1.01


def test_many_tokens_slow_down_with_the_clock():
    operation = matrix(5e-3, 20e-6, 3.0)
    assert split(operation, TOKENS, 3.0).at(0.5, 3.0)[-1] / operation.seconds[-1] == pytest.approx(2.0, rel=0.01)


def test_memory_operations_ignore_the_clock_and_links_stand_apart():
    zeros = np.zeros_like(COUNTS)
    norms = TokenOperation("norm", Kind.MEMORY, 1e-6 * COUNTS, zeros, zeros)
    link = TokenOperation("all_reduce", Kind.LINK, 3e-6 * COUNTS, zeros, zeros)
    whole = aggregate([norms, link], TOKENS)
    assert whole.split.at(0.4, whole.norm) == pytest.approx(1e-6 * COUNTS)
    assert whole.communication_s == pytest.approx(3e-6 * COUNTS)


def test_one_norm_stands_for_operations_that_turn_at_different_tokens():
    operations = [matrix(6e-3, 10e-6, 2.5, name="wide"), matrix(0.5e-3, 6e-6, 2.5, name="narrow")]
    whole = aggregate(operations, TOKENS)
    assert whole.split.at(1.0, whole.norm) == pytest.approx(sum(op.seconds for op in operations), rel=1e-9)
    for clock in RELATIVE_CLOCKS:
        exact = sum(
            p_norm(np.full_like(COUNTS, weights_s), token_s * COUNTS / clock, 2.5)
            for weights_s, token_s in ((6e-3, 10e-6), (0.5e-3, 6e-6))
        )
        assert whole.split.at(clock, whole.norm) == pytest.approx(exact, rel=0.06)
    assert whole.clock_error < 0.02
