import sys
from pathlib import Path

import pytest

from dynawatt.adapters import podresources
from dynawatt.adapters.podresources.podresources_pb2 import DESCRIPTOR

FOLDER = Path(podresources.__file__).parent
# Of k8s.io/kubelet/pkg/apis/podresources/v1/api.proto, v0.36.3.
KUBELET = {
    "ListPodResourcesRequest": {},
    "ListPodResourcesResponse": {"pod_resources": 1},
    "PodResources": {"name": 1, "namespace": 2, "containers": 3},
    "ContainerResources": {"name": 1, "devices": 2, "cpu_ids": 3, "memory": 4, "dynamic_resources": 5},
    "ContainerDevices": {"resource_name": 1, "device_ids": 2, "topology": 3},
    "DynamicResource": {"claim_name": 2, "claim_namespace": 3, "claim_resources": 4},
    "ClaimResource": {"cdi_devices": 1, "driver_name": 2, "pool_name": 3, "device_name": 4, "share_id": 5},
    "CDIDevice": {"name": 1},
}


def test_generated_code_is_what_the_proto_gives(tmp_path):
    protoc = pytest.importorskip("grpc_tools.protoc")
    arguments = [f"-I{FOLDER}", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", "podresources.proto"]
    assert protoc.main([sys.argv[0], *arguments]) == 0
    for name in ("podresources_pb2.py", "podresources_pb2.pyi"):
        assert without_version(FOLDER / name) == without_version(tmp_path / name), f"generate {name} anew"


def without_version(path):
    """Without what differs between releases of protoc."""
    text = path.read_text()
    before, found, after = text.partition("ValidateProtobufRuntimeVersion(")
    return before.partition("# Protobuf Python Version")[0] + after.partition(")")[2] if found else text


def test_every_field_has_the_number_of_the_kubelet():
    assert DESCRIPTOR.package == "v1"
    assert [method.full_name for method in DESCRIPTOR.services_by_name["PodResourcesLister"].methods] == [
        "v1.PodResourcesLister.List"
    ]
    assert set(DESCRIPTOR.message_types_by_name) == set(KUBELET)
    for name, message in DESCRIPTOR.message_types_by_name.items():
        assert {field.name: field.number for field in message.fields}.items() <= KUBELET[name].items()
