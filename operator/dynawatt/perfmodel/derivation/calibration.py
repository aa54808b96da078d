"""Which measurements of a whole engine calibrate its overhead, and which only check it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dynawatt.perfmodel.clocked import ClockedReplica
from dynawatt.perfmodel.derivation.closed_loop import ClosedLoopRow
from dynawatt.perfmodel.derivation.overhead import EngineOverhead, fit_overhead

CHAT: Final = "lm-arena-chat"
MOST_REQUESTS: Final = 256
"""More than this few services run; the engine's CUDA graphs end at 512."""
_HOLD_OUT: Final = 3
"""Every third row of a series over batch sizes checks the fit and has no part in it."""
_REFERENCE_GPU: Final = "h100-sxm"


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of the measurements by their use."""

    fitted: tuple[ClosedLoopRow, ...]
    held_out: tuple[ClosedLoopRow, ...]
    host_bound: tuple[ClosedLoopRow, ...]
    """Slower than the same load on older GPUs: their host, not the GPU, was measured."""


def sort_rows(rows: Sequence[ClosedLoopRow], is_dense: Callable[[str], bool]) -> Rows:
    """Rows with up to 256 requests, by use.

    Dense models in the chat task calibrate; other tasks and mixtures of experts only check. ``is_dense`` tells of a
    model's name which it is.
    """
    small = [row for row in rows if round(row.requests) <= MOST_REQUESTS]
    host_bound = {id(row) for row in small if _is_host_bound(row, small)}
    calm = [row for row in small if id(row) not in host_bound]
    fitted: list[ClosedLoopRow] = []
    held_out: list[ClosedLoopRow] = []
    places: dict[tuple[str, str, int, str], int] = {}
    for row in sorted(calm, key=lambda row: (row.model, row.gpu, row.tensor_parallel, row.task, row.max_requests)):
        series = (row.model, row.gpu, row.tensor_parallel, row.precision)
        if row.task != CHAT or not is_dense(row.model):
            held_out.append(row)
            continue
        place = places[series] = places.get(series, -1) + 1
        (held_out if place % _HOLD_OUT == _HOLD_OUT - 1 else fitted).append(row)
    return Rows(tuple(fitted), tuple(held_out), tuple(row for row in small if id(row) in host_bound))


def calibrate(
    rows: Sequence[ClosedLoopRow], replica_of: Callable[[ClosedLoopRow], ClockedReplica]
) -> dict[str, EngineOverhead]:
    """Overheads by GPU, the reference GPU's first: its rows tell the mean prompt, which the other GPUs' rows share.

    Args:
        rows: those to fit.
        replica_of: the replica of a row at its clock, its profile without overhead.
    """
    gpus = sorted({row.gpu for row in rows}, key=lambda gpu: (gpu != _REFERENCE_GPU, gpu))
    found: dict[str, EngineOverhead] = {}
    for gpu in gpus:
        measured = [(row, replica_of(row)) for row in rows if row.gpu == gpu]
        found[gpu] = fit_overhead(measured, found[gpus[0]].prompt_tokens if found else None)
    return found


def _is_host_bound(row: ClosedLoopRow, rows: Sequence[ClosedLoopRow]) -> bool:
    """Whether the reference GPU did the same faster, on at most twice as many: newer ones have over twice its speed."""
    return row.gpu != _REFERENCE_GPU and any(
        other.gpu == _REFERENCE_GPU
        and (other.model, other.task, other.precision) == (row.model, row.task, row.precision)
        and other.tensor_parallel <= 2 * row.tensor_parallel
        and round(other.requests) >= round(row.requests)
        and other.step_s < row.step_s
        for other in rows
    )
