"""What ends a claim: all clocks go back to their default, whoever or whatever went away."""

import signal
import time
from typing import Any

import pytest
from kubernetes.client import ApiClient

from dynawatt.adapters.kubernetes.client import request_json

from .cluster import GPUNODE, LEASE_S, Operator, eventually, governed
from .hardware import Hardware

pytestmark = pytest.mark.integration


def test_a_lease_that_is_not_renewed_ends_the_claim(
    api: ApiClient, hardware: Hardware, operator: Operator, claim: Any, start_agent: Any
) -> None:
    start_agent()
    claim(900)
    eventually(lambda: hardware.clocks_mhz(held=True) == {900.0})
    operator.stop()
    stopped_s = time.monotonic()
    eventually(hardware.all_default, within_s=LEASE_S + 3.0)
    assert time.monotonic() - stopped_s > LEASE_S - 1.5
    eventually(lambda: governed(api, "LeaseStale"))


def test_the_switch_lets_all_clocks_go_until_it_is_on_again(
    api: ApiClient, hardware: Hardware, operator: Operator, claim: Any, start_agent: Any, switch: Any
) -> None:
    agent = start_agent()
    claim(900)
    eventually(lambda: hardware.clocks_mhz(held=True) == {900.0})
    switch("false")
    eventually(hardware.all_default)
    node = eventually(lambda: governed(api, "ClocksSwitchedOff"))
    assert node["status"]["summary"]["claimed"] == 0
    assert agent.metrics().total("dynawatt_agent_switched_off") == 1.0
    claim(1200)
    time.sleep(3.0)
    assert hardware.all_default()
    switch("true")
    eventually(lambda: hardware.clocks_mhz(held=True) == {1200.0})
    eventually(lambda: governed(api, "ClaimsApplied"))


def test_sigterm_brings_all_clocks_back(
    api: ApiClient, hardware: Hardware, operator: Operator, claim: Any, start_agent: Any
) -> None:
    agent = start_agent()
    claim(900)
    eventually(lambda: hardware.clocks_mhz(held=True) == {900.0})
    assert agent.end(signal.SIGTERM) == 0
    eventually(hardware.all_default, within_s=1.0)
    assert request_json(api, "GET", GPUNODE)["status"]["summary"]["claimed"] == 0
    assert "Traceback" not in agent.log.read_text()


def test_after_sigkill_the_next_start_resets(
    hardware: Hardware, operator: Operator, claim: Any, start_agent: Any
) -> None:
    agent = start_agent()
    claim(900)
    eventually(lambda: hardware.clocks_mhz(held=True) == {900.0})
    agent.end(signal.SIGKILL)
    assert hardware.clocks_mhz(held=True) == {900.0}
    operator.stop()
    start_agent()
    eventually(hardware.all_default)


def test_reset_all_is_for_a_node_without_an_agent(
    hardware: Hardware, operator: Operator, claim: Any, start_agent: Any
) -> None:
    agent = start_agent()
    claim(900)
    eventually(lambda: hardware.clocks_mhz(held=True) == {900.0})
    refused = agent.reset_all()
    assert refused.returncode == 1, refused.stderr
    assert refused.stderr.count("\n") == 1
    assert hardware.clocks_mhz(held=True) == {900.0}
    agent.end(signal.SIGKILL)
    done = agent.reset_all()
    assert done.returncode == 0, done.stderr
    assert done.stdout == "8 of 8 GPUs are at their default clocks\n"
    eventually(hardware.all_default, within_s=1.0)
