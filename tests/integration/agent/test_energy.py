import time
from collections.abc import Callable
from typing import Any

import pytest

from .cluster import NAMESPACE, eventually
from .hardware import Hardware
from .process import Metrics

pytestmark = pytest.mark.integration

GPU_ENERGY = "dynawatt_gpu_energy_joules_total"
NODE_ENERGY = "dynawatt_node_energy_joules_total"
# Of the difference between two readings of a counter: NVML tells mJ, and the agent keeps 1024ths of a J.
RESOLUTION_J = 1 / 1000 + 1 / 1024


def test_energy_is_what_the_gpus_counted(hardware: Hardware, start_agent: Any, clients: Any) -> None:
    agent = start_agent()
    eventually(lambda: agent.metrics().total(GPU_ENERGY, namespace=NAMESPACE, pod="llama") is not None)
    with hardware.frozen():
        before, before_j = agent.later_metrics(), hardware.energy_j()
    with clients():
        time.sleep(3.0)
    with hardware.frozen():
        after, after_j = agent.later_metrics(), hardware.energy_j()

    counted_j = {uuid: after_j[uuid] - before_j[uuid] for uuid in after_j}
    told_j = {
        uuid: after.total(GPU_ENERGY, gpu_uuid=uuid) - before.total(GPU_ENERGY, gpu_uuid=uuid) for uuid in after_j
    }
    assert min(counted_j.values()) > 200.0  # 3 s of a GPU that nobody holds, which draws 70 W
    assert told_j == pytest.approx(counted_j, abs=RESOLUTION_J)
    of_pod_j = [each.total(GPU_ENERGY, namespace=NAMESPACE, pod="llama") for each in (before, after)]
    assert of_pod_j[1] - of_pod_j[0] == pytest.approx(
        sum(counted_j[uuid] for uuid in hardware.held()), abs=2 * RESOLUTION_J
    )
    for page in (before, after):
        pods_j, idle_j = page.total("dynawatt_pod_energy_joules_total"), page.total(GPU_ENERGY, namespace="", pod="")
        assert page.total(NODE_ENERGY) == page.total(GPU_ENERGY) == pods_j + idle_j  # to the last bit


def test_joules_per_token_are_the_joules_and_tokens_of_the_same_pod(start_agent: Any, clients: Any) -> None:
    agent = start_agent()
    of_pod = {"namespace": NAMESPACE, "pod": "llama"}

    def tokens(page: Metrics) -> float | None:
        return page.total("dynawatt_pod_tokens_total", **of_pod, kind="generation")

    def energy_j(page: Metrics) -> float:
        return page.total("dynawatt_pod_energy_joules_total", **of_pod) or 0.0

    def energy_before_reading_j(page: Metrics) -> float:
        """What the pod had used when it was first read, if the ratio is that of what came since."""
        return energy_j(page) - page.total("dynawatt_pod_energy_per_token_joules", **of_pod) * tokens(page)

    def page_with(has: Callable[[float], bool]) -> Metrics | None:
        page = agent.metrics()
        return page if (found := tokens(page)) is not None and has(found) else None

    first = eventually(lambda: page_with(lambda found: found >= 0))
    with clients():
        early = eventually(lambda: page_with(lambda found: found > 0))
    late = eventually(lambda: page_with(lambda found: found == 8 * 300))
    assert tokens(first) == 0.0
    assert 0.0 < tokens(early) < tokens(late)
    assert energy_before_reading_j(late) == pytest.approx(energy_before_reading_j(early), abs=0.01)
    assert 0.0 <= energy_before_reading_j(late) <= energy_j(first)
