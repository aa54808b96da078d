import json

import pytest
from typer.testing import CliRunner

from dynawatt.cli import main
from dynawatt.errors import InvalidInputError, OperationError

from .objects import deployment, gpu, gpu_node, lease, pod, service
from .stored_api import StoredApi, serving


@pytest.fixture
def api(tmp_path):
    stored = StoredApi()
    with serving(stored, tmp_path) as kubeconfig:
        stored.kubeconfig = kubeconfig
        yield stored


def run(api, *words):
    words = ["explain", *words, f"--kubeconfig={api.kubeconfig}"]
    result = CliRunner().invoke(main.build_app(words), words, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.output


def test_the_command_reads_all_that_belongs_to_a_service(api):
    sibling = deployment("llama-4f2a1c", replicas=0)
    sibling["metadata"] |= {
        "labels": {"dynawatt.dev/shape": "4f2a1c"},
        "annotations": {"dynawatt.dev/service": "prod/llama"},
    }
    api.add("LLMService", service(), service("other"))
    api.add("Deployment", deployment(), sibling, deployment("other"))
    api.add("Pod", pod(), pod("other-a", app="other"))
    api.add("GPUNode", gpu_node("gpu-1", gpu()))
    api.add("Lease", lease(seconds=-(10**9)))
    explained = json.loads(run(api, "prod/llama", "--json"))
    assert [each["deployment"] for each in explained["replicas"]] == ["llama", "llama-4f2a1c"]
    assert [group["pods"] for group in explained["clocks"]] == [["llama-a"]]
    assert explained["unread"] == {}
    assert run(api, "llama").startswith("LLMService prod/llama\n")


def test_the_command_goes_on_without_what_it_may_not_read(api):
    api.add("LLMService", service())
    api.add("Deployment", deployment())
    api.refused = {"/gpunodes": 403, "/leases": 403, "/events": 500}
    explained = json.loads(run(api, "llama", "--json"))
    assert explained["unread"] == {
        "gpu_nodes": "403: no /gpunodes for you",
        "lease": "403: no /leases for you",
        "events": "500: no /events for you",
    }


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("lama", "prod/lama: does not exist; nearest llama, llama-70b$"),
        ("served", "prod/served: does not exist; llama-70b manages the Deployment of that name$"),
        ("team/llama", "team/llama: does not exist; there is prod/llama$"),
        ("team/xyz", "team/xyz: does not exist; there is prod/llama, prod/llama-70b$"),
        ("a/b/c", "'a/b/c': must be NAME or NAMESPACE/NAME of an LLMService"),
        ("prod/", "'prod/': must be NAME or NAMESPACE/NAME of an LLMService"),
    ],
)
def test_a_name_that_is_not_there(api, name, hint):
    api.add("LLMService", service(), service("llama-70b", spec={"deploymentRef": {"name": "served"}}))
    with pytest.raises(InvalidInputError, match=hint):
        run(api, name)


def test_there_is_no_service_at_all(api):
    with pytest.raises(InvalidInputError, match=r"there are none: create one$"):
        run(api, "llama")


def test_the_resource_type_is_not_installed(api):
    api.installed.remove("LLMService")
    with pytest.raises(OperationError, match="knows no LLMServices: install the CRDs"):
        run(api, "llama")


def test_the_service_may_not_be_read(api):
    api.refused = {"/llmservices": 403}
    with pytest.raises(OperationError, match="cannot read LLMService prod/llama: 403: no /llmservices for you"):
        run(api, "llama")
