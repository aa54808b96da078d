import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from dynawatt.agent.metering import NOBODY, EnergyKey
from dynawatt.agent.sensing import Sensors
from dynawatt.agent.view import HEALTH_PERIOD_S
from dynawatt.ports import GpuHealth, GpuReading, PodKey

from .memory_node import Node

A, B = PodKey("prod", "a"), PodKey("prod", "b")


class Bench:
    """Sensors on four GPUs that use 100 W each, and who was said to have restarted."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.sensors = Sensors({gpu.uuid: gpu for gpu in node.gpus}, clock_s=lambda: node.now_s)
        self.restarted: list[str] = []

    def read(self, holders: dict[str, Sequence[PodKey]] | None = None) -> dict[str, GpuReading | None]:
        return self.sensors.read(holders or {}, restarted=self.restarted.append)

    def answering(self, after_s: float = 1.0) -> set[str]:
        self.node.now_s += after_s
        return {uuid for uuid, reading in self.read().items() if reading is not None}


@pytest.fixture
def bench(node: Node) -> Bench:
    return Bench(node)


def test_all_gpus_are_read_at_once(bench: Bench) -> None:
    found = bench.read()
    assert list(found) == ["GPU-0", "GPU-1", "GPU-2", "GPU-3"]
    assert found["GPU-0"] == bench.node.gpus[0].read()


def test_joules_go_to_the_one_pod_that_held_the_gpu(bench: Bench) -> None:
    holders = {"GPU-0": [A], "GPU-1": [A, B]}
    bench.read(holders)
    bench.node.now_s += 2.0
    bench.read({"GPU-0": [B]})
    bench.node.now_s += 1.0
    bench.read({"GPU-0": [B]})
    totals_j = bench.sensors.totals_j()
    assert (totals_j[EnergyKey("GPU-0", A)], totals_j[EnergyKey("GPU-0", B)]) == (200.0, 100.0)
    assert totals_j[EnergyKey("GPU-1", NOBODY)] == 300.0
    assert sum(totals_j.values()) == 4 * 300.0


def test_a_counter_that_falls_is_a_driver_that_restarted(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.read()
    assert bench.restarted == []
    bench.node.gpus[2].offset_j = -100.0 * bench.node.now_s
    bench.read()
    assert bench.restarted == ["GPU-2"]
    assert "gpu=GPU-2 counter fell" in caplog.text
    bench.read()
    assert bench.restarted == ["GPU-2"]


def test_a_gpu_without_a_counter_is_read_all_the_same(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    without = bench.node.gpus[0].read()._replace(energy_j=None)
    monkeypatch.setattr(bench.node.gpus[0], "read", lambda: without)
    assert bench.read()["GPU-0"] == without
    assert {key.uuid for key in bench.sensors.totals_j()} == {"GPU-1", "GPU-2", "GPU-3"}


@pytest.mark.parametrize("fail", [lambda gpu: gpu.broken.add("read"), lambda gpu: setattr(gpu, "hangs", True)])
def test_a_silent_gpu_is_told_once_and_again_when_it_is_back(
    bench: Bench, caplog: pytest.LogCaptureFixture, fail: Callable[[Any], None]
) -> None:
    caplog.set_level(logging.INFO)
    fail(bench.node.gpus[1])
    for _ in range(3):
        assert bench.answering() == {"GPU-0", "GPU-2", "GPU-3"}
    bench.node.gpus[1].broken.clear()
    bench.node.gpus[1].wake()
    for _ in range(3):
        assert len(bench.answering()) == 4
    told = [message for message in caplog.messages if "GPU-1" in message]
    assert [message.partition("=")[0] for message in told] == ["reading gpu", "reading gpu"]
    assert told[1] == "reading gpu=GPU-1 answers again"


def test_slow_gpus_take_turns_in_being_left_out(bench: Bench) -> None:
    for gpu in bench.node.gpus:
        gpu.takes_s = 0.9
    seen = [bench.answering() for _ in range(4)]
    assert [len(answering) for answering in seen] == [3] * 4
    assert set.intersection(*seen) == set()
    for gpu in bench.node.gpus:
        gpu.takes_s = 0.0
    assert len(bench.answering()) == 4


def test_health_is_read_when_it_is_due(bench: Bench) -> None:
    good, bad = GpuHealth(persistence=True), GpuHealth(persistence=True, ecc_uncorrected=1)
    assert bench.sensors.read_health() == dict.fromkeys(("GPU-0", "GPU-1", "GPU-2", "GPU-3"), good)
    bench.node.gpus[0].health_ = bad
    bench.node.now_s += HEALTH_PERIOD_S - 0.1
    assert bench.sensors.read_health()["GPU-0"] == good
    bench.node.now_s += 0.1
    assert bench.sensors.read_health()["GPU-0"] == bad


def test_the_health_of_a_gpu_that_does_not_answer_is_not_known(bench: Bench) -> None:
    bench.sensors.read_health()
    bench.node.gpus[0].broken.add("health")
    bench.node.now_s += HEALTH_PERIOD_S
    health = bench.sensors.read_health()
    assert health["GPU-0"] is None
    assert health["GPU-1"] is not None


def test_slow_gpus_tell_their_health_in_turn(bench: Bench) -> None:
    for gpu in bench.node.gpus:
        gpu.takes_s = 0.9
    first = bench.sensors.read_health()
    assert [uuid for uuid, health in first.items() if health is None] == ["GPU-3"]
    assert None not in bench.sensors.read_health().values()


def test_mig_is_as_last_read(bench: Bench) -> None:
    assert bench.sensors.mig() == dict.fromkeys(("GPU-0", "GPU-1", "GPU-2", "GPU-3"), False)
    bench.node.gpus[3].health_ = GpuHealth(mig=True)
    bench.sensors.read_health()
    assert bench.sensors.mig()["GPU-3"]
