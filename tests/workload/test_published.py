"""The built-in workloads against the data that their parameters come from."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from dynawatt.workload import published
from dynawatt.workload.arrivals import interarrival_cv
from dynawatt.workload.builtin import built_in
from dynawatt.workload.classes import LengthClasses
from dynawatt.workload.trace import joined

derive = runpy.run_path(str(Path(__file__).parent / "derive_published.py"))
pytestmark = pytest.mark.skipif(not derive["DATA"].exists(), reason="the Azure data are not there")
NAMES = {"conv": "CONVERSATION", "code": "CODE"}
services = pytest.mark.parametrize("service", NAMES)


def sampled(name, count=400_000):
    mix = built_in(name).mix(count, seed=5)
    return {"input": mix.input_tokens, "output": mix.output_tokens}


def cdf(lengths, tokens):
    return np.searchsorted(np.sort(lengths), tokens, side="right") / len(lengths)


@services
def test_tables_are_those_of_the_data(service):
    _, *lengths = derive["columns_2023"](service)
    for kind, tokens in zip(("input", "output"), lengths, strict=True):
        table = f"{NAMES[service]}_{{}}_{kind.upper()}S"
        assert getattr(published, table.format(2023)) == tuple(derive["knots_2023"](tokens))
        assert getattr(published, table.format(2024)) == tuple(derive["knots_2024"](service, kind))
    assert getattr(published, f"{NAMES[service]}_2024_LEVELS") == tuple(derive["levels_2024"](service))
    assert getattr(published, f"{NAMES[service]}_COPULA") == tuple(map(tuple, derive["copula"](service)))
    assert tuple(derive["levels_2023"]("conv")) == published.CONVERSATION_2023_LEVELS
    assert derive["residual_cv"]("conv") == pytest.approx(built_in("azure-2023-conv").interarrival_cv, abs=0.01)


@services
def test_lengths_of_2023(service):
    _, *recorded = derive["columns_2023"](service)
    generated = sampled(f"azure-2023-{service}")
    for kind, tokens in zip(("input", "output"), recorded, strict=True):
        values = np.arange(tokens.max() + 2)
        assert np.abs(cdf(generated[kind], values) - cdf(tokens, values)).max() <= 0.02
        assert generated[kind].mean() == pytest.approx(tokens.mean(), rel=0.01)


@services
def test_classes_of_2023(service):
    """The joint distribution: shares of the nine length classes, within one in a hundred requests."""
    classes = LengthClasses()
    _, *recorded = derive["columns_2023"](service)
    shares = [
        np.bincount(classes.of(inputs, outputs), minlength=9) / len(inputs)
        for inputs, outputs in (recorded, sampled(f"azure-2023-{service}").values())
    ]
    assert shares[1] == pytest.approx(shares[0], abs=0.01)


@services
@pytest.mark.parametrize("kind", ["input", "output"])
def test_lengths_of_2024(service, kind):
    """The digitised points, where the figures show the curve, to within half a pixel of theirs across."""
    fractions, tokens = derive["cdf_2024"](service, kind)
    pixel = derive["PIXEL_TOKENS"][kind]
    shown = tokens > 1.5 * pixel
    generated = sampled(f"azure-2024-{service}")[kind]
    assert shown.mean() > 0.5
    assert (cdf(generated, tokens[shown] - pixel / 2) <= fractions[shown] + 0.02).all()
    assert (cdf(generated, tokens[shown] + pixel / 2) >= fractions[shown] - 0.02).all()


@services
def test_percentiles_of_2024(service):
    """Published from the raw data: percentiles of the outputs, buckets of the inputs."""
    generated = sampled(f"azure-2024-{service}")
    for fraction, tokens in zip((0.5, 0.9, 0.95, 0.99), derive["OUTPUT_PERCENTILES"][service], strict=True):
        fewer, up_to = cdf(generated["output"], [tokens - 1, tokens])
        assert fewer - 0.02 <= fraction <= up_to + 0.02
    below = {"code": (0.09, 0.28), "conv": (0.08, 0.52)}[service]
    assert cdf(generated["input"], [255, 1023]) == pytest.approx(below, abs=0.02)


@services
def test_hours_of_2024_are_met_in_expectation(service):
    curve = built_in(f"azure-2024-{service}").curve
    expected = np.diff(curve.count_by(np.arange(169) * 3600.0))
    assert expected == pytest.approx(derive["hourly_2024"](service), rel=0.02)


def test_hours_of_2024_as_generated():
    workload = built_in("azure-2024-conv")
    counts = np.zeros(168)
    for chunk in workload.chunks(seed=3, hours=48):
        counts[int(chunk.arrival_s[0] // 3600)] += len(chunk)
    assert counts[:48] == pytest.approx(derive["hourly_2024"]("conv")[:48], rel=0.02)


def test_hours_of_a_bursty_week_as_generated():
    """At CV 13 an hour of 100,000 requests varies by 4 %: the mean of many seeds is what must fit."""
    workload = built_in("azure-2024-code")
    counts = np.zeros(4)
    for seed in range(60):
        for chunk in workload.chunks(seed=seed, hours=4):
            counts[int(chunk.arrival_s[0] // 3600)] += len(chunk) / 60
    assert counts == pytest.approx(derive["hourly_2024"]("code")[:4], rel=0.03)
    assert counts.sum() == pytest.approx(derive["hourly_2024"]("code")[:4].sum(), rel=0.02)


@services
def test_the_hour_of_2023(service):
    """Totals and the CV of the gaps, mean of many seeds; the CV of one bursty hour varies widely."""
    times, *_ = derive["columns_2023"](service)
    workload = built_in(f"azure-2023-{service}")
    hours = [joined(list(workload.chunks(seed=seed))).arrival_s for seed in range(40)]
    assert np.mean([len(hour) for hour in hours]) == pytest.approx(len(times), rel=0.03)
    assert np.mean([interarrival_cv(hour) for hour in hours]) == pytest.approx(interarrival_cv(times), rel=0.06)


def test_the_minutes_of_2023():
    times, *_ = derive["columns_2023"]("conv")
    edges = np.linspace(0, times[-1], 61)
    chunks = built_in("azure-2023-conv").chunks(seed=1, rate_scale=400)
    counts = sum(np.histogram(chunk.arrival_s, edges)[0] for chunk in chunks) / 400
    assert counts == pytest.approx(np.histogram(times, edges)[0], rel=0.02)
