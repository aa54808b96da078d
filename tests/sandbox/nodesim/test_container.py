from pathlib import Path

import pytest

from dynawatt.sandbox.nodesim.addresses import PodAddresses
from dynawatt.sandbox.nodesim.container import ContainerError, container_process
from dynawatt.sandbox.nodesim.images import is_own_image, is_own_pod

POD = {
    "metadata": {"name": "agent-x", "namespace": "green", "uid": "u1"},
    "spec": {"nodeName": "gpu-1", "serviceAccountName": "agent"},
}
PATHS = {"/var/lib/a": Path("there/a"), "/var/lib/a/socket": Path("short"), "/scratch": Path("there/scratch")}


def process(**container):
    return container_process(container, pod=POD, address="127.9.0.1", paths=PATHS)


@pytest.mark.parametrize(
    ("image", "own"),
    [
        ("dynawatt-operator", True),
        ("dynawatt-agent:0.1.0", True),
        ("registry.example.com:5000/ai/dynawatt-operator:1", True),
        ("dynawatt-agent@sha256:00", True),
        ("dynawatt", False),
        ("dynawatt-agent/vllm:1", False),
        ("vllm/vllm-openai:v0.18.0", False),
    ],
)
def test_own_images_by_their_name(image, own):
    assert is_own_image(image) is own
    assert is_own_pod({"containers": [{"image": image}]}) is own


def test_arguments_and_variables_as_kubernetes_expands_them():
    made = process(
        env=[
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "BOTH", "value": "$(NODE)/$(ADDRESS)"},
            {"name": "EMPTY"},
        ],
        args=["agent", "--on=$(BOTH)", "--literal=$$(NODE)", "--unknown=$(LATER)"],
    )
    assert made.environment == {"NODE": "gpu-1", "ADDRESS": "127.9.0.1", "BOTH": "gpu-1/127.9.0.1", "EMPTY": ""}
    assert made.arguments == ["agent", "--on=gpu-1/127.9.0.1", "--literal=$(NODE)", "--unknown=$(LATER)"]


@pytest.mark.parametrize(
    ("given", "placed"),
    [
        ("/var/lib/a", "there/a"),
        ("/var/lib/a/b/c", "there/a/b/c"),
        ("--dir=/var/lib/a/b", "--dir=there/a/b"),
        ("--socket=/var/lib/a/socket", "--socket=short"),
        ("/var/lib/abc", "/var/lib/abc"),
        ("--url=http://host/var/lib/a", "--url=http://host/var/lib/a"),
        ("x=/scratch", "x=/scratch"),
    ],
)
def test_paths_in_volumes_are_placed_where_the_volumes_lie(given, placed):
    assert process(args=[given]).arguments == [placed]


def test_a_variable_may_be_a_path():
    assert process(env=[{"name": "TMPDIR", "value": "/scratch/x"}]).environment == {"TMPDIR": "there/scratch/x"}


def test_the_command_is_dynawatt():
    assert process(command=["/usr/bin/dynawatt", "agent"], args=["-h"]).arguments == ["agent", "-h"]
    with pytest.raises(ContainerError, match="command 'sh'"):
        process(command=["sh", "-c", "true"])


def test_what_cannot_be_had_is_named():
    source = {"secretKeyRef": {"name": "a", "key": "b"}}
    with pytest.raises(ContainerError, match=r"variable TOKEN: .*secretKeyRef"):
        process(env=[{"name": "TOKEN", "valueFrom": source}])


def test_addresses_come_from_the_top_and_are_used_again():
    addresses = PodAddresses("127.64.0.0/16")
    assert [addresses.take("a"), addresses.take("b")] == ["127.64.255.254", "127.64.255.253"]
    addresses.give_back("a")
    assert addresses.take("c") == "127.64.255.254"
    assert addresses.take("d", known="127.64.255.252") == "127.64.255.252"
    assert addresses.take("e") == "127.64.255.251"
