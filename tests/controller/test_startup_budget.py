"""Probes that give up before replicas usually are Ready are told of."""

import pytest

from .conftest import make_deployment
from .running import Running

HEALTH = {"httpGet": {"path": "/health", "port": 8000}}


def started(monkeypatch, *, knobs=("Clock",), **probes):
    """Pods take 60 s to start."""
    deployment = make_deployment(2, gpus=4)
    deployment["spec"]["template"]["spec"]["containers"][0] |= probes
    return Running(monkeypatch, deployment, knobs=list(knobs))


def probe(tries):
    return HEALTH | {"periodSeconds": 10, "failureThreshold": tries}


@pytest.mark.parametrize(
    ("probes", "budget_s"),
    [
        ({"startupProbe": probe(3)}, 30),
        ({"startupProbe": probe(20)}, None),
        ({"livenessProbe": probe(3)}, 30),
        ({"livenessProbe": probe(3), "startupProbe": probe(20)}, None),
        ({}, None),
    ],
)
async def test_a_budget_below_the_learnt_start_up(monkeypatch, probes, budget_s):
    running = started(monkeypatch, **probes)
    await running.run(3)
    told = running.told("Progressing")
    if budget_s is None:
        assert told == ("False", "Steady", "2 replicas are Ready")
        return
    assert told[:2] == ("False", "StartupBudgetTooSmall")
    assert f"'llama': its probes give up on a replica after {budget_s} s, and one takes " in told[2]
    assert "raise `failureThreshold`" in told[2]
    container = running.cluster.deployment_["spec"]["template"]["spec"]["containers"][0]
    container["startupProbe"] = probe(100)
    await running.run(1)
    assert running.reason("Progressing") == "Steady"


async def test_nothing_is_told_before_any_start_was_seen(monkeypatch):
    running = started(monkeypatch, startupProbe=probe(3))
    for pod in running.cluster.pods_:
        pod["metadata"]["creationTimestamp"] = "2025-12-31T00:00:00Z"  # Ready only since a failed probe, long after
    await running.run(3)
    assert running.reason("Progressing") == "Steady"


async def test_siblings_are_made_with_time_enough(monkeypatch):
    running = started(monkeypatch, knobs=["Shape"], startupProbe=probe(3))
    await running.run(40, until=lambda: running.replicas() == {"llama": 0, "tp1": 2} and running.reshape is None)
    await running.run(2)
    message = running.told("Progressing")[2]
    assert "'llama'" in message
    assert "'llama-" not in message
