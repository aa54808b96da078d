import math
import time

import numpy as np
import pytest

from dynawatt.adapters.prometheus import Prometheus
from dynawatt.adapters.prometheus_load import read_load
from dynawatt.adapters.vllm_load.histograms import fraction_within
from dynawatt.adapters.vllm_services import find_service
from dynawatt.errors import InvalidInputError

from .recorded_prometheus import MEAN_INPUT, MEAN_OUTPUT, Pod, prometheus_with

pytestmark = pytest.mark.integration

MODEL = "meta-llama/Llama-3.1-70B-Instruct"
HOURS = 4
MINUTES = 60 * HOURS
DAY_S = 86400


def pod(name, rates, *, model=MODEL, namespace="prod", job="vllm", **more):
    labels = {"model_name": model, "namespace": namespace, "pod": name, "job": job}
    return Pod({key: value for key, value in labels.items() if value}, rates, **more)


def steady(rate):
    return [rate] * MINUTES


def gap(rate, first, last):
    return [None if first <= minute < last else rate for minute in range(MINUTES)]


PODS = [
    # Restarts at minute 130: its counters begin anew. Nothing was scraped from 60 to 90.
    pod("llama-70b-6f7d9c8b5-abcde", gap(2.0, 60, 90), restarts={130}),
    # Scaled up for the last hour.
    pod("llama-70b-6f7d9c8b5-fghij", [None] * 180 + [1.0] * 60),
    pod("llama-70b-canary-6f7d9c8b5-klmno", steady(0.1)),
    pod("llama-70b-6f7d9c8b5-pqrst", steady(0.2), namespace="test"),
    pod("old-0", steady(0.5), model="old", tbt_family="time_per_output_token_seconds"),
    pod("idle-5d4f6c7b8-aaaaa", steady(0.0), model="idle"),
    pod("twice-5d4f6c7b8-aaaaa", steady(0.5), model="twice", job="a"),
    pod("twice-5d4f6c7b8-aaaaa", steady(0.5), model="twice", job="b"),
    pod("", steady(0.5), model="bare", namespace=""),
]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    end_s = int(time.time()) // 300 * 300
    with prometheus_with(tmp_path_factory.mktemp("prometheus"), PODS, end_s) as url:
        yield url, end_s


@pytest.fixture
async def source(recorded):
    source = Prometheus(recorded[0])
    yield source
    await source.close()


async def find(source, **options):
    return await find_service(source, window_s=DAY_S, **options)


async def load_of(source, recorded, hours=HOURS, **options):
    return await read_load(source, await find(source, **options), hours=hours, now_s=recorded[1] + 30)


async def test_the_rate_survives_restarts_and_leaves_gaps_unknown(source, recorded):
    load = await load_of(source, recorded, namespace="prod", service="llama-70b")
    assert load.start_s == recorded[1] - HOURS * 3600
    assert len(load.rate_rps) == 12 * HOURS
    # Half-filled windows at the ends of a gap are extrapolated by Prometheus.
    assert load.rate_rps[1:12] == pytest.approx(2.0, rel=0.01)
    assert np.isnan(load.rate_rps[13:17]).all()
    assert load.rate_rps[20:24] == pytest.approx(2.0, rel=0.01)
    # The restart loses at most what was counted between two scrapes.
    assert load.rate_rps[26] == pytest.approx(2.0, rel=0.25)
    assert load.rate_rps[38:] == pytest.approx(3.0, rel=0.01)
    assert load.replicas[1:12] == pytest.approx(1)
    assert load.replicas[38:] == pytest.approx(2)


async def test_lengths_and_latencies_are_those_of_the_histograms(source, recorded):
    load = await load_of(source, recorded, namespace="prod", service="llama-70b")
    assert (load.mix.mean_input_tokens, load.mix.mean_output_tokens) == pytest.approx(
        (MEAN_INPUT, MEAN_OUTPUT), rel=0.01
    )
    known = np.nansum(load.rate_rps) * 300
    assert load.finished_requests == pytest.approx(known, rel=0.15)
    assert fraction_within(load.ttft, 0.25) == pytest.approx(0.9, abs=1e-3)
    assert fraction_within(load.tbt, 0.1) == pytest.approx(0.995, abs=1e-3)
    assert load.prefix_hit_ratio == pytest.approx(0.3, abs=1e-3)
    assert load.kv_cache_tokens == 84000 * 16


async def test_gaps_under_the_name_of_older_versions(source, recorded):
    load = await load_of(source, recorded, model="old")
    assert fraction_within(load.tbt, 0.1) == pytest.approx(0.995, abs=1e-3)


async def test_a_service_that_two_jobs_scrape_counts_once(source, recorded):
    load = await load_of(source, recorded, model="twice")
    assert load.rate_rps[2:] == pytest.approx(0.5, rel=0.01)
    assert load.replicas[2:] == pytest.approx(1)


async def test_series_without_pods_and_namespaces_are_found_by_job(source, recorded):
    load = await load_of(source, recorded, model="bare")
    assert load.rate_rps[2:] == pytest.approx(0.5, rel=0.01)


async def test_time_before_the_history_is_unknown(source, recorded):
    load = await load_of(source, recorded, hours=6, namespace="prod", service="llama-70b")
    assert len(load.rate_rps) == 72
    assert np.isnan(load.rate_rps[:23]).all()
    assert not math.isnan(load.rate_rps[26])


async def test_a_service_without_requests_has_no_mix(source, recorded):
    with pytest.raises(InvalidInputError, match=r"0 requests of idle .* finished .* --hours"):
        await load_of(source, recorded, model="idle")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "knows 7 vLLM services: choose one with --namespace, --service, --served-model or --selector: bare"),
        ({"model": MODEL}, r'knows 3 vLLM services.*namespace="prod",pod=~"llama-70b-canary-'),
        (
            {"namespace": "prod", "service": "llama-7b"},
            "--service llama-7b: Prometheus has .*nearest llama-70b",
        ),
        ({"model": "Llama-3.1-70B"}, "--served-model Llama-3.1-70B: Prometheus has no such service"),
        ({"namespace": "nowhere"}, 'no series vllm:num_requests_running that match namespace="nowhere" in the last 24'),
        ({"selector": 'job="none"'}, 'that match job="none"'),
        ({"selector": "job=vllm"}, "--selector job=vllm: Prometheus cannot read it"),
    ],
)
async def test_services_that_cannot_be_told_are_listed(source, options, message):
    with pytest.raises(InvalidInputError, match=message) as caught:
        await find(source, **options)
    assert "\n" not in str(caught.value)


async def test_matchers_of_a_listed_service_select_it(source):
    service = await find(source, selector='namespace="test"')
    again = await find(source, selector=service.matchers)
    assert (service.model, service.namespace, service.name) == (MODEL, "test", "llama-70b")
    assert again.name == service.name
