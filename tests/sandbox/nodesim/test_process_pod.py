"""Pods of dynawatt's own as real processes, with an API that only takes notes."""

import asyncio
import json
import os
import secrets
import socket
from datetime import UTC, datetime

import pytest

from dynawatt.sandbox.nodesim.addresses import PodAddresses
from dynawatt.sandbox.nodesim.process_pod import Machine, ProcessPod
from dynawatt.sandbox.processes import identify

WAIT_S = 60.0


class Api:
    def __init__(self):
        self.statuses, self.deleted, self.warnings = [], asyncio.Event(), []
        self.changed = asyncio.Event()

    async def delete(self, pod, uid):
        self.deleted.set()

    async def warn(self, pod, uid, reason, message):
        self.warnings.append((reason, message))

    async def put_status(self, pod, uid, status):
        self.statuses.append(status)
        self.changed.set()

    async def read(self, plural, namespace, name):
        raise AssertionError("nothing is mounted")

    async def pod_kubeconfig(self, pod):
        cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        users = [{"name": "u", "user": {"token": "t"}}]
        return json.dumps({"clusters": [cluster], "contexts": [context], "users": users, "current-context": "c"})

    async def until(self, holds):
        async with asyncio.timeout(WAIT_S):
            while not (self.statuses and holds(self.statuses[-1])):
                self.changed.clear()
                await self.changed.wait()
        return self.statuses[-1]


@pytest.fixture
async def api():
    return Api()


@pytest.fixture
async def run(api, tmp_path):
    runners = []

    def start(*arguments, policy="Never", uid="u1", **container):
        network = f"127.{secrets.randbelow(200) + 20}.0.0/16"
        container = {"name": "main", "image": "dynawatt-agent:1", "args": list(arguments), **container}
        spec = {"nodeName": "gpu-1", "restartPolicy": policy, "containers": [container]}
        pod = {"metadata": {"name": "p", "namespace": "n", "uid": uid}, "spec": spec}
        machine = Machine(api, tmp_path, PodAddresses(network), tmp_path)
        runners.append(ProcessPod(pod, machine))
        return runners[-1], pod

    yield start
    for runner in runners:
        await runner.gone()


def state(status):
    [container] = status["containerStatuses"]
    return {key: value for key, value in container["state"].items() if value}


def deleted(pod):
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return pod | {"metadata": pod["metadata"] | {"deletionTimestamp": now}}


@pytest.mark.parametrize(
    ("arguments", "phase", "code"), [(["--version"], "Succeeded", 0), (["--no-such-option"], "Failed", 2)]
)
async def test_the_exit_code_decides_about_the_phase(api, run, arguments, phase, code):
    run(*arguments)
    status = await api.until(lambda status: status["phase"] in ("Succeeded", "Failed"))
    assert status["phase"] == phase
    assert state(status)["terminated"]["exitCode"] == code
    assert ("No such option" in state(status)["terminated"]["message"]) is (code != 0)
    assert not api.deleted.is_set()


async def test_a_container_that_always_runs_is_started_again(api, run):
    run("--version", policy="Always")
    status = await api.until(
        lambda status: "running" in state(status) and status["containerStatuses"][0]["restartCount"]
    )
    assert status["phase"] == "Running"
    assert any(state(each).get("waiting", {}).get("reason") == "CrashLoopBackOff" for each in api.statuses)


async def test_it_is_ready_by_its_probe_and_ends_by_sigterm(api, run):
    """The command waits for an API server that never answers; the probe is answered for it."""
    port = free_port()
    probe = {"httpGet": {"path": "/healthz", "port": "metrics"}, "periodSeconds": 0.1}
    ports = [{"name": "metrics", "containerPort": port}]
    runner, pod = run("uninstall", "give-back", readinessProbe=probe, ports=ports)
    status = await api.until(lambda status: "running" in state(status))
    assert status["containerStatuses"][0]["ready"] is False
    server = await asyncio.start_server(say_ok, status["podIP"], port)
    await api.until(lambda status: status["containerStatuses"][0]["ready"])
    server.close()
    await api.until(lambda status: not status["containerStatuses"][0]["ready"])
    runner.update(deleted(pod))
    async with asyncio.timeout(WAIT_S):
        await api.deleted.wait()


async def test_one_that_fails_its_liveness_probe_is_started_again(api, run):
    probe = {"httpGet": {"port": free_port()}, "periodSeconds": 0.1, "failureThreshold": 2}
    run("uninstall", "give-back", policy="Always", livenessProbe=probe)
    await api.until(lambda status: status["containerStatuses"][0]["restartCount"])
    assert api.warnings[0][0] == "Unhealthy"


async def say_ok(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    writer.close()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


async def test_what_is_not_played_is_said(api, run):
    run("--version", command=["sh"])
    status = await api.until(lambda status: "waiting" in state(status))
    assert state(status)["waiting"]["reason"] == "CreateContainerError"
    assert api.warnings == [("FailedCreate", "command 'sh': only 'dynawatt' can be run here")]


async def test_a_successor_ends_what_a_killed_kubelet_left_running(api, run, tmp_path):
    orphan = await asyncio.create_subprocess_exec("sleep", "600", start_new_session=True)
    found = identify(orphan.pid)
    directory = tmp_path / "pods" / "u1"
    directory.mkdir(parents=True)
    note = {"pid": found.pid, "start_ticks": found.start_ticks, "boot_id": found.boot_id}
    (directory / "process.json").write_text(json.dumps(note))
    run("--version")
    assert await asyncio.wait_for(orphan.wait(), WAIT_S) == -9
    await api.until(lambda status: status["phase"] == "Succeeded")


async def test_nothing_is_left_of_a_pod_that_is_gone(api, run, tmp_path):
    runner, _ = run("--version", policy="Always")
    await api.until(lambda status: "running" in state(status))
    await runner.gone()
    assert not os.listdir(tmp_path / "pods")
    assert os.listdir(tmp_path / "pod-logs") == ["n_p.log"]
