import math
import time

import pytest

from dynawatt.adapters.prometheus import Prometheus
from dynawatt.adapters.vllm_load.in_prometheus import PrometheusLoadSource
from dynawatt.adapters.vllm_load.scope import Scope
from dynawatt.adapters.vllm_load.source import LoadQuestion, WatchedPod
from dynawatt.adapters.vllm_load.working import work_from
from dynawatt.ports import Sample

from ..recorded_prometheus import prometheus_over

QUESTION = LoadQuestion("prod", "llama", {"tp8": [WatchedPod("a", "10.0.0.1"), WatchedPod("b", "10.0.0.2")]})
WORK = {
    "scrapes": 4.0, "gaps": 1000.0, "gap_sum_s": 30.0, "prompt_tokens": 6000.0, "cached_tokens": 1000.0,
    "prefills": 10.0, "prefill_sum_s": 2.0, "iterations": 900.0,
}  # fmt: skip
AGENT = {"energy_samples": 3.0, "energy_j": 5000.0, "clock_0.125": 990e6, "clock_0.875": 1980e6}


def samples(told, **labels):
    return [Sample({"what": what, **labels}, value) for what, value in told.items()]


def test_work_of_one_pod():
    answer = samples(WORK, pod="a") + samples(AGENT, pod="a")
    found = work_from(answer, QUESTION, Scope("pod", "namespace"))
    assert list(found) == ["a"]
    work = found["a"]
    assert (work.gaps, work.gap_sum_s, work.prompt_tokens, work.iterations) == (1000.0, 30.0, 5000.0, 900.0)
    assert (work.prefills, work.prefill_sum_s) == (10.0, 2.0)
    assert (work.energy_j, work.clocks_mhz) == (5000.0, (990, 1980))
    assert work.scrapes == 3  # of the agent


def test_series_of_vllm_are_told_by_address_and_those_of_agents_by_name():
    answer = samples(WORK, instance="10.0.0.2:8000") + samples(AGENT, pod="b")
    [work] = work_from(answer, QUESTION, Scope("instance", "")).values()
    assert (work.gaps, work.energy_j) == (1000.0, 5000.0)


def test_what_is_not_told_or_no_number_is_not_known():
    bare = {what: WORK[what] for what in ("scrapes", "gaps", "gap_sum_s", "prompt_tokens", "prefills")}
    answer = samples(bare | {"iterations": math.nan}, pod="a") + samples({"gaps": 1.0}, pod="b")
    found = work_from(answer, QUESTION, Scope("pod", ""))
    assert list(found) == ["a"]
    work = found["a"]
    assert (work.prefills, work.iterations, work.energy_j, work.clocks_mhz) == (0.0, None, None, ())
    assert work.scrapes == 4


def history(now_s):
    """Of two pods for two minutes; the second knows the names of vLLM 0.9, and has no agent. Counters per second."""
    model = 'engine="0",model_name="m"'
    rows: dict[str, list[str]] = {}
    for pod, tbt, hits in (
        ("a", "inter_token_latency_seconds", "prefix_cache_hits"),
        ("b", "time_per_output_token_seconds", "gpu_prefix_cache_hits"),
    ):
        counters = {
            f"vllm:{tbt}_count": 100.0, f"vllm:{tbt}_sum": 4.0, "vllm:prompt_tokens_total": 700.0,
            f"vllm:{hits}_total": 200.0, "vllm:request_prefill_time_seconds_count": 1.0,
            "vllm:request_prefill_time_seconds_sum": 0.5, "vllm:iteration_tokens_total_count": 20.0,
        }  # fmt: skip
        for age_s in range(120, -1, -10):
            time_s, passed_s = now_s - age_s, 1000.0 - age_s
            for job in ("vllm", "again"):  # both scrape it
                labels = f'namespace="prod",pod="{pod}",job="{job}",{model}'
                rows.setdefault("gauge vllm:num_requests_running", []).append(
                    f"vllm:num_requests_running{{{labels}}} 4 {time_s}"
                )
                for name, each in counters.items():
                    rows.setdefault(f"counter {name}", []).append(f"{name}{{{labels}}} {each * passed_s} {time_s}")
    for age_s in range(120, -1, -10):
        time_s, passed_s = now_s - age_s, 1000.0 - age_s
        pod = 'namespace="prod",pod="a"'
        rows.setdefault("counter dynawatt_pod_energy_joules_total", []).append(
            f'dynawatt_pod_energy_joules_total{{{pod},llmservice="x"}} {4000.0 * passed_s} {time_s}'
        )
        for gpu in "01":
            rows.setdefault("gauge dynawatt_gpu_sm_clock_hertz", []).append(
                f'dynawatt_gpu_sm_clock_hertz{{{pod},gpu_uuid="{gpu}"}} {990e6 if age_s < 30 else 1980e6} {time_s}'
            )
    lines = []
    for family, series in rows.items():
        kind, name = family.split()
        # As histograms have them, sums and counts alone are no counters to OpenMetrics.
        is_counter = kind == "counter" and name.endswith("_total")
        kind, name = ("counter", name.removesuffix("_total")) if is_counter else ("gauge", name)
        lines += [f"# TYPE {name} {kind}", *series]
    return "\n".join([*lines, "# EOF\n"])


@pytest.mark.integration
async def test_a_real_prometheus_tells_the_work_of_pods_in_one_query(tmp_path):
    (tmp_path / "history.om").write_text(history(int(time.time())))
    with prometheus_over(tmp_path / "history.om") as url:
        source = PrometheusLoadSource(Prometheus(url))
        found = await source.work(QUESTION, 60)
        await source.close()
    assert set(found) == {"a", "b"}
    for work in found.values():
        assert work.scrapes in (5, 6, 7)
        assert work.gap_sum_s / work.gaps == pytest.approx(0.04)
        assert work.gaps == pytest.approx(100 * 60, rel=0.05)
        assert work.prompt_tokens == pytest.approx(500 * 60, rel=0.05)
        assert work.prefill_sum_s == pytest.approx(0.5 * 60, rel=0.05)
        assert work.prefills == pytest.approx(60, rel=0.05)
        assert work.iterations == pytest.approx(20 * 60, rel=0.05)
    assert found["a"].energy_j == pytest.approx(4000 * 60, rel=0.05)
    assert (found["a"].clocks_mhz[0], found["a"].clocks_mhz[-1]) == (990, 1980)
    assert (found["b"].energy_j, found["b"].clocks_mhz) == (None, ())
