import numpy as np
import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.workload.arrivals import interarrival_cv
from dynawatt.workload.builtin import BUILT_IN, built_in
from dynawatt.workload.trace import ScaleMode, joined

names = pytest.mark.parametrize("name", [workload.name for workload in BUILT_IN])


def columns(trace):
    return [column.tolist() for column in (trace.arrival_s, trace.input_tokens, trace.output_tokens)]


@names
def test_chunks_do_not_change_the_requests(name):
    workload = built_in(name)
    hour = columns(joined(list(workload.chunks(hours=0.8, seed=2))))
    assert columns(joined(list(workload.chunks(hours=0.8, seed=2, chunk_s=97.0)))) == hour
    assert columns(joined(list(workload.chunks(hours=0.8, seed=3)))) != hour


@names
def test_a_longer_window_begins_with_the_shorter_one(name):
    workload = built_in(name)
    short, long = (joined(list(workload.chunks(hours=hours, seed=1))) for hours in (0.2, 0.5))
    assert long.arrival_s[: len(short)].tolist() == short.arrival_s.tolist()
    assert short.span_s < 720 < long.arrival_s[len(short)]


@pytest.mark.parametrize("scale", [0.5, 1.0, 30.0])
def test_the_gaps_keep_their_cv_at_any_rate(scale):
    """In units of expected requests, where the rate curve has no part in it."""
    workload = built_in("azure-2024-conv", burstiness=4.0)
    trace = joined(list(workload.chunks(hours=1.0, rate_scale=scale, seed=1)))
    assert interarrival_cv(workload.curve.count_by(trace.arrival_s)) == pytest.approx(4.0, rel=0.05)
    assert len(trace) == pytest.approx(scale * workload.curve.count_by(np.array([3600.0]))[0], rel=0.05)


def test_burstiness_changes_arrivals_only():
    calm, bursty = (built_in("azure-2023-code", burstiness) for burstiness in (0.0, None))
    assert (calm.interarrival_cv, bursty.interarrival_cv) == (0.0, 13.2)
    assert interarrival_cv(joined(list(calm.chunks())).arrival_s) == pytest.approx(0, abs=1e-6)
    assert columns_of(calm.mix(30, 1)) == columns_of(bursty.mix(30, 1))


def columns_of(mix):
    return mix.input_tokens.tolist(), mix.output_tokens.tolist()


def test_compressed_weeks_are_shorter():
    trace = joined(
        list(built_in("azure-2024-conv").chunks(rate_scale=500.0, scale_mode=ScaleMode.COMPRESS, hours=0.04, seed=1))
    )
    assert trace.span_s == pytest.approx(144, abs=1)
    assert len(trace) == pytest.approx(built_in("azure-2024-conv").curve.count_by(np.array([72_000.0]))[0], rel=0.01)


def test_alpaca_has_the_published_means():
    mix = built_in("alpaca").mix(200_000, seed=1)
    assert (mix.mean_input_tokens, mix.mean_output_tokens) == (
        pytest.approx(19.31, rel=0.01),
        pytest.approx(58.45, rel=0.01),
    )


@names
def test_rates(name):
    workload = built_in(name)
    assert 0 < workload.mean_rps <= workload.peak_rps
    assert workload.source


def test_weeks_are_as_large_as_published():
    assert [built_in(f"azure-2024-{name}").curve.count[-1] for name in ("conv", "code")] == pytest.approx(
        [27_303_999, 16_803_695]
    )


@pytest.mark.parametrize(
    ("name", "burstiness", "message"),
    [
        ("azure-2024-chat", None, "workload 'azure-2024-chat': did you mean azure-202"),
        ("", None, "workload '': there are azure-2023-conv, azure-2023-code, "),
        ("alpaca", -1.0, "burstiness -1.0"),
    ],
)
def test_impossible_workloads(name, burstiness, message):
    with pytest.raises(InvalidInputError, match=message):
        built_in(name, burstiness)
