import re
from collections import defaultdict
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dynawatt.sandbox.nodesim.exposition import Distribution, Family
from dynawatt.sandbox.nodesim.http_metrics import HttpMetrics
from dynawatt.sandbox.nodesim.vllm_metrics import FinishedRequest, VllmMetrics, one_two_five

REFERENCE = Path(__file__).parents[4] / "shared" / "vllm" / "metrics-0.32.0.txt"
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# Values that say what this replica is, not what kind of label it is.
FREE_VALUES = {"model_name"}


@pytest.fixture
def metrics():
    return VllmMetrics(
        model_name="tiny", max_model_len=2048, max_num_seqs=256, kv_capacity_tokens=524288, created_unix_s=1.7e9
    )


def structure(text):
    """Types by family, and label sets by series, with the values of fixed labels."""
    types, series = {}, defaultdict(set)
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            _, _, name, kind = line.split()
            types[name] = kind
        elif not line.startswith("#"):
            name = re.split(r"[{ ]", line, maxsplit=1)[0]
            labels = LABEL.findall(line)
            if name == "vllm:cache_config_info":
                labels = [(key, "") for key, _ in labels]
            series[name].add(tuple((key, "" if key in FREE_VALUES else value) for key, value in labels))
    return types, series


@pytest.mark.skipif(not REFERENCE.exists(), reason="the recorded metrics of a real vLLM are not here")
def test_families_labels_and_buckets_are_those_of_real_vllm(metrics):
    expected_types, expected_series = structure(REFERENCE.read_text())
    types, series = structure(metrics.render())
    vllm = [name for name in expected_types if name.startswith("vllm:")]
    assert len(vllm) > 50
    assert types == {name: expected_types[name] for name in vllm}
    assert series == {name: labels for name, labels in expected_series.items() if name.startswith("vllm:")}


@pytest.mark.skipif(not REFERENCE.exists(), reason="the recorded metrics of a real vLLM are not here")
def test_http_families_have_the_types_of_real_vllm():
    expected_types, expected_series = structure(REFERENCE.read_text())
    types, series = structure(HttpMetrics(1.7e9).render())
    http = {name: kind for name, kind in expected_types.items() if name.startswith("http_")}
    assert types.items() <= http.items()
    name = "http_request_duration_highr_seconds_bucket"
    assert series[name] == expected_series[name]


def values(metrics):
    families = text_string_to_metric_families(metrics.render())
    return {(s.name, s.labels.get("le", "")): s.value for family in families for s in family.samples}


def test_a_finished_request_is_recorded_as_vllm_does(metrics):
    metrics.record_finished(
        FinishedRequest(
            input_tokens=100, output_tokens=11, max_tokens=11, preemptions=1,
            arrival_s=10.0, scheduled_s=10.5, first_token_s=11.0, last_token_s=12.0,
        )
    )  # fmt: skip
    found = values(metrics)
    for name, total in {
        "request_prompt_tokens": 100,
        "request_generation_tokens": 11,
        "request_params_max_tokens": 11,
        "request_params_n": 1,
        "request_num_preemptions": 1,
        "request_time_per_output_token_seconds": 0.1,
        "e2e_request_latency_seconds": 2.0,
        "request_queue_time_seconds": 0.5,
        "request_prefill_time_seconds": 0.5,
        "request_decode_time_seconds": 1.0,
        "request_inference_time_seconds": 1.5,
    }.items():
        assert found[f"vllm:{name}_sum", ""] == pytest.approx(total), name
        assert found[f"vllm:{name}_count", ""] == 1
    # 0.1 lies on a boundary, and boundaries belong to the bucket below.
    buckets = "vllm:request_time_per_output_token_seconds_bucket"
    assert [found[buckets, le] for le in ("0.075", "0.1", "0.15", "+Inf")] == [0, 1, 1, 1]


def test_counters_with_a_label_of_their_own(metrics):
    metrics.count("vllm:prompt_tokens_by_source", 7, "local_compute")
    metrics.count("vllm:request_success", 1, "abort")
    text = metrics.render()
    assert 'vllm:prompt_tokens_by_source_total{engine="0",model_name="tiny",source="local_compute"} 7.0' in text
    assert 'vllm:request_success_total{engine="0",finished_reason="abort",model_name="tiny"} 1.0' in text
    with pytest.raises(KeyError):
        metrics.count("vllm:request_success", 1, "unheard of")


def test_many_equal_observations_at_once():
    once, many = Distribution({}, [1.0, 2.0]), Distribution({}, [1.0, 2.0])
    for _ in range(5):
        once.observe(1.5)
    many.observe(1.5, 5)
    assert (once.counts, once.sum) == (many.counts, many.sum) == ([0, 5, 0], 7.5)


def test_label_values_are_escaped():
    family = Family("x", "gauge", [Distribution({"name": 'a"b\\c\nd'})], 0.0, "help")
    assert 'x_count{name="a\\"b\\\\c\\nd"} 0.0' in family.render()


@pytest.mark.parametrize(
    ("limit", "last", "count"), [(1, 1, 1), (2048, 2000, 11), (8192, 5000, 12), (131072, 100000, 16)]
)
def test_one_two_five(limit, last, count):
    bounds = one_two_five(limit)
    assert (bounds[-1], len(bounds)) == (last, count)
