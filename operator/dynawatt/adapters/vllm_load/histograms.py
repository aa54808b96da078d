"""Histograms as Prometheus gives them: cumulative counts by upper bound."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dynawatt.ports import RangeSeries, Sample
from dynawatt.workload.mix import Histogram, LengthMix, mix_from_histograms


def histogram_of(samples: Sequence[Sample]) -> Histogram:
    """From a query that sums buckets by ``le``."""
    return in_order({float(sample.labels["le"]): sample.value for sample in samples if "le" in sample.labels})


def in_order(counts: Mapping[float, float]) -> Histogram:
    """Ascending. A bound that only some of the pods have, as while their buckets are changed, is left out."""
    rows: list[tuple[float, float]] = []
    for bound, count in sorted(counts.items()):
        if math.isfinite(count) and (not rows or count >= rows[-1][1] * (1 - 1e-6)):
            rows.append((bound, max(count, rows[-1][1] if rows else 0.0)))
    return rows


def added(histograms: Iterable[Histogram]) -> Histogram:
    """Sum of histograms at the bounds that all of them have; those without any count are passed over."""
    counted = [histogram for histogram in histograms if histogram and histogram[-1][1] > 0]
    found: dict[float, list[float]] = defaultdict(list)
    for histogram in counted:
        for bound, count in histogram:
            found[bound].append(count)
    return sorted((bound, sum(counts)) for bound, counts in found.items() if len(counts) == len(counted))


def fraction_within(histogram: Histogram, bound_s: float) -> float | None:
    """Fraction of observations up to ``bound_s``, linear inside a bucket; None without observations."""
    total = histogram[-1][1] if histogram else 0.0
    if total <= 0:
        return None
    below, below_count = 0.0, 0.0
    for upper, count in histogram:
        if upper >= bound_s:
            share = 1.0 if math.isinf(upper) or upper == below else (bound_s - below) / (upper - below)
            inside = 0.0 if math.isinf(upper) else share * (count - below_count)
            return (below_count + inside) / total
        below, below_count = upper, count
    return 1.0


def mix_of(inputs: Histogram, outputs: Histogram, input_sum: float, output_sum: float) -> LengthMix | None:
    """Lengths of finished requests, inputs and outputs taken independently; None when less than one finished."""
    if min(rows[-1][1] if rows else 0.0 for rows in (inputs, outputs)) < 1:
        return None
    return mix_from_histograms(
        inputs, outputs, mean_input=input_sum / inputs[-1][1], mean_output=output_sum / outputs[-1][1]
    )


def slot_row(series: Sequence[RangeSeries], start_s: float, slots: int, slot_s: float) -> NDArray[np.float64]:
    """Values by slot: that of a moment belongs to the slot that ends with it; NaN where there is none."""
    row = np.full(slots, np.nan)
    for each in series:
        for time_s, value in each.values:
            slot = round((time_s - start_s) / slot_s) - 1
            if 0 <= slot < slots and math.isfinite(value) and value >= 0:
                row[slot] = value
    return row
