import numpy as np
import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.simulation import study as study_module
from dynawatt.simulation.energy_tuning import EnergyTuned
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.settings import QueueOrder
from dynawatt.workload.arrivals import renewal_arrivals
from dynawatt.workload.classes import ALL_CLASSES

from .policies.hand_surfaces import HandSurfaces, hand_study, hand_surface, two_degrees
from .policies.small_study import MIX, settings, small_study

SS, MM, LM = 0, 4, 7
"""Classes of the small mix: one, two and one of its four rows."""


def shape_of(study, degree=1):
    return ReplicaShape(study.profiles[degree], settings(None, QueueOrder.FCFS))


def test_classes_share_the_mix():
    study = small_study()
    assert study.class_shares.tolist() == [0.25, 0, 0, 0, 0.5, 0, 0, 0.25, 0]
    assert study.mix_of([MM, SS]).input_tokens.tolist() == [100, 400, 900]
    assert study.mix_of().output_tokens.tolist() == MIX.output_tokens.tolist()
    with pytest.raises(InvalidInputError, match="classes SM, LL: the load has no such requests"):
        study.mix_of([1, 8])


@pytest.mark.parametrize("cv", [0.0, 0.6, 1.0, 4.0])
def test_part_of_a_stream_is_as_bursty_as_random_picks_from_it(cv):
    rng = np.random.default_rng(1)
    arrival_s = renewal_arrivals(1.0, cv, 400_000, rng)
    gaps_s = np.diff(arrival_s[rng.random(len(arrival_s)) < 0.25])
    study = small_study(cv=cv)
    assert study.cv_of([SS]) == pytest.approx(gaps_s.std() / gaps_s.mean(), rel=0.03)
    assert study.cv_of(ALL_CLASSES) == pytest.approx(cv)


def test_the_start_up_time_is_the_profiles_unless_somebody_fixed_it():
    assert small_study().startup_of(1) == small_study().profiles[1].model.startup_s
    assert small_study(startup_s=7.0).startup_of(1) == 7.0


def test_a_shape_is_tuned_once_per_order_and_classes(monkeypatch):
    asked = []

    def tune_chunk(replica, base, demand):
        asked.append((base.queue_order, len(demand.mix.input_tokens)))
        return base, 3.0

    monkeypatch.setattr(study_module, "tune_chunk", tune_chunk)
    study = small_study()
    for _ in range(2):
        assert study.tuned(1, QueueOrder.FCFS).settings.queue_order is QueueOrder.FCFS
        study.tuned(1, QueueOrder.DEADLINE)
        study.tuned(1, QueueOrder.DEADLINE, [SS])
    assert asked == [("fcfs", 4), ("deadline", 4), ("deadline", 1)]


@pytest.mark.parametrize(("capacities", "looked_at"), [((4, 5), [1, 2]), ((4, 3), [1]), ((0, 5), [2]), ((0, 0), [])])
def test_shapes_that_carry_far_less_per_gpu_are_not_looked_at(monkeypatch, capacities, looked_at):
    tuned = []

    def tune_for_energy(replica, base, demand):
        tuned.append(replica.tensor_parallel)
        return EnergyTuned(base, 30.0, 1.0)

    of_degree = dict(zip((1, 2), capacities, strict=True))
    monkeypatch.setattr(study_module, "tune_chunk", lambda r, base, _: (base, of_degree[r.tensor_parallel]))
    monkeypatch.setattr(study_module, "tune_for_energy", tune_for_energy)
    study = small_study(profiles=two_degrees())
    for _ in range(2):
        found = {degree: study.efficient(degree, QueueOrder.PRIORITY) for degree in (1, 2)}
        assert [degree for degree, shape in found.items() if shape] == looked_at
    assert tuned == looked_at


def test_a_shape_that_carries_nothing_where_it_is_thrifty_is_none(monkeypatch):
    monkeypatch.setattr(study_module, "tune_chunk", lambda replica, base, demand: (base, 4.0))
    monkeypatch.setattr(study_module, "tune_for_energy", lambda replica, base, demand: EnergyTuned(base, np.inf, 0.0))
    assert small_study().efficient(1, QueueOrder.PRIORITY) is None


def test_a_question_is_about_the_load_of_its_classes():
    study = small_study(cv=3.0)
    question = study.question(shape_of(study), [SS])
    assert question.mix.input_tokens.tolist() == [100]
    assert question.cv == study.cv_of([SS])
    assert question.attainments == pytest.approx((0.99, 0.991, 0.9935))
    assert question.clocks_mhz[-1] == study.profiles[1].gpu.default_clock_mhz


@pytest.mark.parametrize(
    ("replicas", "sizes"),
    [
        (1, (1, 2, 4, 8)),
        (12, (1, 2, 4, 8)),
        (13, (1, 2, 4, 8, 32)),
        (48, (1, 2, 4, 8, 32)),
        (49, (1, 2, 4, 8, 32, 128)),
    ],
)
def test_surfaces_know_larger_fleets_where_the_static_one_is_larger(replicas, sizes):
    study = small_study(single_replicas=replicas)
    assert study.question(shape_of(study)).fleet_sizes == sizes


def test_a_surface_is_asked_for_once():
    surfaces = HandSurfaces({1: hand_surface(1), 2: hand_surface(2)})
    study = hand_study(profiles=two_degrees())
    study.surfaces = surfaces
    wanted = [(shape_of(study, degree), ALL_CLASSES) for degree in (1, 2, 1)]
    found = study.surfaces_of(wanted)
    assert [surface.tensor_parallel for surface in found] == [1, 2, 1]
    assert surfaces.asked == 2
    assert study.surface(shape_of(study)) is found[0]
    assert surfaces.asked == 2


def test_longer_requests_are_more_work_and_absent_ones_none():
    study = small_study()
    work_s = study.work(shape_of(study))
    assert 0 < work_s[SS] < work_s[MM] < work_s[LM]
    assert np.flatnonzero(work_s).tolist() == [SS, MM, LM]
    assert study.work(shape_of(study)) is work_s
