import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.simulation.settings import EngineSettings, QueueOrder
from dynawatt.simulation.surface_question import SurfaceQuestion
from dynawatt.workload.mix import LengthMix

from .conftest import objectives
from .small_replica import small_replica

REPLICA = small_replica()
MIX = LengthMix(np.full(100, 800), np.full(100, 100))
QUESTION = SurfaceQuestion(
    REPLICA, EngineSettings(2048, 64, 10_000), MIX, 1.09, objectives(0.5, 0.1), (0.99, 0.995), (900, 1980)
)


def lengths(inputs, outputs):
    return LengthMix(np.array(inputs), np.array(outputs))


def other_gpu():
    spec = replace(REPLICA.model.gpu, tdp_w=650.0)
    return replace(REPLICA.model, gpu=spec).replica(1)


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": replace(QUESTION.settings, max_num_batched_tokens=4096)},
        {"settings": replace(QUESTION.settings, queue_order=QueueOrder.DEADLINE)},
        {"settings": replace(QUESTION.settings, prefix_hit_ratio=0.2)},
        {"cv": 1.3},
        {"objectives": objectives(0.5, 0.2)},
        {"attainments": (0.99,)},
        {"clocks_mhz": (1980,)},
        {"fleet_sizes": (1, 2)},
        {"requests": 1000},
        {"seed": 2},
        {"replica": other_gpu()},
    ],
)
def test_every_circumstance_counts(changes):
    other = replace(QUESTION, **changes)
    assert other.fingerprint() != QUESTION.fingerprint()
    assert other.family() != QUESTION.family()


def test_mixes_in_one_bin_share_a_surface_and_others_are_of_the_family():
    similar = replace(QUESTION, mix=lengths([801] * 90 + [790] * 20, [101] * 110))
    assert similar.fingerprint() == QUESTION.fingerprint()
    longer = replace(QUESTION, mix=lengths([1600] * 10, [100] * 10))
    heavy_tailed = replace(QUESTION, mix=lengths([89] * 9 + [7199], [100] * 10))
    assert heavy_tailed.mix.mean_input_tokens == 800
    for other in (longer, heavy_tailed):
        assert other.fingerprint() != QUESTION.fingerprint()
        assert other.family() == QUESTION.family()


def test_what_a_simulation_does_not_read_does_not_count():
    provenance = replace(REPLICA.model, provenance=("another day",), residuals=())
    assert replace(QUESTION, replica=provenance.replica(1)).fingerprint() == QUESTION.fingerprint()
    REPLICA.at_clock(1200)  # keeps the costs at this clock
    assert QUESTION.fingerprint() == replace(QUESTION).fingerprint()


def test_the_fingerprint_is_the_same_in_every_process():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as worker:
        assert worker.submit(SurfaceQuestion.fingerprint, QUESTION).result() == QUESTION.fingerprint()


@pytest.mark.parametrize(
    ("cv", "simulated"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (1.09, 2**0.125), (2**0.125, 2**0.125), (13.2, 2**3.75)]
)
def test_burstiness_is_rounded_up_a_little(cv, simulated):
    assert replace(QUESTION, cv=cv).binned_cv == pytest.approx(simulated)


@pytest.mark.parametrize(
    ("cv", "replicas", "measured"),
    [
        (1.0, 1, 3000),
        (1.0, 8, 3000),
        (1.0, 9, 3375),
        (1.0, 32, 12_000),
        (2.0, 8, 12_000),
        (2.0, 32, 12_000),
        (2.0, 128, 48_000),
    ],
)
def test_larger_fleets_are_simulated_under_more_requests(cv, replicas, measured):
    load = replace(QUESTION, cv=cv).load(replicas)
    assert len(load.trace) - load.warm_up == measured
    assert load.warm_up == pytest.approx(0.1 * measured, abs=1)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"attainments": ()}, "attainments"),
        ({"attainments": (0.99, 1.0)}, "attainments"),
        ({"attainments": (99,)}, "between 0 and 1"),
        ({"fleet_sizes": (2, 4)}, "must begin with 1"),
        ({"cv": -1.0}, "burstiness"),
        ({"cv": float("nan")}, "burstiness"),
    ],
)
def test_what_no_surface_can_be_made_of_is_refused(changes, problem):
    with pytest.raises(InvalidInputError, match=problem):
        replace(QUESTION, **changes)


def test_a_question_about_another_mix_is_as_if_asked_anew():
    other = QUESTION.about(lengths([3000] * 10, [50] * 10))
    anew = replace(QUESTION, mix=other.mix)
    assert other.family() == anew.family() == QUESTION.family()
    assert other.fingerprint() == anew.fingerprint() != QUESTION.fingerprint()
    assert replace(other, cv=1.3).family() != other.family()
