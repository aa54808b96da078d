import os
import signal
from dataclasses import replace

import numpy as np
import pytest

from dynawatt.adapters import surface_source
from dynawatt.adapters.profile_files import find_replica
from dynawatt.adapters.surface_source import CachedSurfaces
from dynawatt.errors import InvalidInputError, OperationError
from dynawatt.simulation.settings import EngineSettings
from dynawatt.simulation.surface_question import SurfaceQuestion
from dynawatt.simulation.surfaces import build_surface
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.objectives import LatencyObjectives

REPLICA = find_replica("llama-3.1-8b", "h100-sxm", 1)
QUESTION = SurfaceQuestion(
    replica=REPLICA,
    settings=EngineSettings(8192, 64, REPLICA.kv_capacity_tokens),
    mix=LengthMix(np.full(50, 200), np.full(50, 20)),
    cv=1.0,
    objectives=LatencyObjectives(((None, 0.5),), 0.05),
    attainments=(0.99,),
    clocks_mhz=(1980, 1200),
    fleet_sizes=(1, 2),
    requests=200,
)
OTHER = replace(QUESTION, cv=2.0)
# Its KV cache holds no request, which only the simulation finds out.
WRONG = replace(QUESTION, settings=replace(QUESTION.settings, kv_capacity_tokens=64))


class Progress:
    def __init__(self):
        self.steps = []

    def __call__(self, done, total):
        self.steps.append((done, total))


@pytest.fixture(scope="module")
def built():
    return build_surface(QUESTION), build_surface(OTHER)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_question_gets_the_answer_that_building_it_gives(tmp_path, built, workers):
    progress = Progress()
    with CachedSurfaces(tmp_path, workers=workers, progress=progress) as source:
        assert source.get_all([OTHER, QUESTION, OTHER]) == [built[1], built[0], built[1]]
    assert progress.steps == [(done, 4) for done in range(5)]


def test_what_is_kept_is_neither_built_nor_reported_again(tmp_path, built, monkeypatch):
    CachedSurfaces(tmp_path, workers=0).get_all([QUESTION])
    monkeypatch.setattr(surface_source, "build_surface", None)
    progress = Progress()
    assert CachedSurfaces(tmp_path, workers=0, progress=progress).get_all([QUESTION]) == [built[0]]
    assert CachedSurfaces(tmp_path, workers=0).get_all([]) == []
    assert progress.steps == []


def test_a_disk_that_keeps_nothing_costs_no_answer(tmp_path, built):
    (tmp_path / "file").write_text("not a directory")
    for directory in (None, tmp_path / "file"):
        assert CachedSurfaces(directory, workers=0).get_all([QUESTION]) == [built[0]]


def test_a_question_that_has_no_answer_is_refused_from_a_worker_as_well(built):
    with CachedSurfaces(None) as source:
        with pytest.raises(InvalidInputError, match="no request of this mix fits"):
            source.get_all([WRONG, OTHER])
        assert source.get_all([QUESTION]) == [built[0]]


def test_a_worker_that_dies_is_an_error_and_the_next_question_gets_another(built):
    def kill(done, total):
        if total == 6 and done > 0:
            for worker in list(source._pool._processes.values()):
                os.kill(worker.pid, signal.SIGKILL)

    slow = replace(QUESTION, clocks_mhz=(1980, 1905, 1800, 1605, 1500, 1200), requests=4000)
    with CachedSurfaces(None, progress=kill) as source:
        with pytest.raises(OperationError, match="worker process"):
            source.get_all([slow])
        assert source.get_all([QUESTION]) == [built[0]]
