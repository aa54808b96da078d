import ipaddress
import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import datetime

import httpx
import pytest

from dynawatt.sandbox.build import ensure_built
from dynawatt.sandbox.paths import binaries_root
from dynawatt.sandbox.processes import find_marked
from dynawatt.sandbox.state import directory_of, existing_names, load_state

pytestmark = pytest.mark.integration

POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{test: sandbox}}}}
spec:
  terminationGracePeriodSeconds: {grace_s}
  containers:
  - name: main
    image: example.invalid/any
    ports: [{port}]
    resources: {{limits: {{nvidia.com/gpu: {gpus}}}}}
"""


def dynawatt(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "dynawatt", "sandbox", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def leaves_nothing(name):
    return not find_marked(directory_of(name)) and not directory_of(name).exists()


def moment(text):
    return datetime.fromisoformat(text)


def condition(pod, type_):
    return next(each for each in pod["status"]["conditions"] if each["type"] == type_)


@pytest.fixture
def name():
    name = f"test-own-{os.getpid()}"
    yield name
    dynawatt("down", "--name", name)
    assert leaves_nothing(name)


@pytest.fixture
def pod(sandbox_kubectl):
    created = []

    def create(name, *, gpus, grace_s=0, port="{containerPort: 9999}"):
        created.append(name)
        sandbox_kubectl("apply", "-f", "-", stdin=POD.format(name=name, gpus=gpus, grace_s=grace_s, port=port))
        return name

    yield create
    for each in created:
        sandbox_kubectl("delete", "pod", each, "--ignore-not-found", "--force", "--grace-period=0")


def test_build_makes_the_driver_too(tmp_path, monkeypatch):
    ensure_built()
    programs = [path for path in binaries_root().iterdir() if not path.name.startswith(("driver-", "."))]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    binaries_root().mkdir(parents=True)
    for path in programs:
        (binaries_root() / path.name).symlink_to(path)
    for _ in range(2):
        done = dynawatt("build")
        assert done.returncode == 0, done.stderr
        assert [path.name for path in binaries_root().glob("driver-current-*/*")] == ["libnvidia-ml.so.1"]


def test_the_life_of_a_sandbox(name):
    small = ["up", "--name", name, "--nodes", "1", "--no-dynawatt"]
    first = dynawatt(*small)
    assert first.returncode == 0, first.stderr
    took_s = float(re.search(r"is ready after ([\d.]+) s: 1 node with 8 ", first.stdout)[1])
    assert took_s < 15
    state = load_state(name)
    assert state.directory.stat().st_mode & 0o077 == 0

    second = dynawatt(*small)
    assert (second.returncode, "already runs" in second.stdout) == (0, True)
    assert load_state(name) == state

    other = dynawatt(*small, "--gpus-per-node", "4")
    assert other.returncode == 2
    assert re.search(rf"gpus-per-node is 8, not 4.*: .*dynawatt sandbox down --name {name}\n$", other.stderr)

    assert "gpu-node-0" in dynawatt("kubectl", "--name", name, "--", "get", "nodes", "-o", "name").stdout
    assert dynawatt("kubeconfig", "--name", name).stdout == f"{state.admin_kubeconfig}\n"
    assert dynawatt("kubeconfig", "--name", name, "--raw").stdout == state.admin_kubeconfig.read_text()
    assert dynawatt("status", "--name", name).returncode == 0

    os.kill(state.processes["kwok"].pid, signal.SIGKILL)
    time.sleep(0.1)
    status = dynawatt("status", "--name", name)
    assert status.returncode == 1
    assert re.search(r"^kwok +dead ", status.stdout, re.MULTILINE)
    assert re.search(r"(?s)kwok died; the last lines of .*kwok\.log:\n  .*Patch node", status.stderr)
    listed = json.loads(dynawatt("status", "--name", name, "--json").stdout)["components"]
    assert [component["name"] for component in listed if not component["running"]] == ["kwok"]
    again = dynawatt(*small)
    assert again.returncode == 1
    assert re.search(r"is broken: end it with: dynawatt sandbox down .*\nkwok died", again.stderr)

    assert dynawatt("down", "--name", name).stdout == f"Sandbox {name!r} ended.\n"
    assert leaves_nothing(name)
    assert not any(httpx_answers(record.url) for record in state.processes.values() if record.url)
    assert dynawatt("down", "--name", name).stdout == f"Sandbox {name!r} does not run.\n"
    assert dynawatt("status", "--name", name).returncode == 2


def httpx_answers(url):
    try:
        httpx.get(url, verify=False)
    except httpx.HTTPError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("component", ["etcd", "kube-apiserver", "kwok"])
def test_an_interrupted_start_leaves_nothing(name, until, number, component):
    # With operator and agents to start after KWOK, so that the signal comes before all is up.
    command = [sys.executable, "-m", "dynawatt", "sandbox", "up", "--name", name, "--nodes", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until(lambda: (state := load_state(name)) and component in state.processes)
    process.send_signal(number)
    assert "Traceback" not in process.communicate(timeout=30)[1]
    # Shells call both 130: interrupted during an import, Python ends itself by SIGINT, whatever main returns.
    assert process.returncode in {130, -signal.SIGINT}
    assert leaves_nothing(name)


def test_a_killed_start_is_cleaned_up_by_the_next_command(name, until):
    command = [sys.executable, "-m", "dynawatt", "sandbox", "up", "--name", name, "--nodes", "1", "--no-dynawatt"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: (state := load_state(name)) and "etcd" in state.processes)
    process.kill()
    process.wait()
    left = find_marked(directory_of(name))
    assert left
    (directory_of(name) / "state.json").write_text("half")
    assert dynawatt("down", "--name", name).returncode == 0
    assert leaves_nothing(name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["up", "--nodes", "0"], "nodes is 0: use 1 to 64"),
        (["up", "--nodes", "many"], "'--nodes'"),
        (["up", "--gpu", "a100"], "gpu 'a100' is unknown"),
        (["down", "--name", "../../x"], "sandbox name '../../x'"),
        (["status", "--name", "no-such"], "sandbox 'no-such' does not exist: start it with: dynawatt sandbox up"),
        (["kubectl", "--name", "no-such", "--", "get", "pods"], "sandbox 'no-such' does not exist"),
    ],
)
def test_bad_input_is_one_line_and_starts_nothing(arguments, message):
    before = existing_names()
    done = dynawatt(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert existing_names() == before


def test_nodes_are_ready_and_offer_their_gpus(sandbox, sandbox_kubectl):
    nodes = [sandbox_kubectl.get("node", name) for name in sandbox.options.node_names()]
    for node in nodes:
        assert condition(node, "Ready")["status"] == "True"
        assert node["status"]["allocatable"]["nvidia.com/gpu"] == "8"
        assert node["metadata"]["labels"]["nvidia.com/gpu.product"] == "NVIDIA-H100-80GB-HBM3"


def test_pods_run_on_a_loopback_address_and_are_ready_after_the_start_up_delay(sandbox, sandbox_kubectl, pod, until):
    names = [pod(f"starting-{index}", gpus=8) for index in range(3)]

    def running():
        pods = [sandbox_kubectl.get("pod", name) for name in names]
        started = [each for each in pods if each["status"]["phase"] == "Running"]
        return started if len(started) == 2 else None

    started = until(running)
    assert len({each["spec"]["nodeName"] for each in started}) == 2
    network = ipaddress.ip_network(load_state(sandbox.options.name).pod_network)
    assert all(ipaddress.ip_address(each["status"]["podIP"]) in network for each in started)

    for each in started:
        name = each["metadata"]["name"]
        sandbox_kubectl("annotate", "pod", name, f"changed={time.time()}")  # must not hold the pod up
        sandbox_kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=10s")
        ready = sandbox_kubectl.get("pod", name)
        delay = moment(condition(ready, "Ready")["lastTransitionTime"]) - moment(ready["status"]["startTime"])
        assert 2 <= delay.total_seconds() <= 4

    [waiting] = set(names) - {each["metadata"]["name"] for each in started}
    sandbox_kubectl("delete", "pod", waiting, "--grace-period=30", "--timeout=5s")


def test_a_deleted_pod_stays_for_its_grace_period(sandbox_kubectl, pod, until):
    name = pod("leaving", gpus=1, grace_s=4)
    until(lambda: sandbox_kubectl.get("pod", name)["status"]["phase"] == "Running")
    started_s = time.monotonic()
    sandbox_kubectl("delete", "pod", name, "--timeout=20s")
    assert 3 <= time.monotonic() - started_s <= 7  # deletion times have whole seconds


def test_prometheus_scrapes_running_vllm_pods_only(sandbox, sandbox_kubectl, pod, until):
    names = [pod("served", gpus=1, port="{containerPort: 1234, name: http}"), pod("other", gpus=1), pod("late", gpus=9)]

    def targets(kind):
        url = f"{sandbox.prometheus_url}/api/v1/targets?state={kind}"
        return httpx.get(url).json()["data"][f"{kind}Targets"]

    def active():
        return [each["labels"] for each in targets("active") if each["labels"].get("pod") in names]

    [labels] = until(active)
    served = sandbox_kubectl.get("pod", "served")
    assert labels == {
        "job": "vllm",
        "instance": f"{served['status']['podIP']}:1234",
        "namespace": "default",
        "pod": "served",
        "node": served["spec"]["nodeName"],
    }
    until(lambda: "other" in [each["discoveredLabels"]["__meta_kubernetes_pod_name"] for each in targets("dropped")])
    assert active() == [labels]
