"""Recomputes the tables of dynawatt.workload.published from the data they come from.

Run from the repository root: ``python tests/workload/derive_published.py ../shared/data`` prints them. The tests
compare them with the module.
"""

import csv
import sys
from pathlib import Path

import numpy as np

from dynawatt.workload.arrivals import interarrival_cv
from dynawatt.workload.rates import rate_curve

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
KNOTS = 40
RANKS = 16
# Output percentiles 50, 90, 95, 99 of the raw 2024 data, from the same source as the figures (see PROVENANCE.md).
OUTPUT_PERCENTILES = {"code": (8, 43, 79, 271), "conv": (41, 342, 455, 694)}
PIXEL_TOKENS = {"input": 8.87, "output": 5.54}


def columns_2023(service, data=DATA):
    """Arrival times in s, input tokens, output tokens."""
    path = data / "azure-llm-2023" / f"AzureLLMInferenceTrace_{service}.csv"
    times, inputs, outputs = np.loadtxt(path, delimiter=",", skiprows=1, dtype=str).T
    times = times.astype("datetime64[ns]")
    return (times - times[0]) / np.timedelta64(1, "s"), inputs.astype(int), outputs.astype(int)


def hourly_2024(service, data=DATA):
    """168 request counts."""
    return np.loadtxt(
        data / "azure-llm-2024-digitised" / f"azure2024_{service}_hourly_digitised.csv",
        delimiter=",",
        skiprows=1,
        usecols=2,
    )


def cdf_2024(service, kind, data=DATA):
    """Digitised points: cumulative fractions, tokens.

    The output figures' axis is off by about a pixel: tokens are shifted so that the published percentiles are met.
    """
    with (data / "azure-llm-2024-digitised" / "azure2024_token_cdfs_digitised.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if (row["trace"], row["kind"]) == (service, kind)]
    fractions = np.array([float(row["cdf_pct"]) / 100 for row in rows])
    tokens = np.array([float(row["tokens"]) for row in rows])
    if kind == "output":
        at = [0.5, 0.9, 0.95, 0.99]
        tokens += np.interp(fractions, at, OUTPUT_PERCENTILES[service] - np.interp(at, fractions, tokens))
    return np.minimum(fractions, 1.0), tokens


def significant(values, digits=3):
    return [float(f"{value:.{digits}g}") for value in values]


def levels_2023(service, data=DATA):
    """Requests in each sixtieth of the hour, relative to their mean."""
    times, *_ = columns_2023(service, data)
    counts = np.histogram(times, bins=60, range=(0, times[-1]))[0]
    return significant(counts / counts.mean())


def levels_2024(service, data=DATA):
    counts = hourly_2024(service, data)
    return significant(counts / counts.mean())


def residual_cv(service, data=DATA):
    """CV of the gaps of 2023 in units of requests expected by the rate curve."""
    times, *_ = columns_2023(service, data)
    curve = rate_curve(levels_2023(service, data), times[-1], (len(times) - 1) / times[-1])
    return interarrival_cv(curve.count_by(times))


def knots(fractions, tokens, count=KNOTS):
    """The points that keep a CDF and its mean best: most where the CDF is furthest off, the last where the mean is."""
    chosen = [0, len(tokens) - 1]
    while len(chosen) < min(count, len(tokens)):
        chosen.sort()
        error = fractions - np.interp(tokens, tokens[chosen], fractions[chosen])
        if len(chosen) < 0.75 * count:
            worst = int(np.abs(error).argmax())
        else:
            area = np.concatenate([[0.0], np.cumsum((error[1:] + error[:-1]) / 2 * np.diff(tokens))])
            piece = int(np.abs(np.diff(area[chosen])).argmax())
            inside = slice(chosen[piece] + 1, chosen[piece + 1])
            worst = chosen[piece] + 1 + int(np.abs(error[inside]).argmax()) if chosen[piece] + 1 < inside.stop else -1
        if worst in chosen or worst < 0:
            break
        chosen.append(worst)
    chosen.sort()
    return [(round(float(fractions[i]), 4), round(float(tokens[i]), 1)) for i in chosen]


def knots_2023(tokens):
    values, counts = np.unique(tokens, return_counts=True)
    return knots(
        np.concatenate([[0.0], np.cumsum(counts) / len(tokens)]), np.concatenate([values[:1] - 0.5, values + 0.5])
    )


def knots_2024(service, kind, data=DATA):
    """Where the curve steps from one pixel to the next it is halfway between both."""
    fractions, tokens = cdf_2024(service, kind, data)
    steps = np.flatnonzero(np.diff(tokens))
    x = (tokens[steps] + tokens[steps + 1]) / 2
    f = (fractions[steps] + fractions[steps + 1]) / 2
    seen = x > PIXEL_TOKENS[kind]  # below one pixel the figure shows nothing
    x = np.concatenate([[0.5], x[seen], [max(tokens[-1], x[seen][-1])]])
    return knots(np.concatenate([[0.0], f[seen], [1.0]]), x)


def copula(service, data=DATA, ranks=RANKS):
    """How often ranks of inputs and outputs meet, per 10,000 requests; ties are broken at random."""
    _, *lengths = columns_2023(service, data)
    rng = np.random.default_rng(0)
    count = len(lengths[0])
    order = [np.argsort(np.lexsort((rng.random(count), tokens))) / count for tokens in lengths]
    cells = np.histogram2d(*order, bins=ranks, range=((0, 1), (0, 1)))[0]
    return np.rint(cells / count * 1e4).astype(int).tolist()


def _print_table(name, values):
    text, line = [], "   "
    for value in values:
        item = f" {value},".replace("'", "")
        if len(line) + len(item) > 118:
            text.append(line)
            line = "   "
        line += item
    print(f"{name}: Final = (", *text, line, ")", sep="\n")


def main(data):
    for service, name in (("conv", "CONVERSATION"), ("code", "CODE")):
        times, inputs, outputs = columns_2023(service, data)
        print(f"# {service}: {len(times)} requests, {times[-1]:.1f} s, CV {interarrival_cv(times):.3f}", end=", ")
        print(f"without the levels {residual_cv(service, data):.3f}")
        if service == "conv":
            _print_table("CONVERSATION_2023_LEVELS", levels_2023(service, data))
        _print_table(f"{name}_2024_LEVELS", levels_2024(service, data))
        for kind, tokens in (("INPUTS", inputs), ("OUTPUTS", outputs)):
            _print_table(f"{name}_2023_{kind}", knots_2023(tokens))
            _print_table(f"{name}_2024_{kind}", knots_2024(service, kind[:-1].lower(), data))
        _print_table(f"{name}_COPULA", [tuple(row) for row in copula(service, data)])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA)
