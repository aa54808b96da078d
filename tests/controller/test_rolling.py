"""Edits of the user's template reach all shapes."""

import pytest

from .conftest import make_deployment
from .running import Running, occupied


@pytest.fixture
def running(monkeypatch):
    """Two replicas on four GPUs each, where two on one GPU carry the load with fewer watts."""
    return Running(monkeypatch)


def reshaped(running):
    return running.replicas() == {"llama": 0, "tp1": 2} and running.reshape is None


def edit(running, **fields):
    deployment = running.cluster.deployment_
    deployment["spec"]["template"]["spec"]["containers"][0] |= fields
    running.cluster.bump(deployment)


def image(deployment):
    return deployment["spec"]["template"]["spec"]["containers"][0]["image"]


async def test_an_edit_of_the_users_template_reaches_the_siblings(running):
    await running.run(30, until=lambda: reshaped(running))
    edit(running, image="vllm-openai:new")
    await running.run(1)
    assert image(running.cluster.named("tp1")) == "vllm-openai:new"
    assert running.replicas() == {"llama": 0, "tp1": 2}
    await running.run(3)
    assert len(running.writes("replace")) == 1


async def test_an_edit_reaches_them_even_while_a_change_is_blocked(running):
    running.cluster.budgets_ = [
        {"metadata": {"name": "pdb"}, "spec": {"selector": {}}, "status": {"disruptionsAllowed": 0}}
    ]
    await running.run(20)
    edit(running, image="vllm-openai:new")
    await running.run(1)
    assert image(running.cluster.named("tp1")) == "vllm-openai:new"


async def test_an_edit_waits_for_room_where_no_other_replica_would_serve_meanwhile(monkeypatch):
    running = Running(monkeypatch)
    running.load_rps = 2.0
    await running.run(30, until=lambda: running.replicas() == {"llama": 0, "tp1": 1})
    await running.run(30, until=lambda: running.reshape is None)
    running.cluster.pods_ += [occupied("a", 8), occupied("b", 7)]
    edit(running, image="vllm-openai:new")
    await running.run(2)
    assert running.writes("replace") == []
    assert running.told("Progressing")[:2] == ("False", "NoSpareCapacity")
    running.cluster.pods_.pop()
    await running.run(1)
    assert image(running.cluster.named("tp1")) == "vllm-openai:new"
    strategy = running.cluster.named("tp1")["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


async def test_an_edit_that_cannot_be_copied_is_told_and_copied_nowhere(running):
    await running.run(30, until=lambda: reshaped(running))
    edit(running, resources={})
    await running.run(2)
    assert running.writes("replace") == []
    assert running.reason("Progressing") == "ReshapeRefused"


async def test_an_edit_to_what_is_refused_is_copied_nowhere_and_what_runs_stays(running):
    """It can be rendered, but two pods of such a template cannot share a node."""
    await running.run(30, until=lambda: reshaped(running))
    edit(running, image="vllm-openai:new", ports=[{"containerPort": 8000, "hostPort": 8000}])
    await running.run(5)
    assert running.writes("replace") == []
    assert running.serving() == {"llama": 0, "tp1": 2}
    status, reason, message = running.told("Progressing")
    assert (status, reason) == ("False", "ReshapeRefused")
    assert "goes on without the edit of llama: `hostPort: 8000` lets one pod run on a node" in message
    edit(running, ports=[{"containerPort": 8000}])
    await running.run(2)
    assert image(running.cluster.named("tp1")) == "vllm-openai:new"
    assert running.reason("Progressing") == "Steady"


async def test_an_edit_that_mounts_a_volume_that_is_missing_waits_until_it_is_there(running):
    await running.run(30, until=lambda: reshaped(running))
    volume = {"name": "weights", "persistentVolumeClaim": {"claimName": "weights"}}
    running.cluster.deployment_["spec"]["template"]["spec"]["volumes"] = [volume]
    edit(running, image="vllm-openai:new")
    await running.run(3)
    assert running.writes("replace") == []
    assert "'weights' of volume 'weights' does not exist" in running.told("Progressing")[2]
    running.cluster.claims_ = {"weights": ["ReadOnlyMany"]}
    await running.run(1)
    assert image(running.cluster.named("tp1")) == "vllm-openai:new"


async def test_an_edit_waits_for_its_change_window(monkeypatch):
    running = Running(monkeypatch, changeWindows=[{"schedule": "0 0 * * *", "durationMinutes": 10}])
    await running.run(30, until=lambda: reshaped(running))
    running.clock.now_s += 900.0
    edit(running, image="vllm-openai:new")
    await running.run(10)
    assert running.writes("replace") == []


async def test_a_rolled_sibling_keeps_the_time_to_start_that_it_needs(monkeypatch):
    deployment = make_deployment(2, gpus=4)
    probe = {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 10, "failureThreshold": 6}
    deployment["spec"]["template"]["spec"]["containers"][0]["startupProbe"] = probe
    running = Running(monkeypatch, deployment)
    await running.run(30, until=lambda: reshaped(running))
    assert startup_tries(running) == 18  # three times the 60 s that its pods take
    edit(running, image="vllm-openai:new")
    await running.run(1)
    assert startup_tries(running) == 18


def startup_tries(running):
    return running.cluster.named("tp1")["spec"]["template"]["spec"]["containers"][0]["startupProbe"]["failureThreshold"]
