from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.clock_shape import ClockSweep, modelled_power_w, modelled_tokens_per_s, saving_errors
from dynawatt.perfmodel.gpus import H100_SXM

CLOCKS = np.array([600.0, 1000.0, 1400.0, 1800.0, 2200.0])
GPU = replace(H100_SXM, default_clock_mhz=2200, voltage_knee_mhz=round(1590 * 2200 / 1980))


def sweep(power_w, tokens_per_s):
    return ClockSweep("card", CLOCKS, np.asarray(power_w, dtype=float), np.asarray(tokens_per_s, dtype=float))


def switching_w(static_w, switching_w):
    """A card that obeys the form: no work that memory bounds."""
    return [static_w + switching_w * GPU.relative_switching(clock) for clock in CLOCKS]


@given(st.floats(20, 200), st.floats(50, 500))
def test_power_of_a_card_that_obeys_the_form_is_met_everywhere(static_w, dynamic_w):
    card = sweep(switching_w(static_w, dynamic_w), CLOCKS / 10)
    assert modelled_power_w(card) == pytest.approx(card.power_w)
    assert saving_errors(card) == pytest.approx(np.zeros(3), abs=1e-6)


@given(st.floats(0.1, 5), st.floats(0.1, 5), st.sampled_from([1.0, 1.5, 2.0, 3.0, 4.0]))
def test_throughput_of_a_card_that_obeys_the_form_is_met_everywhere(memory, compute, norm):
    seconds = (memory**norm + (compute * CLOCKS[-1] / CLOCKS) ** norm) ** (1 / norm)
    card = sweep(CLOCKS, 1 / seconds)
    assert modelled_tokens_per_s(card) == pytest.approx(card.tokens_per_s, rel=1e-6)


def test_end_points_are_met_and_what_lies_between_is_judged():
    card = sweep([100, 150, 200, 300, 400], [10, 16, 22, 28, 30])
    modelled = modelled_power_w(card)
    assert modelled[[0, -1]] == pytest.approx(card.power_w[[0, -1]])
    expected = np.abs((400 - modelled[1:-1]) / (400 - card.power_w[1:-1]) - 1)
    assert saving_errors(card) == pytest.approx(expected)
    assert expected.max() > 0.01


def test_throughput_that_no_clock_changes():
    assert modelled_tokens_per_s(sweep([1, 2, 3, 4, 5], [30] * 5)) == pytest.approx([30] * 5)


def test_clocks_that_save_next_to_nothing_are_not_judged():
    assert len(saving_errors(sweep([100, 150, 200, 399, 400], [10, 16, 22, 28, 30]))) == 2


@pytest.mark.parametrize("clocks", [[1000.0, 2000.0], [1000.0, 1000.0, 2000.0], [2000.0, 1500.0, 1000.0]])
def test_a_sweep_needs_three_ascending_clocks(clocks):
    ones = np.ones(len(clocks))
    with pytest.raises(InvalidInputError, match="clock sweep card: needs three or more clocks, ascending"):
        ClockSweep("card", np.array(clocks), ones, ones)
