import copy
import json
import re
from functools import partial

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from dynawatt.adapters import surface_source
from dynawatt.api.llmservice import LLMServiceSpec
from dynawatt.cli import main
from dynawatt.cli.advise import command
from dynawatt.cli.advise.observed import observe_trace
from dynawatt.cli.advise.present import Known, PresentOptions, find_deployment, find_present
from dynawatt.errors import InvalidInputError, OperationError
from dynawatt.simulation import study
from dynawatt.simulation.advice import rungs, tuning

SMALL = ("--model", "llama-3.1-8b", "--gpu", "h100-sxm", "--tensor-parallel", 1)
NAMES = ["present", "flags", "clock", "replicas", "shape"]


@pytest.fixture(scope="module", autouse=True)
def fast():
    """Few clocks, requests and flags: the numbers are rough, their relations hold."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "CachedSurfaces", partial(surface_source.CachedSurfaces, workers=0))
        patch.setattr(command, "default_surface_dir", lambda: None)
        patch.setattr(study, "governor_clocks", lambda gpu: (810, 1395, 1980))
        patch.setattr(rungs, "_REQUESTS", 400)
        patch.setattr(tuning, "CHUNKS", (512, 2048))
        patch.setattr(tuning, "THRESHOLDS", (256,))
        patch.setattr(tuning, "_COARSE_CHUNKS", (1024,))
        patch.setattr(tuning, "_COARSE_THRESHOLDS", ())
        yield


def write_trace(path, requests=6000, span_s=3600.0, longest=3000):
    rng = np.random.default_rng(5)
    rows = zip(
        np.sort(rng.uniform(0, span_s, requests)), rng.integers(20, longest, requests), rng.integers(2, 300, requests),
        strict=True,
    )  # fmt: skip
    lines = [f"{time:.3f},{inputs},{outputs}" for time, inputs, outputs in rows]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    return write_trace(tmp_path_factory.mktemp("traces") / "trace.csv")


def advise(*arguments):
    words = ["advise", *map(str, arguments)]
    result = CliRunner().invoke(main.build_app(words), words, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


@pytest.fixture(scope="module")
def both(trace):
    result = advise("--trace", trace, *SMALL, "--replicas", 4, "--json", "-")
    return json.loads(result.stdout), result.stderr


@pytest.fixture(scope="module")
def found(both):
    return both[0]


@pytest.fixture(scope="module")
def page(both):
    return both[1]


def test_every_rung_with_its_saving_and_band(found):
    assert [rung["name"] for rung in found["rungs"]] == NAMES
    present, *others = found["rungs"]
    assert present["saving"] == 0
    assert present["replicas"] == {"min": 4, "max": 4, "mean": 4}
    for rung in others:
        low, high = rung["saving_band"]
        assert low <= rung["saving"] <= high
        assert rung["saving"] == pytest.approx(1 - rung["energy_kwh_per_day"] / present["energy_kwh_per_day"])
        assert rung["energy_kwh_per_day"] == pytest.approx(24e-3 * rung["power_w"])
    clock, replicas = others[1:3]
    assert 0 < clock["saving"] < replicas["saving"]


def test_what_is_told_of_the_load(found):
    load = found["load"]
    assert load["requests"] == 6000
    assert load["mean_rps"] == pytest.approx(6000 / 3600, rel=0.01)
    assert load["interarrival_cv"] == pytest.approx(1.0, abs=0.05)
    assert load["interarrival_cv_source"] == "measured"


def test_the_resource_is_one_that_the_api_takes(found, page):
    knobs = {rung["name"]: rung["llmservice"]["spec"]["knobs"] for rung in found["rungs"] if rung["llmservice"]}
    assert knobs == {"clock": ["Clock"], "replicas": ["Clock", "Replicas"]}
    [text] = re.findall(r"\n(    apiVersion:.*?\n)\n", page, re.DOTALL)
    resource = yaml.safe_load(text)
    assert (resource["apiVersion"], resource["kind"]) == ("dynawatt.dev/v1alpha1", "LLMService")
    spec = LLMServiceSpec.parse(resource["spec"])
    assert spec.mode == "Recommend"
    assert (spec.slo.percentile, spec.slo.tbt_objective_s, len(spec.slo.time_to_first_token)) == (99, 0.1, 3)
    assert spec.replicas.max == 4


def test_flags_are_those_that_change(found, page):
    flags = found["rungs"][1]["vllm_flags"]
    assert any(flag.startswith("--max-num-batched-tokens=") for flag in flags)
    assert " ".join(flags) in " ".join(page.split())
    shape = found["rungs"][-1]
    assert f"--tensor-parallel-size={shape['shape']['tensor_parallel']}" in shape["vllm_flags"]


def test_the_page_says_what_is_measured_what_is_assumed_and_what_to_do(page, found):
    titles = ["As it is the service meets its SLO", "What to do, in this order", "Measured", "Assumed"]
    places = [page.index(title) for title in titles]
    assert places == sorted(places)
    assert "needs the vLLM plug-in" in page
    assert max(map(len, page.splitlines())) <= 120
    text = " ".join(page.split())
    for sentence in [*found["measured"], *found["assumed"]]:
        assert sentence in text
    assert "vLLM's own prefill chunk on this GPU, 8192 (--max-num-batched-tokens)" in found["assumed"]


def test_a_service_that_misses_its_slo_is_told_so_first(trace):
    result = advise("--trace", trace, *SMALL, "--replicas", 1, "--slo", "p99.9,ttft=100.7,tbt=25.5", "--json", "-")
    assert "As it is the service MISSES its SLO" in result.stderr.split("replicas")[0]
    assert "mend that first" in result.stderr
    found = json.loads(result.stdout)
    assert found["present_misses_slo"]
    # What an LLMService cannot say is rounded to the stricter side, and what cannot be is told.
    slo = found["rungs"][2]["llmservice"]["spec"]["slo"]
    assert slo == {"percentile": 99, "interTokenMilliseconds": 25, "timeToFirstToken": [{"milliseconds": 100}]}
    assert any("whole percentiles up to 99" in sentence for sentence in found["assumed"])


def test_replicas_that_nobody_gave_are_sized_and_said_to_be(trace):
    found = json.loads(advise("--trace", trace, *SMALL, "--max-num-batched-tokens", 2048, "--json", "-").stdout)
    present = found["rungs"][0]
    assert present["meets_slo"]
    assert f"{present['replicas']['min']} replicas, what the peak needs (--replicas)" in found["assumed"]


def test_only_the_last_hours(trace):
    found = json.loads(advise("--trace", trace, *SMALL, "--replicas", 2, "--hours", 0.5, "--json", "-").stdout)
    assert found["load"]["span_s"] == pytest.approx(1800, abs=1)
    assert found["load"]["requests"] == pytest.approx(3000, rel=0.1)


DEPLOYMENT = {
    "kind": "Deployment",
    "metadata": {"name": "chat", "namespace": "prod"},
    "spec": {
        "replicas": 3,
        "template": {
            "spec": {
                "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
                "containers": [
                    {
                        "name": "vllm",
                        "image": "vllm/vllm-openai",
                        "args": ["--model=meta-llama/Llama-3.1-8B-Instruct", "--max-num-batched-tokens=1024"],
                    }
                ],
            }
        },
    },
}


def test_a_deployment_leaves_nothing_to_assume(trace, tmp_path):
    path = tmp_path / "chat.yaml"
    path.write_text(yaml.safe_dump(DEPLOYMENT))
    found = json.loads(advise("--trace", trace, "--deployment", path, "--json", "-").stdout)
    present = found["rungs"][0]
    assert (present["replicas"]["max"], present["shape"]["max_num_batched_tokens"]) == (3, 1024)
    assert not [sentence for sentence in found["assumed"] if "(--" in sentence]
    resource = found["rungs"][3]["llmservice"]
    assert resource["metadata"] == {"name": "chat", "namespace": "prod"}
    assert resource["spec"]["deploymentRef"] == {"name": "chat"}


class OneCluster:
    """A Deployment whose pods are on nodes with these GPUs."""

    products = ("NVIDIA-H100-80GB-HBM3",) * 2

    def __init__(self, api):
        self.manifest = copy.deepcopy(DEPLOYMENT)
        self.manifest["spec"]["selector"] = {"matchLabels": {"app": "chat"}}
        del self.manifest["spec"]["template"]["spec"]["nodeSelector"]

    def deployment(self, namespace, name):
        return self.manifest if (namespace, name) == ("prod", "chat") else None

    def pods(self, namespace, selector):
        assert selector == {"matchLabels": {"app": "chat"}}
        pending = {"spec": {}}
        return [pending, *({"spec": {"nodeName": str(number)}} for number in range(len(self.products)))]

    def node(self, name):
        return {"metadata": {"labels": {"nvidia.com/gpu.product": self.products[int(name)]}}}


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setattr("dynawatt.adapters.kubernetes.client.api_client", lambda kubeconfig: None)
    monkeypatch.setattr("dynawatt.adapters.kubernetes.reader.ClusterReader", OneCluster)


def test_a_deployment_in_a_cluster_has_the_gpus_of_its_nodes(cluster):
    found = find_deployment(None, "prod/chat", None)
    assert (found.name, found.replicas, found.gpu_product) == ("chat", 3, "NVIDIA-H100-80GB-HBM3")
    with pytest.raises(InvalidInputError, match="--from-cluster prod/other: there is no such Deployment"):
        find_deployment(None, "prod/other", None)


def test_nodes_with_several_gpu_products_tell_none(cluster, monkeypatch):
    monkeypatch.setattr(OneCluster, "products", ("NVIDIA-H100-80GB-HBM3", "NVIDIA-L40S"))
    found = find_deployment(None, "prod/chat", None)
    assert found.gpu_product is None
    with pytest.raises(InvalidInputError, match="--gpu: neither"):
        find_present(PresentOptions(), Known(found))


def test_requests_beyond_the_context_are_left_out_and_counted(tmp_path):
    path = write_trace(tmp_path / "long.csv", longest=200_000)
    observed = observe_trace(path, None, context_tokens=131_072)
    assert observed.fit.dropped == pytest.approx(6000 * (1 - 131_072 / 200_000), rel=0.1)
    assert observed.load.requests == pytest.approx(6000 - observed.fit.dropped)
    with pytest.raises(InvalidInputError, match="none of its requests fits a context of 2 tokens"):
        observe_trace(path, None, context_tokens=2)


def test_slots_of_a_trace_add_up_to_its_requests(trace):
    load = observe_trace(trace, None, 131_072).load
    assert load.width_s.sum() == pytest.approx(3600, abs=2)
    assert load.requests == pytest.approx(6000)
    assert len(load.rate_rps) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give either --trace FILE or --prometheus URL"),
        (("--trace", "TRACE", "--prometheus", "http://x"), "give either --trace FILE or --prometheus URL"),
        (("--prometheus", "localhost:9090"), "--prometheus localhost:9090: must start with http"),
        (("--trace", "TRACE", "--hours", "0"), "--hours 0: must be above 0"),
        (("--prometheus", "http://x", "--hours", "1000"), "--hours 1000: .* at most 840"),
        (("--prometheus", "http://u:p@x"), "--prometheus: must hold no user name or password"),
        (("--prometheus", "http://x", "--prometheus-username", "u"), "--prometheus-username: must be given together"),
        (("--prometheus", "http://x", "--prometheus-token-file", "/no/where"), "/no/where: No such file"),
        (("--prometheus", "http://x", "--prometheus-header", "X"), "--prometheus-header 'X': must look like"),
        (("--trace", "nowhere.csv"), "nowhere.csv: No such file"),
        (("--trace", "TRACE", "--model", "lama-3.1-70b"), r"lama-3.1-70b.*llama-3.1-70b"),
        (("--trace", "TRACE", "--gpu", "h1000"), "h1000"),
        (("--trace", "TRACE", "--tensor-parallel", "3"), "tensor parallelism 3"),
        (("--trace", "TRACE", "--slo", "p99,ttft=x"), "--slo p99,ttft=x"),
        (("--trace", "TRACE", "--deployment", "nowhere.yaml"), "--deployment nowhere.yaml: No such file"),
        (("--trace", "TRACE", "--deployment", "a", "--from-cluster", "b/c"), "give one of them"),
        (("--trace", "TRACE", "--from-cluster", "b"), "--from-cluster b: must be NAMESPACE/NAME"),
        (("--trace", "TRACE", "--max-num-batched-tokens", "100000"), "--max-num-batched-tokens is 100000"),
        (("--trace", "TRACE", *SMALL, "--slo", "p99,ttft=1,tbt=1"), "misses it under any load.*--replicas"),
        (("--trace", "TRACE", "--json", "/nowhere/x.json"), "--json /nowhere/x.json: cannot be written"),
    ],
)
def test_bad_input_is_one_line(trace, arguments, message):
    words = [str(trace) if word == "TRACE" else word for word in map(str, arguments)]
    with pytest.raises(InvalidInputError, match=message) as caught:
        advise(*words)
    assert "\n" not in str(caught.value)


def test_a_prometheus_that_does_not_answer_is_no_bad_input():
    with pytest.raises(OperationError, match=r"Prometheus at http://127.0.0.1:9.* did not answer"):
        advise("--prometheus", "http://127.0.0.1:9")
