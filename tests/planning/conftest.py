import pytest

from dynawatt.perfmodel.surface import Surface, SurfacePoint
from dynawatt.planning.plan import ServiceState


def make_state(surface, **changes):
    values = {
        "demand_rps": 10.0,
        "ready_replicas": 2,
        "desired_replicas": 2,
        "min_replicas": 1,
        "max_replicas": 6,
        "attainment": 0.95,
        "startup_s": 60.0,
        **changes,
    }
    values.setdefault("present_demand_rps", values["demand_rps"])
    return ServiceState(surface=surface, **values)


@pytest.fixture
def surface():
    """Carries 5 req/s at 1000 MHz and 10 at 2000 for any objective; a replica has 4 GPUs."""

    def row(capacity_rps, idle_w, busy_w):
        good = [SurfacePoint(rate, 1, 1, 0.1, 0.01, watts) for rate, watts in ((0.0, idle_w), (capacity_rps, busy_w))]
        return [*good, SurfacePoint(capacity_rps + 1e-6, 0.5, 0.5, 9.0, 1.0, busy_w)]

    return Surface(
        tensor_parallel=4,
        released_w=70.0,
        loaded_idle_w=110.0,
        points={2000: row(10.0, 440.0, 2000.0), 1000: row(5.0, 320.0, 900.0)},
    )
