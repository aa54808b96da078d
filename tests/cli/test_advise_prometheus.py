import json
import time
from functools import partial

import pytest
from typer.testing import CliRunner

from dynawatt.adapters import surface_source
from dynawatt.adapters.profile_files import find_replica
from dynawatt.cli import main
from dynawatt.cli.advise import command
from dynawatt.errors import InvalidInputError
from dynawatt.simulation import study
from dynawatt.simulation.advice import rungs, tuning

from ..adapters.recorded_prometheus import Pod, prometheus_with

pytestmark = pytest.mark.integration

MINUTES = 300
MODEL = "meta-llama/Llama-3.1-8B-Instruct"
KV_BLOCKS = find_replica(MODEL, "h100-sxm", 2).kv_capacity_tokens // 16


def pod(name, model, rates):
    labels = {"model_name": model, "namespace": "prod", "pod": name, "job": "vllm"}
    return Pod(labels, rates, kv_blocks=round(0.95 * KV_BLOCKS))


PODS = [
    pod("chat-6f7d9c8b5-abcde", MODEL, [*[4.0] * 100, *[None] * 60, *[1.0] * 140]),
    pod("chat-6f7d9c8b5-fghij", MODEL, [4.0] * 100 + [None] * 200),
    pod("other-6f7d9c8b5-abcde", "acme/lama-3.1-8b", [1.0] * MINUTES),
    pod("tiny-6f7d9c8b5-abcde", "acme/tiny", [1.0] * MINUTES),
    pod("idle-6f7d9c8b5-abcde", MODEL, [0.0] * MINUTES),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with prometheus_with(tmp_path_factory.mktemp("prometheus"), PODS, int(time.time()) // 300 * 300) as url:
        yield url


@pytest.fixture(scope="module", autouse=True)
def fast():
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


def advise(*arguments):
    words = ["advise", *map(str, arguments)]
    result = CliRunner().invoke(main.build_app(words), words, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


@pytest.fixture(scope="module")
def both(url):
    result = advise("--prometheus", url, "--service", "chat", "--gpu", "h100-sxm", "--json", "-")
    return json.loads(result.stdout), result.stderr


def test_the_load_as_it_was(both):
    load = both[0]["load"]
    assert load["span_s"] - load["known_s"] == pytest.approx(3600, abs=900)
    assert load["requests"] == pytest.approx((8 * 100 + 140) * 60, rel=0.1)
    assert load["mix_source"] == "joint mix estimated from marginal histograms"
    assert load["interarrival_cv_source"].startswith("assumed")
    assert load["prefix_hit_ratio"] == pytest.approx(0.3)


def test_replicas_are_those_that_were(both):
    present = both[0]["rungs"][0]
    assert present["replicas"]["min"] == 1
    assert present["replicas"]["max"] == 2
    assert both[0]["inventory_gpus"] == 4


def test_the_degree_is_told_by_the_kv_cache(both):
    assert both[0]["rungs"][0]["shape"]["tensor_parallel"] == 2
    assert "2 GPUs per replica, after the size of the KV cache (--tensor-parallel)" in both[0]["assumed"]


def test_the_resource_names_the_deployment(both):
    resource = both[0]["rungs"][2]["llmservice"]
    assert resource["metadata"] == {"name": "chat", "namespace": "prod"}


def test_the_page_tells_estimates_from_measurements(both):
    text = " ".join(both[1].split())
    measured, assumed = text[text.index("Measured") :].split("Assumed")
    assert "joint mix estimated from marginal histograms" in measured
    assert "gaps left out" in measured
    assert "latency by vLLM's own histograms: 99.5% of gaps in time; of first tokens 90.0% to" in measured
    assert "burstiness" in assumed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "knows 4 vLLM services: choose one"),
        (("--service", "chat"), "--gpu: neither vLLM's metrics nor the Deployment name the GPU"),
        (("--service", "chat", "--gpu", "b200-sxm"), "--tensor-parallel: vLLM's metrics do not tell it"),
        (("--service", "other", "--gpu", "h100-sxm"), "lama-3.1-8b.*nearest .*llama-3.1-8b"),
        (("--service", "idle", "--gpu", "h100-sxm"), "0 requests of .* --hours"),
        (("--service", "caht", "--gpu", "h100-sxm"), "--service caht: .*nearest chat"),
        (("--namespace", "test"), "no series"),
    ],
)
def test_bad_input_is_one_line(url, arguments, message):
    with pytest.raises(InvalidInputError, match=message) as caught:
        advise("--prometheus", url, *arguments)
    assert "\n" not in str(caught.value)
