import numpy as np
import pytest

from dynawatt.load.metering import Meter
from dynawatt.load.report import Attainment, Percentiles
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace

OBJECTIVES = LatencyObjectives(((256, 0.25), (None, 2.0)), 0.1)
TRACE = Trace(np.arange(5.0), np.array([100, 1000, 100, 100, 100]), np.full(5, 3))


def test_attainment_counts_all_requests_and_all_gaps():
    meter = Meter(TRACE, OBJECTIVES)
    for index, ttft_s in enumerate([0.25, 0.26, 0.26, 0.1]):
        meter.sent(index, 0.001 * index)
        meter.first_token(index, ttft_s)
    meter.sent(4, 0.0)
    meter.gap(0.1)
    meter.gap(0.11)
    meter.no_gaps(2)
    for index in (0, 1, 2):
        meter.succeeded(index, tokens=3)
    meter.failed(3, "abort", "pod-a: 2 of 3 tokens", tokens=2)
    meter.failed(4, "no ready pod", "none", tokens=0)
    report = meter.report(10.0, None)
    # Met: 0 (just) and 1 (long input); 2 is too slow for its length, 3 and 4 failed.
    assert report.attainment == Attainment(2 / 5, 3 / 4)
    assert (report.requests, report.succeeded, report.failed, report.unfinished) == (5, 3, 2, 0)
    assert report.failed_by_reason == {"abort": 1, "no ready pod": 1}
    assert report.failure_examples["abort"] == "pod-a: 2 of 3 tokens"
    assert (report.prompt_tokens, report.generated_tokens, report.gaps) == (1200, 11, 4)
    assert report.tokens_per_s == pytest.approx(1.1)
    assert report.max_send_delay_s == pytest.approx(0.003)
    assert report.ttft_s.p50 == pytest.approx(0.255)
    assert report.tbt_s.p99 == pytest.approx(0.11, rel=0.006)


def test_requests_cut_off_count_nowhere():
    meter = Meter(TRACE, OBJECTIVES)
    meter.sent(0, 0)
    meter.first_token(0, 9.0)
    report = meter.report(3.0, "interrupted")
    assert (report.requests, report.unfinished, report.attainment.ttft) == (1, 1, None)
    assert report.to_json()["partial"] is True


def test_recent_forgets_after_ten_seconds():
    meter = Meter(TRACE, OBJECTIVES)
    meter.sent(0, 0)
    meter.first_token(0, 1.0)
    meter.gap(0.2)
    meter.succeeded(0, 2)
    meter.close_slot(1.0)
    early = meter.progress(1.0)
    assert early.recent_attainment == Attainment(0.0, 0.0)
    assert (early.recent_rps, early.recent_tokens_per_s) == (1, 2)
    assert (early.recent_ttft_s.p99, early.recent_tbt_s.p50) == (1.0, 0.2)
    for second in range(2, 12):
        meter.sent(1, 0)
        meter.failed(1, "HTTP 503", "x", 0)
        meter.close_slot(float(second))
    late = meter.progress(11.0)
    assert late.recent_ttft_s == late.recent_tbt_s == Percentiles(None, None, None)
    assert late.recent_attainment == Attainment(0.0, None)
    assert late.recent_rps == pytest.approx(1)
    assert late.attainment.tbt == 0
    assert late.elapsed_s == 11


def test_without_objectives_there_is_no_attainment():
    meter = Meter(TRACE, None)
    meter.sent(0, 0)
    meter.first_token(0, 1.0)
    meter.gap(0.5)
    meter.succeeded(0, 2)
    report = meter.report(1.0, None)
    assert report.attainment == Attainment(None, None)
    assert report.to_json()["objectives"] is None
    assert report.tbt_s.p50 == pytest.approx(0.5, rel=0.006)
