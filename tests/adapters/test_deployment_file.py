import io
import json

import pytest
import yaml

from dynawatt.adapters.deployment_file import GPU_LABEL, STDIN, read_deployment_file
from dynawatt.errors import InvalidInputError

ARGS = ["--model=meta-llama/Llama-3.1-70B-Instruct", "--tensor-parallel-size=4", "--max-num-batched-tokens=1024"]


def manifest(name="llama", args=ARGS, kind="Deployment", **pod_spec):
    container = {"name": "vllm", "image": "vllm/vllm-openai:v0.18.0", "args": list(args)}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "prod"},
        "spec": {"replicas": 3, "template": {"spec": {"containers": [container], **pod_spec}}},
    }


SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "llama"}, "spec": {"ports": []}}
SIDECAR = manifest("web", ["--port=80"])
SIDECAR["spec"]["template"]["spec"]["containers"][0]["image"] = "nginx"


@pytest.fixture
def write(tmp_path):
    def written(*documents):
        path = tmp_path / "manifest.yaml"
        path.write_text(yaml.safe_dump_all(documents))
        return path

    return written


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_what_runs(write, kind):
    found = read_deployment_file(write(SERVICE, manifest(kind=kind, nodeSelector={GPU_LABEL: "NVIDIA-H100-80GB-HBM3"})))
    assert (found.name, found.namespace, found.replicas) == ("llama", "prod", 3)
    assert found.gpu_product == "NVIDIA-H100-80GB-HBM3"
    assert found.settings.model == "meta-llama/Llama-3.1-70B-Instruct"
    assert (found.settings.tensor_parallel_size, found.settings.max_num_batched_tokens) == (4, 1024)


def affinity(*products):
    expression = {"key": GPU_LABEL, "operator": "In", "values": list(products)}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


@pytest.mark.parametrize(
    ("pod_spec", "product"),
    [
        ({}, None),
        ({"affinity": affinity("NVIDIA-L40S")}, "NVIDIA-L40S"),
        ({"affinity": affinity("NVIDIA-L40S", "NVIDIA-H200")}, None),
        ({"affinity": None, "nodeSelector": None}, None),
        ({"nodeSelector": {"zone": "a"}}, None),
    ],
)
def test_the_gpu_is_known_only_where_nodes_can_have_but_one(write, pod_spec, product):
    assert read_deployment_file(write(manifest(**pod_spec))).gpu_product == product


def test_a_list_as_kubectl_prints_it_and_standard_input(monkeypatch):
    text = json.dumps({"kind": "List", "items": [SERVICE, SIDECAR, manifest("one")]})
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert read_deployment_file(STDIN).name == "one"


def test_the_one_that_is_named(write):
    path = write(manifest("a"), manifest("b"))
    assert read_deployment_file(path, "b").name == "b"
    with pytest.raises(InvalidInputError, match=r"several Deployments run vLLM \(a, b\)"):
        read_deployment_file(path)
    with pytest.raises(InvalidInputError, match="holds no Deployment 'c'; "):
        read_deployment_file(path, "c")


def test_replicas_that_are_left_out_are_one(write):
    document = manifest()
    document["spec"]["replicas"] = None
    assert read_deployment_file(write(document)).replicas == 1


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([SERVICE], "holds no Deployment; give one from `kubectl get"),
        ([None, "text", 3], "holds no Deployment"),
        ([SIDECAR], "Deployment 'web': no container runs vLLM"),
        ([manifest(args=[*ARGS, "--pipeline-parallel-size=2"])], "pipeline or data parallelism above 1"),
        ([manifest(args=[*ARGS, "--max-num-seqs=many"])], "`--max-num-seqs` is 'many'"),
    ],
)
def test_what_cannot_be_used_is_refused(write, documents, message):
    with pytest.raises(InvalidInputError, match=message) as caught:
        read_deployment_file(write(*documents))
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "x").write_bytes(b"a: [\n")
    (tmp_path / "y").write_bytes(b"\xff\xfe\x00")
    for name, message in (("x", "is not YAML"), ("y", "is not YAML"), ("z", "No such file")):
        with pytest.raises(InvalidInputError, match=message) as caught:
            read_deployment_file(tmp_path / name)
        assert "\n" not in str(caught.value)
