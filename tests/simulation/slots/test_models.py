import numpy as np
import pytest

from dynawatt.simulation.slots.models import PoolModels
from dynawatt.workload.classes import ALL_CLASSES

SS, MM, LM = 0, 4, 7
"""Classes of the small mix: one, two and one of its four rows."""


@pytest.fixture
def models(study, shape):
    return PoolModels(study, [shape], [(SS, MM), (LM,)])


def requests(**counts):
    found = np.zeros(len(ALL_CLASSES))
    for name, count in counts.items():
        found[{"ss": SS, "mm": MM, "lm": LM}[name]] = count
    return found


def test_a_pool_is_known_by_its_own_classes(models, study, shape):
    assert models.of(1, 0).table.surface is study.surface(shape, (LM,))
    for arrived in (requests(), requests(lm=1), requests(lm=9, ss=5)):
        assert models.of(1, 0, arrived) is models.of(1, 0)


def test_a_pool_that_mostly_serves_others_is_known_by_the_whole_mix(models, study, shape):
    found = models.of(1, 0, requests(lm=1, mm=20))
    assert found.table.surface is study.surface(shape, ALL_CLASSES)
    assert study.class_shares @ found.weights == pytest.approx(1.0)
    assert models.of(0, 0, requests(lm=20, mm=1)) is found


def test_most_is_by_work(models):
    weights = models.of(1, 0).weights
    few = 0.9 * weights[LM] / weights[SS]
    assert models.of(1, 0, requests(lm=1, ss=few)) is models.of(1, 0)
    assert models.of(1, 0, requests(lm=1, ss=1.3 * few)) is not models.of(1, 0)
