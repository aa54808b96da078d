import numpy as np
import pytest

from dynawatt.simulation.policies.partition import choose_pools
from dynawatt.simulation.settings import QueueOrder
from dynawatt.simulation.study import History
from dynawatt.workload.mix import LengthMix

from .hand_surfaces import day_before, hand_study, hand_surface, two_degrees

GOOD = hand_surface()
POOR = hand_surface(slow=(1.0, 100.0, 250.0), fast=(2.0, 130.0, 630.0))
"""Carries a fifth for the same watts."""
NONE = hand_surface(slow=(0.0, 100.0, 250.0), fast=(0.0, 130.0, 630.0))
SPLIT = [(0, 1, 2, 3, 4, 5), (6, 7, 8)]
SHARED = [tuple(range(9))]


def pools(both, short, long, **changes):
    found = choose_pools(hand_study({"both": both, "short": short, "long": long}, **changes), QueueOrder.PRIORITY)
    return [choices[0].classes for choices in found]


def test_long_inputs_apart_where_short_ones_wait_behind_them():
    assert pools(both=POOR, short=GOOD, long=GOOD) == SPLIT


def test_shared_where_nobody_waits():
    assert pools(both=GOOD, short=GOOD, long=GOOD) == SHARED


def one_clock(joules):
    """20 requests/s at 1980 MHz, 110 W idle, so many joules for each request."""
    return hand_surface(slow=(0.0, 80.0, 80.0), fast=(20.0, 110.0, 110.0 + 20 * joules))


@pytest.mark.parametrize(("saving", "found"), [(0.015, SHARED), (0.025, SPLIT)])
def test_a_split_has_to_save_two_percent(saving, found):
    """Of 40 W for an idle replica beyond a released GPU and 8 requests of 50 J a second; a split idles twice."""
    rate_rps, shared_j = 8.0, 50.0
    split_j = ((40 + shared_j * rate_rps) * (1 - saving) - 80) / rate_rps
    study = hand_study({"both": one_clock(shared_j), "short": one_clock(split_j), "long": one_clock(split_j)})
    study.history = day_before(study, rate_rps)
    assert [choices[0].classes for choices in choose_pools(study, QueueOrder.PRIORITY)] == found


def test_the_week_before_decides():
    """With few requests a second pool idles; with many the shared one, which carries less, needs the fast clock."""
    less = hand_surface(slow=(3.5, 100.0, 205.0), fast=(7.0, 130.0, 480.0))
    for rate_rps, found in ((1.0, SHARED), (38.0, SPLIT)):
        study = hand_study({"both": less, "short": GOOD, "long": GOOD}, peak_rps=38.0)
        study.history = day_before(study, rate_rps)
        assert [choices[0].classes for choices in choose_pools(study, QueueOrder.PRIORITY)] == found


def test_loads_above_the_peak_count_as_the_peak():
    """The inventory is there for the peak: that neither way carries far more says nothing."""
    study = hand_study({"both": POOR, "short": GOOD, "long": GOOD}, peak_rps=10.0)
    study.history = day_before(study, 8.0, 500.0)
    assert [choices[0].classes for choices in choose_pools(study, QueueOrder.PRIORITY)] == SPLIT


def test_a_pool_that_misses_the_slo_is_none():
    assert pools(both=POOR, short=GOOD, long=NONE) == SHARED


def test_without_long_inputs_there_is_nothing_to_split():
    mix = LengthMix(np.array([100, 400]), np.array([50, 150]))
    assert pools(both=POOR, short=GOOD, long=GOOD, mix=mix) == SHARED


def test_pools_that_do_not_fit_together_are_none():
    """A replica takes half the server. Up to 26 requests/s one half carries the short inputs, beyond it does not."""
    half = hand_surface(4, slow=(10.0, 400.0, 1000.0), fast=(20.0, 520.0, 2520.0))
    costly = hand_surface(4, slow=(20.0, 400.0, 9000.0), fast=(40.0, 520.0, 20000.0))
    for peak_rps, found in ((26.0, SPLIT), (27.0, SHARED)):
        answers = {"both": costly, "short": half, "long": half}
        study = hand_study(answers, profiles={4: two_degrees(4)[4]}, tensor_parallel=4, peak_rps=peak_rps)
        study.history = day_before(study, 20.0)
        assert [choices[0].classes for choices in choose_pools(study, QueueOrder.PRIORITY)] == found


@pytest.mark.parametrize("hole", [slice(0, 100), slice(None)])
def test_gaps_in_the_history_are_passed_over(hole):
    study = hand_study({"both": POOR, "short": GOOD, "long": GOOD})
    history = day_before(study, 8.0)
    history.requests[hole] = np.nan
    study.history = history
    assert len(choose_pools(study, QueueOrder.PRIORITY)) == 2


def test_a_history_without_requests_is_shared():
    study = hand_study({"both": GOOD, "short": GOOD, "long": GOOD})
    study.history = History(-3000.0, np.zeros((10, 9)))
    assert len(choose_pools(study, QueueOrder.PRIORITY)) == 1
