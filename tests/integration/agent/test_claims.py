import time
from typing import Any

import pytest
from kubernetes.client import ApiClient

from .cluster import IDLE_OR_BUSY, NAMESPACE, NODE, Operator, eventually, governed
from .hardware import DEFAULT_MHZ, MIN_MHZ, Hardware

pytestmark = pytest.mark.integration


def test_claims_are_followed_and_reported(
    api: ApiClient, hardware: Hardware, operator: Operator, claim: Any, start_agent: Any
) -> None:
    agent = start_agent()
    claim(1207)
    eventually(lambda: hardware.clocks_mhz(held=True) == {1200.0})
    assert hardware.clocks_mhz(held=False) == {DEFAULT_MHZ}
    assert hardware.locked_mhz() == dict.fromkeys(hardware.held(), (MIN_MHZ, 1200))
    claim(907)
    eventually(lambda: hardware.clocks_mhz(held=True) == {900.0})

    node = eventually(lambda: governed(api, "ClaimsApplied"))
    assert node["status"]["summary"] == {
        "product": "NVIDIA H100 80GB HBM3",
        "gpuCount": len(hardware.gpus()),
        "allocated": 2,
        "claimed": 2,
        "energyOnly": 0,
    }
    held = [gpu for gpu in node["status"]["gpus"] if gpu.get("allocatedTo") == f"{NAMESPACE}/llama"]
    assert [gpu["claim"] for gpu in held] == [{"minMegahertz": 345, "maxMegahertz": 900}] * 2  # 907 is not supported
    assert {(gpu["clockMethod"], gpu["energySource"], gpu["health"]) for gpu in node["status"]["gpus"]} == {
        ("LockedClocks", "Counter", "Healthy")
    }

    labels = {"node": NODE, "gpu_uuid": held[0]["uuid"], "namespace": NAMESPACE, "pod": "llama"}
    eventually(lambda: agent.metrics().of(labels)["dynawatt_gpu_sm_clock_hertz"] == 900e6)
    values = agent.metrics().of(labels)
    assert values["dynawatt_gpu_requested_clock_hertz"] == 900e6
    assert values["dynawatt_gpu_energy_joules_total"] > 0.0
    assert values["dynawatt_gpu_power_watts"] > 0.0

    claim(None)
    eventually(hardware.all_default)
    eventually(lambda: governed(api, "NoClaims"))


def test_an_idle_pod_is_slowed_and_a_burst_brings_it_back_to_the_ceiling_at_once(
    hardware: Hardware, operator: Operator, claim: Any, start_agent: Any, clients: Any
) -> None:
    agent = start_agent()
    claim(1980, IDLE_OR_BUSY)
    eventually(lambda: hardware.clocks_mhz(held=True) == {900.0}, within_s=90.0)
    assert agent.metrics().chosen("dynawatt_governor_reason", "reason") == "load"
    with clients() as burst:
        eventually(lambda: burst.running() > 4)
        seen_s = time.monotonic()
        eventually(lambda: hardware.clocks_mhz(held=True) == {DEFAULT_MHZ}, within_s=10.0)
        print(f"a burst in /metrics reached the clocks after {time.monotonic() - seen_s:.2f} s")
        eventually(lambda: agent.metrics().chosen("dynawatt_governor_reason", "reason") in {"load", "burning"})
    eventually(lambda: hardware.clocks_mhz(held=True) == {900.0}, within_s=90.0)
