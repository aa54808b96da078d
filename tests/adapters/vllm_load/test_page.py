from math import inf
from pathlib import Path

import pytest

from dynawatt.adapters.vllm_load.page import PageError, pod_page

from .pages import OUTPUT, Pod

REAL = Path(__file__).parents[4] / "shared" / "vllm" / "metrics-0.32.0.txt"


def read(pod, elapsed_s=100.0, change=lambda text: text):
    return pod_page(change(pod.at(elapsed_s)).encode())


@pytest.mark.skipif(not REAL.exists(), reason="shared data is absent")
def test_a_page_of_the_real_vllm():
    page = pod_page(REAL.read_bytes())
    assert (page.running, page.waiting, page.kv_usage) == (0.0, 0.0, 0.0)
    assert page.counts["finished", 0.0] == page.counts["first_tokens", 0.0] == 8
    assert page.counts["generated", 0.0] == 360
    assert page.counts["ttft", inf] == 8
    assert page.counts["tbt", inf] == 352
    assert page.counts["inputs", inf] == page.counts["outputs", inf] == 8
    assert page.counts["input_sum", 0.0] == 56
    assert len(page.counts) == 5 + 23 + 20 + 2 * len([key for key in page.counts if key[0] == "inputs"])


def test_a_page_in_full():
    page = read(Pod())
    assert (page.running, page.waiting, page.kv_usage) == (8.0, 0.0, 0.5)
    assert page.counts["finished", 0.0] == 4 * 98
    assert page.counts["ttft", 0.25] == page.counts["first_tokens", 0.0] == pytest.approx(4 * 99.8)
    assert page.counts["tbt", 0.025] == 0
    assert page.counts["tbt", 0.05] == 4 * 98 * OUTPUT


@pytest.mark.parametrize("pod", [Pod(old=True), Pod(both=True), Pod(engines=4)])
def test_neither_names_nor_engines_change_it(pod):
    page, same = read(pod), read(Pod())
    assert page._replace(counts={}) == same._replace(counts={})
    assert dict(page.counts) == pytest.approx(dict(same.counts))


def test_a_page_without_what_can_be_missed():
    without = lambda text: "".join(  # noqa: E731
        line for line in text.splitlines(True) if "kv_cache" not in line and "vllm:generation" not in line
    )
    page = read(Pod(), change=without)
    assert page.kv_usage is None
    assert ("generated", 0.0) not in page.counts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "does not tell vllm:request_success_total: does vLLM listen there"),
        (lambda text: text.replace("num_requests_running", "x"), "does not tell vllm:num_requests_running"),
        (lambda text: text.replace("inter_token_latency", "x"), "not tell vllm:inter_token_latency_seconds_bucket"),
        (lambda text: text.replace("running{", "running{} NaN\nvllm:num_requests_running{"), "running is no number"),
        (lambda text: text.replace("} 8.0", "} many"), "vllm:num_requests_running is no number"),
        (lambda text: text.replace("vllm:", "sglang:"), "does not tell"),
    ],
)
def test_pages_that_cannot_be_used(change, message):
    with pytest.raises(PageError, match=message):
        read(Pod(), change=change)
