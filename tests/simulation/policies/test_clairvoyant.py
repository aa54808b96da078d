from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.surface import Surface, SurfacePoint
from dynawatt.simulation.policies.clairvoyant import CLAIRVOYANT, clairvoyant, clairvoyant_bound
from dynawatt.simulation.settings import QueueOrder
from dynawatt.simulation.study import History

from .small_study import OneSurface, small_study

GPUS = 8
RELEASED_W = 70.0
CARRIED = {1000: 5.0, 2000: 10.0}
"""Requests/s of a replica within the SLO, by clock."""


def row(carried_rps, idle_w, busy_w):
    good = [SurfacePoint(rate, 1, 1, 0.1, 0.01, watts) for rate, watts in ((0.0, idle_w), (carried_rps, busy_w))]
    return [*good, SurfacePoint(carried_rps + 1e-6, 0.5, 0.5, 9.0, 1.0, busy_w)]


SURFACE = Surface(
    tensor_parallel=1,
    released_w=RELEASED_W,
    loaded_idle_w=110.0,
    points={1000: row(CARRIED[1000], 80.0, 230.0), 2000: row(CARRIED[2000], 110.0, 610.0)},
)


def watts(clock_mhz, rate_rps):
    """Of a replica, on paper."""
    return 80 + 30 * rate_rps if clock_mhz == 1000 else 110 + 50 * rate_rps


def fleets(rate_rps, released_w):
    """Beyond released GPUs, by number of replicas at the better clock."""
    return {
        count: min(
            (
                count * (watts(clock_mhz, rate_rps / count) - released_w)
                for clock_mhz, carried_rps in CARRIED.items()
                if rate_rps <= count * carried_rps + 1e-9
            ),
            default=inf,
        )
        for count in range(1, GPUS + 1)
    }


def by_hand(study, rate_rps, released_w):
    """Every number of replicas at every clock, shared or with some of them for long inputs alone."""
    long_rps = rate_rps * study.class_shares[6:].sum()
    others, long = fleets(rate_rps - long_rps, released_w), fleets(long_rps, released_w)
    apart = min(others[n] + long[m] for n in others for m in long if n + m <= GPUS)
    return GPUS * released_w + min(apart, *fleets(rate_rps, released_w).values())


@pytest.fixture(scope="module")
def study():
    """Tuned once; tests change nothing but the future."""
    prepared = small_study(surfaces=OneSurface(SURFACE))
    prepared.tuned(1, QueueOrder.DEADLINE)
    return prepared


def of(study, rates_rps, *, slot_s=300.0, **options):
    """The bound for these loads, each of them a slot of the mix's classes."""
    study.future = History(0.0, np.outer(np.array(rates_rps) * slot_s, study.class_shares))
    return clairvoyant_bound(study, **options)


@pytest.mark.parametrize("rate_rps", [0.5, 4.9, 5.1, 12.0, 26.0, 39.9, 40.1, 60.0, 79.0])
def test_the_best_plan_of_a_slot_is_the_one_found_by_hand(study, rate_rps):
    bound = of(study, [rate_rps])
    assert bound.rate_rps == pytest.approx([rate_rps])
    assert bound.plan_idling_w == pytest.approx([by_hand(study, rate_rps, RELEASED_W)])
    assert bound.plan_off_w == pytest.approx([by_hand(study, rate_rps, 0.0)])


@given(st.lists(st.floats(0.01, 79.9), min_size=2, max_size=30))
@settings(max_examples=25, deadline=None)
def test_no_plan_and_no_way_of_following_the_load_goes_below(study, rates_rps):
    bound = of(study, rates_rps)
    assert (bound.idling_w <= bound.plan_idling_w + 1e-6).all()
    assert (bound.off_w <= bound.plan_off_w + 1e-6).all()
    assert (bound.off_w <= bound.idling_w).all()
    # Any of these loads in turn, each with its best fleet, against all of them as one steady load.
    steady = of(study, [float(np.mean(bound.rate_rps))])
    assert steady.idling_w[0] <= np.mean(bound.plan_idling_w) + 1e-6
    assert steady.off_w[0] <= np.mean(bound.plan_off_w) + 1e-6


def test_a_fleet_used_to_the_full_is_on_the_hull(study):
    bound = of(study, [5.0, 20.0, 40.0])
    assert bound.idling_w == pytest.approx(bound.plan_idling_w)


def test_energy_is_watts_times_the_slots_up_to_the_horizon(study):
    bound = of(study, [20.0, 20.0])
    assert bound.energy_idling_j == pytest.approx(600.0 * bound.idling_w[0])
    study.future = History(0.0, np.outer([20.0 * 300.0, 20.0 * 100.0], study.class_shares))
    short = clairvoyant("clairvoyant", study, horizon_s=400.0)
    assert short.width_s.tolist() == [300.0, 100.0]
    assert short.rate_rps == pytest.approx([20.0, 20.0])
    assert short.energy_off_j == pytest.approx(400.0 * bound.off_w[0])
    assert short.plan_off_j == pytest.approx(400.0 * bound.plan_off_w[0])
    assert short.plan_idling_j == pytest.approx(400.0 * bound.plan_idling_w[0])


def test_where_nothing_comes_nothing_serves(study):
    bound = of(study, [0.0, 1.0])
    assert bound.idling_w[0] == GPUS * RELEASED_W
    assert bound.off_w[0] == 0.0
    assert bound.plan_off_w[1] > 80.0


def test_what_no_fleet_carries_counts_as_the_most_that_one_does(study):
    bound = of(study, [79.9999, 200.0])
    assert bound.overloaded_slots == 1
    assert bound.plan_idling_w[1] == pytest.approx(by_hand(study, 80.0, RELEASED_W))
    assert bound.idling_w[1] >= bound.idling_w[0]


def test_classes_weigh_by_their_work(study):
    shape = study.tuned(1, QueueOrder.FCFS)
    work_s = study.work(shape)
    long, counts = int(np.argmax(work_s)), np.zeros((1, 9))
    counts[0, long] = 300.0
    study.future = History(0.0, counts)
    assert clairvoyant_bound(study).rate_rps == pytest.approx([work_s[long] / (study.class_shares @ work_s)])


def test_names_stand_for_queue_orders(study):
    assert CLAIRVOYANT["clairvoyant"] is QueueOrder.DEADLINE
    study.future = History(0.0, np.ones((1, 9)))
    bound = clairvoyant("clairvoyant-fcfs", study)
    assert (bound.name, bound.order) == ("clairvoyant-fcfs", QueueOrder.FCFS)


def test_what_cannot_be_known_is_refused(study):
    study.future = None
    with pytest.raises(InvalidInputError, match="holds no future load"):
        clairvoyant_bound(study)
    hopeless = Surface(1, 70.0, 110.0, {2000: [SurfacePoint(rate, 0.5, 1, 9, 1, 500) for rate in (0.0, 1.0)]})
    poor = small_study(surfaces=OneSurface(hopeless), future=History(0.0, np.ones((1, 9))))
    with pytest.raises(InvalidInputError, match=r"every shape misses it under any load"):
        clairvoyant_bound(poor)
    impossible = replace(poor.objectives, tbt_s=1e-6)
    with pytest.raises(InvalidInputError, match=r"every shape misses it under any load"):
        clairvoyant_bound(small_study(objectives=impossible, future=poor.future))
