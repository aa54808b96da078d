"""Published clock sweeps of LLM inference, as files: one card, one load, several clocks.

``club3090-clock-powercap`` holds locked clocks (RTX 5090) and power limits with
the clock that resulted (RTX 3090); ``rtxpro6000-powercap`` power limits with the
mean clock (RTX PRO 6000). The files of RTX 4090, and of RTX 5090 under power
limits, record no clock and so say nothing of its axis.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.clock_shape import ClockSweep

_LOCKED: Final = "club3090-clock-powercap/freq-cap-5090-gemma4.csv"
_LIMITED: Final = "club3090-clock-powercap/power-cap-3090-*.csv"
_SUMMARIES: Final = "rtxpro6000-powercap/*/summary.txt"
_MEMORY_CLOCKS_MHZ: Final = (7001, 14001)
"""At the lower ones of the file memory is nearly off, which a datacentre GPU never is."""
_SUMMARY_COLUMNS: Final = ["cap", "req", "tokens", "agg_tps", "tps_per", "pwr_W", "temp_C", "MHz"]


def read_clock_sweeps(directory: Path) -> list[ClockSweep]:
    """All sweeps found under ``directory``, in order of name; none where the files are not there.

    Raises InvalidInputError for a file that is not what it should be.
    """
    sweeps = []
    locked = directory / _LOCKED
    if locked.exists():
        rows = _rows(locked)
        for memory_mhz in _MEMORY_CLOCKS_MHZ:
            chosen = [row for row in rows if _number(row, "mem_mhz", locked) == memory_mhz]
            sweeps.append(_sweep(f"rtx5090-memory-{memory_mhz}", chosen, locked))
    sweeps.extend(
        _sweep(path.stem.replace("power-cap-", "rtx"), _rows(path), path) for path in directory.glob(_LIMITED)
    )
    sweeps.extend(
        _sweep(f"rtxpro6000-{path.parent.name}", _summary_rows(path), path) for path in directory.glob(_SUMMARIES)
    )
    return sorted(sweeps, key=lambda sweep: sweep.name)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _summary_rows(path: Path) -> list[dict[str, str]]:
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines or lines[0] != _SUMMARY_COLUMNS:
        raise InvalidInputError(f"{path}: first line must be {' '.join(_SUMMARY_COLUMNS)}")
    names = {"MHz": "sm_mhz", "pwr_W": "power_w", "agg_tps": "narr_tps"}
    columns = [names.get(column, column) for column in _SUMMARY_COLUMNS]
    return [dict(zip(columns, line, strict=False)) for line in lines[2:]]


def _sweep(name: str, rows: Iterable[dict[str, str]], path: Path) -> ClockSweep:
    """Rows of one clock (limits that were not reached) are averaged."""
    points: dict[float, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        tokens = "prefill_tps" if "prefill_tps" in row else "narr_tps"
        points[_number(row, "sm_mhz", path)].append((_number(row, "power_w", path), _number(row, tokens, path)))
    clocks = sorted(points)
    means = np.array([np.mean(points[clock], axis=0) for clock in clocks]).reshape(len(clocks), 2)
    return ClockSweep(name, np.array(clocks), means[:, 0], means[:, 1])


def _number(row: dict[str, str], column: str, path: Path) -> float:
    try:
        value = float(row[column])
    except (KeyError, TypeError, ValueError):
        value = 0.0
    if not 0 < value < float("inf"):
        raise InvalidInputError(f"{path}: {column}: {row.get(column)!r} must be a positive number")
    return value
