import pytest

from dynawatt.simulation.fleet_core import ReplicaShape

from ..policies.small_study import small_study
from ..small_surfaces import CoarseSurfaces

_SURFACES = CoarseSurfaces()


@pytest.fixture
def study():
    return small_study(surfaces=_SURFACES, single_replicas=3)


@pytest.fixture
def shape(study):
    return ReplicaShape(study.profiles[1], study.single_settings)


@pytest.fixture(scope="session")
def study_once():
    """The same for all examples of a property."""
    study = small_study(surfaces=_SURFACES, single_replicas=3)
    return study, ReplicaShape(study.profiles[1], study.single_settings)
