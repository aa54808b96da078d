import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress

import grpc
import pytest

from dynawatt.adapters.podresources.client import MAX_BYTES, PodResourcesClient
from dynawatt.adapters.podresources.podresources_pb2 import ListPodResourcesResponse
from dynawatt.ports import AllocationsUnavailable, HeldDevice, PodKey
from dynawatt.sandbox.nodesim.pod_resources import PodResourcesServer

A, B = PodKey("prod", "vllm-0"), PodKey("test", "vllm-0")
WHOLE = [HeldDevice(A, "nvidia.com/gpu", "GPU-1"), HeldDevice(A, "nvidia.com/gpu", "GPU-2")]
# What the kubelet's own server (k8s.io/kubernetes v1.36.3) sent for a pod with a GPU, a network card, pinned CPUs,
# memory, and a claim for a GPU and an IMEX channel.
RECORDED = (
    b"\n\xe6\x01\n\x06vllm-0\x12\x04prod\x1a\xd5\x01\n\x04vllm\x12\x1d\n\x0envidia.com/gpu\x12\x05GPU-0\x1a\x04\n\x02\x08"
    b'\x01\x12\x10\n\x08rdma/hca\x12\x04hca0\x1a\x04\x01\x02\xac\x02"\x0e\n\x06memory\x10\x80\x80\x80\x80@*\x85\x01\x12'
    b'\x05claim\x1a\x04prod"F\n!\n\x1fk8s.gpu.nvidia.com/device=gpu-0\x12\x0egpu.nvidia.com\x1a\x06node-a"\x05gpu-0*\x02'
    b's1".\x12\x19compute-domain.nvidia.com\x1a\x06node-a"\tchannel-0'
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kubelet.sock"


@pytest.fixture
def kubelet(path):
    server = PodResourcesServer(path, lambda: WHOLE)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client(path):
    made = PodResourcesClient(path, timeout_s=5.0)
    yield made
    made.close()


def problem(client):
    with pytest.raises(AllocationsUnavailable) as caught:
        client.held_devices()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def pods(*containers, name="vllm-0"):
    return ListPodResourcesResponse(
        pod_resources=[{"namespace": "prod", "name": name, "containers": list(containers)}]
    ).SerializeToString()


def test_devices_come_sorted_over_one_connection(kubelet, client):
    kubelet.raw = pods({"devices": [{"resource_name": "nvidia.com/gpu", "device_ids": ["GPU-2", "GPU-1"]}]})
    assert client.held_devices() == WHOLE
    kubelet.raw = None
    assert client.held_devices() == WHOLE
    assert kubelet.calls == 2


def test_a_real_kubelets_answer(kubelet, client):
    kubelet.raw = RECORDED
    assert client.held_devices() == [
        HeldDevice(A, "gpu.nvidia.com", "node-a/gpu-0", dynamic=True),
        HeldDevice(A, "nvidia.com/gpu", "GPU-0"),
    ]


@pytest.mark.parametrize(
    ("resource", "counts"),
    [
        ("nvidia.com/gpu", True),
        ("nvidia.com/gpu.shared", True),
        ("nvidia.com/mig-1g.10gb", True),
        ("nvidia.com/mig-1g.10gb.shared", True),
        ("nvidia.com/GA102GL_A10", False),
        ("nvidia.com/hostdev", False),
        ("amd.com/gpu", False),
        ("", False),
    ],
)
def test_only_nvidias_gpu_resources_count(kubelet, client, resource, counts):
    kubelet.raw = pods({"devices": [{"resource_name": resource, "device_ids": ["0"]}]})
    assert client.held_devices() == ([HeldDevice(A, resource, "0")] if counts else [])


@pytest.mark.parametrize(
    ("claimed", "found"),
    [
        ({"driver_name": "gpu.nvidia.com", "pool_name": "n", "device_name": "gpu-3"}, ("gpu.nvidia.com", "n/gpu-3")),
        ({"driver_name": "x.gpu.nvidia.com", "device_name": "gpu-3"}, ("x.gpu.nvidia.com", "/gpu-3")),
        ({"driver_name": "notgpu.nvidia.com", "device_name": "gpu-3"}, None),
        ({"driver_name": "gpu.example.com", "cdi_devices": [{"name": "k8s.gpu.nvidia.com/claim=7"}]}, None),
        ({"cdi_devices": [{"name": "k8s.gpu.nvidia.com/claim=7"}]}, ("gpu.nvidia.com", "k8s.gpu.nvidia.com/claim=7")),
        ({"cdi_devices": [{"name": "k8s.compute-domain.nvidia.com/claim=7"}]}, None),
        ({}, None),
    ],
)
def test_claims_for_gpus_are_told_from_others(kubelet, client, claimed, found):
    kubelet.raw = pods({"dynamic_resources": [{"claim_resources": [claimed]}]})
    assert client.held_devices() == ([HeldDevice(A, *found, dynamic=True)] if found else [])


def test_a_device_that_two_containers_have_is_one_device(kubelet, client):
    both = {"devices": [{"resource_name": "nvidia.com/gpu", "device_ids": ["GPU-1", "GPU-1"]}]}
    kubelet.raw = pods(both, both)
    assert client.held_devices() == WHOLE[:1]


def test_pods_of_the_same_name_in_two_namespaces_differ(path, client):
    held = [HeldDevice(B, "nvidia.com/gpu", "GPU-2"), HeldDevice(A, "nvidia.com/gpu", "GPU-1")]
    server = PodResourcesServer(path, lambda: held)
    server.start()
    assert client.held_devices() == sorted(held)
    server.stop()


def test_a_node_without_gpu_pods_has_an_empty_answer(kubelet, client):
    kubelet.raw = b""
    assert client.held_devices() == []


def test_a_restarted_kubelet_is_found_again(kubelet, client):
    assert client.held_devices() == WHOLE
    kubelet.stop()
    said = {problem(client) for _ in range(5)}
    assert any("the socket does not exist" in text for text in said)
    kubelet.start()
    assert client.held_devices() == WHOLE


def test_a_kubelet_replaced_between_two_calls_costs_one_answer_at_most(kubelet, client):
    assert client.held_devices() == WHOLE
    kubelet.stop()
    kubelet.start()
    with suppress(AllocationsUnavailable):
        client.held_devices()
    assert client.held_devices() == WHOLE


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (grpc.StatusCode.UNIMPLEMENTED, "does not serve PodResources v1"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "is asked too often"),
        (grpc.StatusCode.UNAVAILABLE, "closed the connection"),
        (grpc.StatusCode.PERMISSION_DENIED, "answered PERMISSION_DENIED"),
        (grpc.StatusCode.INTERNAL, "answered INTERNAL"),
    ],
)
def test_refusals_are_told_and_forgotten(kubelet, client, path, status, said):
    kubelet.status = status
    told = {problem(client) for _ in range(3)}
    assert len(told) == 1
    assert said in told.pop()
    kubelet.status = None
    assert client.held_devices() == WHOLE


def test_another_service_on_the_socket(path, client):
    server = grpc.server(None)
    server.add_insecure_port(f"unix:{path}")
    server.start()
    assert "does not serve PodResources v1" in problem(client)
    server.stop(None).wait()


def test_a_kubelet_that_hangs(kubelet, path):
    client = PodResourcesClient(path, timeout_s=0.2)
    kubelet.delay_s = 60.0
    assert {problem(client) for _ in range(2)} == {f"the kubelet at {path} did not answer within 0.2 s"}
    kubelet.delay_s = 0.0
    client = PodResourcesClient(path, timeout_s=5.0)
    assert client.held_devices() == WHOLE
    client.close()


@pytest.mark.parametrize("garbage", [b"\xff" * 50, b"\n\x05\n\x03\xff\xfe\xfd", RECORDED[:-3], b"HTTP/1.1 200 OK"])
def test_garbage(kubelet, client, path, garbage):
    kubelet.raw = garbage
    assert problem(client) == f"the answer of the kubelet at {path} cannot be read"
    kubelet.raw = None
    assert client.held_devices() == WHOLE


@pytest.mark.parametrize("size", [MAX_BYTES + 1, 3 * MAX_BYTES])
def test_an_answer_without_end_is_refused(kubelet, client, path, size):
    kubelet.raw = b"\0" * size
    assert problem(client) == f"the kubelet at {path} answered with more than 4 MiB"


@contextmanager
def listening(path, treat):
    """A server that is no gRPC server; ``treat`` gets every connection."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def accept():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                treat(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_somebody_who_closes_every_connection(path, client):
    with listening(path, lambda connection: connection.close()):
        assert {problem(client) for _ in range(3)} == {f"the kubelet at {path} closed the connection"}


def test_somebody_who_speaks_something_else(path, client):
    def answer(connection):
        with connection, suppress(BrokenPipeError):  # the first connection of the client only looks who is there
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    with listening(path, answer):
        assert {problem(client) for _ in range(3)} == {f"the kubelet at {path} closed the connection"}


def test_somebody_who_never_speaks(path):
    open_connections = []
    client = PodResourcesClient(path, timeout_s=0.3)
    with listening(path, open_connections.append):
        assert {problem(client) for _ in range(2)} == {f"the kubelet at {path} did not answer within 0.3 s"}
    for connection in open_connections:
        connection.close()


def test_no_socket(client, path):
    assert problem(client) == (
        f"no kubelet at {path}: the socket does not exist; is the directory mounted, and does the kubelet run?"
    )


def test_a_socket_without_a_listener(client, path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert "nobody listens on the socket" in problem(client)


def test_a_file_or_a_folder_instead_of_a_socket(client, path):
    path.write_text("")
    assert "nobody listens on the socket" in problem(client)
    path.unlink()
    path.mkdir()
    assert "no kubelet at" in problem(client)


def test_a_path_that_is_too_long(tmp_path):
    assert "no kubelet at" in problem(PodResourcesClient(tmp_path / ("x" * 200)))


@contextmanager
def without_root():
    effective = os.geteuid()
    if effective == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(effective)


def test_a_socket_that_only_root_may_use(kubelet, client, path):
    path.chmod(0)
    with without_root():
        assert problem(client) == f"no kubelet at {path}: permission denied; the agent must run as root"


CHILD = """
import sys
from pathlib import Path
from dynawatt.adapters.podresources.client import PodResourcesClient
from dynawatt.ports import AllocationsUnavailable
client = PodResourcesClient(Path(sys.argv[1]), timeout_s=5.0)
for line in sys.stdin:
    try:
        print(len(client.held_devices()), flush=True)
    except AllocationsUnavailable:
        print("away", flush=True)
"""


def test_nothing_but_the_exception_is_told_when_the_kubelet_goes(kubelet, path):
    command = [sys.executable, "-c", CHILD, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as child:

        def ask():
            child.stdin.write("?\n")
            child.stdin.flush()
            return child.stdout.readline()

        for _ in range(8):  # grpc says something about every other time
            assert ask() == "2\n"
            kubelet.stop()
            assert "away\n" in [ask() for _ in range(3)]
            kubelet.start()
        child.stdin.close()
        assert child.stderr.read() == ""
        assert child.wait(10) == 0
