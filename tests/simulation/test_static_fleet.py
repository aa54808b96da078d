import numpy as np
import pytest

from dynawatt.perfmodel.models import Batch, chunk_pairs
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.settings import EngineSettings
from dynawatt.simulation.static_fleet import replay_static
from dynawatt.workload.trace import Trace

from .conftest import objectives
from .small_replica import small_replica

REPLICA = small_replica()
CLOCK = 1980
IDLE_W = REPLICA.loaded_idle_w(CLOCK)
PREFILL = Batch(0, 0, 1000, chunk_pairs(1000, 0))
DECODE = Batch(1, 1001, 0, 0.0)


def trace(*rows):
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    return Trace(np.array(columns[0], dtype=float), *(np.array(column, dtype=np.int64) for column in columns[1:]))


def run(requests, *, replicas=1, slo=None, **options):
    shape = ReplicaShape(REPLICA, EngineSettings(2048, 64, 100_000))
    slo = slo or objectives()
    return replay_static(requests, shape, replicas=replicas, clock_mhz=CLOCK, objectives=slo, **options)


def step_s(batch):
    return REPLICA.step_s(batch, CLOCK)


def step_j(batch):
    return step_s(batch) * REPLICA.power_w(batch, CLOCK)


def test_one_request_by_hand():
    found = run(trace((0, 1000, 2)))
    assert found.end_s == pytest.approx(step_s(PREFILL) + step_s(DECODE), rel=1e-9)
    assert found.energy_j == pytest.approx(step_j(PREFILL) + step_j(DECODE), rel=1e-9)
    assert (found.tally.output_tokens, found.attainment) == (2, 1.0)


@pytest.mark.parametrize(("replicas", "horizon_s"), [(1, 0.0), (1, 10.0), (3, 10.0), (3, 0.001)])
def test_energy_charges_idle_of_every_gpu_up_to_the_horizon(replicas, horizon_s):
    found = run(trace((0, 1000, 2)), replicas=replicas, horizon_s=horizon_s)
    busy_s = step_s(PREFILL) + step_s(DECODE)
    end_s = max(busy_s, horizon_s)
    assert found.end_s == pytest.approx(end_s)
    idle_j = (replicas * end_s - busy_s) * IDLE_W
    assert found.energy_j == pytest.approx(step_j(PREFILL) + step_j(DECODE) + idle_j, rel=1e-9)


def test_idle_before_the_first_request_is_charged():
    assert run(trace((5, 1000, 1))).energy_j == pytest.approx(5 * IDLE_W + step_j(PREFILL))


def test_attainment_is_the_lower_one_over_all_requests():
    first_s = step_s(PREFILL)
    both = trace((0, 1000, 3), (0, 1000, 3))  # the second one waits until the first is prefilled
    alone = run(both, slo=objectives(ttft_s=first_s + 1e-9, tbt_s=1.0))
    assert (alone.ttft_attainment, alone.tbt_attainment, alone.attainment) == (0.5, 1.0, 0.5)
    apart = run(both, replicas=2, slo=objectives(ttft_s=first_s + 1e-9, tbt_s=step_s(DECODE) / 2))
    assert (apart.ttft_attainment, apart.tbt_attainment, apart.attainment) == (1.0, 0.0, 0.0)


def test_no_request_no_energy_but_idle():
    found = run(trace(), horizon_s=3.0)
    assert (found.energy_j, found.attainment, found.end_s) == (pytest.approx(3 * IDLE_W), 1.0, 3.0)
