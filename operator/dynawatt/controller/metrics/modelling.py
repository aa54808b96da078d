"""What was forecast and modelled, beside what was observed."""

from collections.abc import Iterator, Sequence

from prometheus_client.core import Metric

from dynawatt.controller.metrics.figures import Shown
from dynawatt.controller.metrics.making import gauge


def modelling_families(services: Sequence[Shown]) -> Iterator[Metric]:
    """All families that compare models with the world."""
    observed = gauge("dynawatt_observed_requests_per_second", "Requests that arrive, mean over the rate window.")
    forecast = gauge(
        "dynawatt_forecast_requests_per_second",
        "Requests forecast for the next five minutes: expected, and high, which is planned to be ready for.",
        "level",
    )
    predicted = gauge(
        "dynawatt_predicted_power_watts", "Power of what runs, by the model, under the load that is observed."
    )
    measured = gauge(
        "dynawatt_measured_power_watts",
        "Power of the GPUs that the pods hold, measured by the agents; absent when any is not.",
    )
    attainment = gauge(
        "dynawatt_slo_attainment_ratio",
        "Fraction of first tokens (ttft) and of gaps between tokens (tbt) within their objectives, measured by vLLM or "
        "modelled where its metrics cannot tell.",
        "objective",
        "source",
    )
    factor = gauge(
        "dynawatt_calibration_factor",
        "What the model's predictions are multiplied with, as learnt from measurements; 1 where they agree.",
        "shape",
        "kind",
    )
    for shown in services:
        key, figures = shown.key, shown.figures
        observed.add(key, figures.observed_rps)
        forecast.add(key, figures.expected_rps, "expected")
        forecast.add(key, figures.high_rps, "high")
        predicted.add(key, figures.predicted_power_w)
        measured.add(key, figures.measured_power_w)
        for objective, found in figures.attainments.items():
            attainment.add(key, found.ratio, objective, found.source)
        for (shape, kind), value in figures.calibration.items():
            factor.add(key, value, shape, kind)
    yield from (samples.family for samples in (observed, forecast, predicted, measured, attainment, factor))
