from dataclasses import replace

import numpy as np
import pytest

from dynawatt.adapters.profile_files import find_replica
from dynawatt.simulation.class_attainment import LEAST_SAMPLES, class_attainments
from dynawatt.simulation.fleet_core import FleetCore, ReplicaShape
from dynawatt.simulation.settings import EngineSettings
from dynawatt.workload.classes import CLASS_NAMES
from dynawatt.workload.objectives import LatencyObjectives


@pytest.fixture(scope="module")
def empty():
    replica = find_replica("llama-3.1-70b", "h100-sxm", 8)
    shape = ReplicaShape(replica, EngineSettings(2048, 256, replica.kv_capacity_tokens))
    return FleetCore([shape], LatencyObjectives(((None, 1.0),), 0.1)).tally()


def counts(**by_class):
    return np.array([by_class.get(name, 0) for name in CLASS_NAMES])


def test_classes_are_told_from_a_thousand_samples_on(empty):
    tally = replace(
        empty,
        requests=counts(SS=LEAST_SAMPLES, LL=LEAST_SAMPLES - 1),
        ttft_met=counts(SS=990, LL=900),
        gaps=counts(SS=10, LL=50_000),
        gaps_met=counts(SS=10, LL=49_000),
    )
    found = {each.name: each for each in class_attainments(tally)}
    assert list(found) == list(CLASS_NAMES)
    assert found["SS"].ttft.share == 0.99
    assert found["SS"].tbt is None
    assert found["LL"].ttft is None
    assert found["LL"].tbt.share == 0.98


def test_the_interval_is_wilsons(empty):
    tally = replace(empty, requests=counts(MM=1000), ttft_met=counts(MM=990))
    low, high = next(each for each in class_attainments(tally) if each.name == "MM").ttft.interval
    # For 10 misses in 1000 (Wilson 1927): 0.54 % to 1.83 %.
    assert low == pytest.approx(1 - 0.0183, abs=1e-4)
    assert high == pytest.approx(1 - 0.0054, abs=1e-4)
