import os
import threading

import pytest

from dynawatt.adapters.podresources.client import PodResourcesClient
from dynawatt.errors import OperationError
from dynawatt.perfmodel.gpus import H100_SXM
from dynawatt.ports import HeldDevice, PodKey
from dynawatt.sandbox.nodesim.nodes import SimulatedNode
from dynawatt.sandbox.nodesim.pod_resources import (
    SOCKET_PATH_BYTES,
    PodResourcesServer,
    PodResourcesServers,
    pod_resources_socket,
)

A, B = PodKey("prod", "a"), PodKey("prod", "b")


@pytest.fixture
def servers(tmp_path):
    made = PodResourcesServers(tmp_path)
    yield made
    made.stop()


def node(name="gpu-node-0"):
    return SimulatedNode.create(name, spec=H100_SXM, gpu_count=4, now_s=0.0)


def ask(path):
    client = PodResourcesClient(path, timeout_s=5.0)
    try:
        return client.held_devices()
    finally:
        client.close()


def held(pod, *gpus):
    return sorted(HeldDevice(pod, "nvidia.com/gpu", gpu.uuid) for gpu in gpus)


def test_every_node_tells_what_its_own_pods_hold(servers, tmp_path):
    nodes = {name: node(name) for name in ("gpu-node-0", "gpu-node-1")}
    servers.follow(nodes)
    paths = [pod_resources_socket(tmp_path, name) for name in nodes]
    assert [ask(path) for path in paths] == [[], []]
    first, second = nodes.values()
    first.allocate({"1": (A, 2), "2": (B, 1)}, 1.0)
    second.allocate({"3": (A, 4)}, 1.0)
    assert ask(paths[0]) == sorted([*held(A, *first.gpus[:2]), *held(B, first.gpus[2])])
    assert ask(paths[1]) == held(A, *second.gpus)
    first.allocate({"2": (B, 1)}, 2.0)
    assert ask(paths[0]) == held(B, first.gpus[2])


def test_servers_come_and_go_with_their_nodes(servers, tmp_path):
    nodes = {"gpu-node-0": node()}
    path = pod_resources_socket(tmp_path, "gpu-node-0")
    for _ in range(2):
        servers.follow(nodes)
        servers.follow(nodes)
        assert ask(path) == []
        servers.follow({})
        assert not path.exists()


def test_a_socket_that_a_dead_process_left_is_replaced(servers, tmp_path):
    path = pod_resources_socket(tmp_path, "gpu-node-0")
    path.parent.mkdir()
    path.write_text("")
    servers.follow({"gpu-node-0": node()})
    assert ask(path) == []


def test_only_this_user_gets_at_the_sockets(servers, tmp_path):
    servers.follow({"gpu-node-0": node()})
    assert pod_resources_socket(tmp_path, "gpu-node-0").parent.stat().st_mode & 0o777 == 0o700


def test_allocations_may_change_while_the_kubelet_answers(servers, tmp_path):
    simulated = node()
    servers.follow({"gpu-node-0": simulated})
    done = threading.Event()

    def churn():
        count = 0
        while not done.wait(0.0005):
            count += 1
            simulated.allocate({str(count): (A, 1 + count % 4)}, float(count))

    churning = threading.Thread(target=churn)
    churning.start()
    client = PodResourcesClient(pod_resources_socket(tmp_path, "gpu-node-0"), timeout_s=5.0)
    try:
        seen = {len(client.held_devices()) for _ in range(100)}
    finally:
        done.set()
        churning.join()
        client.close()
    assert seen <= {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    "device",
    [
        HeldDevice(A, "nvidia.com/gpu", "GPU-1::3"),
        HeldDevice(A, "nvidia.com/mig-1g.10gb", "MIG-1"),
        HeldDevice(A, "gpu.nvidia.com", "gpu-node-0/gpu-1", dynamic=True),
    ],
)
def test_a_server_of_its_own_gives_whatever_it_is_told(tmp_path, device):
    path = tmp_path / "kubelet" / "a.sock"
    server = PodResourcesServer(path, lambda: [device])
    server.start()
    assert ask(path) == [device]
    server.stop()
    server.stop()
    assert not path.exists()


def test_long_paths_move_to_a_short_place(tmp_path, caplog):
    caplog.set_level("INFO")
    deep = tmp_path / ("d" * 90)
    names = ["gpu-node-0", "gpu-node-1"]
    paths = [pod_resources_socket(deep, name) for name in names]
    assert len(set(paths)) == 2
    assert all(len(os.fsencode(path)) <= SOCKET_PATH_BYTES for path in paths)
    assert paths[0] != pod_resources_socket(tmp_path / ("e" * 90), names[0])
    servers = PodResourcesServers(deep)
    servers.follow({name: node(name) for name in names})
    assert [ask(path) for path in paths] == [[], []]
    servers.stop()
    assert not any(path.exists() for path in paths)
    assert f"node=gpu-node-0 socket={paths[0]}" in caplog.text


def test_the_longest_path_that_fits_is_kept(tmp_path):
    fits = SOCKET_PATH_BYTES - len(os.fsencode(tmp_path / "kubelet" / ".sock"))
    assert pod_resources_socket(tmp_path, "n" * fits).is_relative_to(tmp_path)
    assert not pod_resources_socket(tmp_path, "n" * (fits + 1)).is_relative_to(tmp_path)


def test_the_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(OperationError, match="belongs to another user"):
        PodResourcesServer(tmp_path / "a.sock", list).start()
