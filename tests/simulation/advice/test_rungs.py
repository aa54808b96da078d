from dataclasses import replace

import numpy as np
import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.simulation.advice import rungs, tuning
from dynawatt.simulation.advice.load import ServiceLoad
from dynawatt.simulation.advice.rungs import Step, climb, fitting_replicas
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.settings import EngineSettings, QueueOrder
from dynawatt.simulation.study import Study
from dynawatt.simulation.surfaces import build_surface
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.objectives import LatencyObjectives

from ..small_replica import small_replica

ONE = small_replica()
PROFILE = replace(ONE.model, shapes={1: ONE.model.shapes[1], 2: ONE.model.shapes[1]})
MIX = LengthMix(np.array([60, 100, 300, 3000]), np.array([20, 60, 30, 90]))
TIGHT = LatencyObjectives(((256, 0.1), (None, 1.0)), 0.03)


class Built:
    def get_all(self, questions):
        return [build_surface(question) for question in questions]


@pytest.fixture(scope="module", autouse=True)
def fast():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rungs, "_REQUESTS", 500)
        patch.setattr(tuning, "CHUNKS", (256, 512, 1024, 2048))
        patch.setattr(tuning, "_COARSE_CHUNKS", (512, 1024))
        yield


def study(objectives=TIGHT):
    return Study(
        profiles={degree: PROFILE.replica(degree) for degree in (1, 2)},
        base_settings=lambda replica, order: EngineSettings(8192, 128, replica.kv_capacity_tokens, queue_order=order),
        tensor_parallel=1,
        mix=MIX,
        cv=1.0,
        objectives=objectives,
        fraction=0.99,
        peak_rps=4.0,
        surfaces=Built(),
    )


def shape(chunk=8192, threshold=0):
    return ReplicaShape(PROFILE.replica(1), EngineSettings(chunk, 128, ONE.kv_capacity_tokens, threshold))


def load_of(rates):
    return ServiceLoad(np.array(rates, dtype=float), np.full(len(rates), 300.0), MIX, 1.0)


LOAD = load_of([1.0] * 24 + [4.0] * 24)


def advice_on(present, *, replicas=4, objectives=TIGHT, load=LOAD):
    said = []
    found = climb(study(objectives), present, np.full(len(load.rate_rps), replicas), load, said.append)
    assert said
    return found


@pytest.fixture(scope="module")
def advice():
    return advice_on(shape())


def test_the_rungs_in_order(advice):
    assert [rung.step for rung in advice.rungs] == list(Step)
    assert advice.present.saving.share == 0
    assert advice.inventory_gpus == 4
    assert {rung.course.model.gpus for rung in advice.rungs} == {1, 2}


def test_a_long_chunk_is_shortened_and_a_replica_then_carries_more(advice):
    assert advice.flags.changed
    assert advice.flags.shape.settings.max_num_batched_tokens < 8192
    assert advice.flags.after_rps > 1.03 * advice.flags.before_rps
    assert advice.rung(Step.FLAGS).cost.attainment >= advice.present.cost.attainment


def test_clock_and_replicas_save_within_the_slo(advice):
    clock, replicas = advice.rung(Step.CLOCK), advice.rung(Step.REPLICAS)
    assert 0.05 < clock.saving.share < replicas.saving.share
    assert clock.cost.attainment >= 0.99
    assert (clock.course.replicas == 4).all()
    assert clock.course.clock_mhz.max() < 1980
    assert replicas.course.replicas.min() < 4
    assert clock.saving.low < clock.saving.share < clock.saving.high


def test_two_gpus_that_are_no_faster_than_one_save_nothing(advice):
    shape = advice.rung(Step.SHAPE)
    assert shape.course.model.gpus == 2
    assert shape.cost.energy_j > advice.rung(Step.REPLICAS).cost.energy_j


def test_the_deadline_order_is_not_among_the_rungs(advice):
    assert advice.urgent_first.course.model.shape.settings.queue_order is QueueOrder.DEADLINE
    for rung in advice.rungs:
        assert rung.course.model.shape.settings.queue_order is QueueOrder.FCFS


def test_flags_that_are_as_good_stay(advice):
    again = advice_on(advice.flags.shape)
    assert not again.flags.changed
    assert again.flags.shape == advice.flags.shape
    assert again.rung(Step.FLAGS).saving.share == pytest.approx(0, abs=1e-9)


def test_more_gpus_than_there_are_when_the_peak_needs_them():
    advice = advice_on(shape(), replicas=1, load=load_of([20.0] * 48))
    assert advice.present.cost.attainment < 0.7
    replicas = advice.rung(Step.REPLICAS)
    assert replicas.cost.most_gpus > advice.inventory_gpus == 1
    assert replicas.course.ttft_attainment[-1] >= 0.99


def test_an_slo_that_nothing_meets_is_refused():
    with pytest.raises(InvalidInputError, match="no tensor-parallel degree of small meets it under any load; loosen"):
        advice_on(shape(), objectives=LatencyObjectives(((None, 0.001),), 0.001))


def test_replicas_that_fit_the_peak():
    fit = fitting_replicas(study(), shape(1024), load_of([4.0] * 3))
    more = fitting_replicas(study(), shape(1024), load_of([40.0] * 3))
    assert 1 <= fit < more
    with pytest.raises(InvalidInputError, match="give --replicas"):
        fitting_replicas(study(LatencyObjectives(((None, 0.001),), 0.001)), shape(1024), LOAD)
