"""Request traces as files, in the format of the Azure LLM inference traces.

A CSV file with the columns TIMESTAMP, ContextTokens and GeneratedTokens in any
place, one request per line in order of time. Timestamps are UTC, with up to 9
fractional digits, or plain seconds; the first request is time 0.

Whole columns are parsed at once, a block of lines at a time, as traces of a week
hold tens of millions of lines. Only when that fails is the file read again line
by line, to say where.
"""

import csv
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.adapters.trace_lines import COLUMNS, is_number, refuse_first_bad_line
from dynawatt.errors import InvalidInputError
from dynawatt.workload.trace import Trace, joined

_BLOCK_LINES: Final = 1 << 17
_MAX_TIME_CHARACTERS: Final = 40
_ROW: Final = np.dtype([("time", f"S{_MAX_TIME_CHARACTERS}"), ("input", np.int64), ("output", np.int64)])


def read_trace(path: Path) -> Trace:
    """Read a trace. Raises InvalidInputError with file, line, value and remedy."""
    return joined(list(read_blocks(path)))


def read_blocks(path: Path) -> Iterator[Trace]:
    """A trace, some lines at a time, at times since its first request.

    Raises InvalidInputError with file, line, value and remedy as soon as a block makes no sense.
    """
    requests = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            columns = _columns(path, file)
            try:
                for block in _parsed(file, columns):
                    requests += len(block)
                    yield block
            except (ValueError, Warning):
                file.seek(0)
                refuse_first_bad_line(path, file, columns)
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"trace {path}: is not a text file (byte {error.start}: {error.reason}); give a CSV file, not compressed"
        ) from error
    except OSError as error:
        raise InvalidInputError(f"trace {path}: {error.strerror}; give a CSV file that can be read") from error
    if not requests:
        raise InvalidInputError(f"trace {path}: holds no request; give one with at least one line below the header")


def write_trace(path: Path, trace: Trace) -> None:
    """Write a trace that ``read_trace`` reads back to within 100 ns; times are written as seconds. Raises OSError."""
    rows = np.column_stack([trace.arrival_s, trace.input_tokens, trace.output_tokens])
    np.savetxt(path, rows, fmt=["%.7f", "%d", "%d"], delimiter=",", header=",".join(COLUMNS), comments="")


def _columns(path: Path, file: IO[str]) -> list[int]:
    """Positions of the three columns, from the header."""
    header = next(csv.reader([file.readline(10_000)]), [])
    found = [name.strip() for name in header]
    if missing := [name for name in COLUMNS if name not in found]:
        raise InvalidInputError(
            f"trace {path}: has no column {', '.join(missing)}; the first line must name {','.join(COLUMNS)}, "
            f"found {','.join(found)[:200] or 'nothing'}"
        )
    return [found.index(name) for name in COLUMNS]


def _parsed(file: IO[str], columns: Sequence[int]) -> Iterator[Trace]:
    """The rest of the file in blocks. Raises ValueError or a warning when anything is wrong with it."""
    first: tuple[bool, NDArray[Any]] | None = None
    last_s = 0.0
    while len(rows := _read_rows(file, columns)):
        are_seconds, times = _times(rows["time"])
        if first is None:
            first = are_seconds, times[:1].copy()
        if are_seconds != first[0]:
            raise ValueError("numbers and dates")
        since_first = times - first[1]  # whole nanoseconds are subtracted before they are rounded
        arrival_s = since_first if are_seconds else since_first / 1e9
        block = Trace(arrival_s, rows["input"].copy(), rows["output"].copy())
        if block.arrival_s[0] < last_s:
            raise ValueError("not in order of time")
        last_s = block.span_s
        yield block


def _read_rows(file: IO[str], columns: Sequence[int]) -> NDArray[np.void]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy only warns of fractions of a token
        warnings.filterwarnings("ignore", message=".*input contained no data")
        # numpy says that blank lines do not count as rows of a block.
        warnings.filterwarnings("ignore", message=".*contained no data and will not be counted")
        return np.loadtxt(
            file,
            delimiter=",",
            usecols=columns,
            dtype=_ROW,
            comments=None,
            quotechar='"',
            ndmin=1,
            max_rows=_BLOCK_LINES,
        )


def _times(texts: NDArray[np.bytes_]) -> tuple[bool, NDArray[Any]]:
    """Whether these are seconds, like the first of them, and these, or else nanoseconds as whole numbers.

    Raises ValueError, or a warning of another time zone.
    """
    if is_number(texts[0].decode()):
        return True, texts.astype(np.float64)
    for suffix in (b"+00:00", b"Z"):
        if np.strings.endswith(texts, suffix).any():
            texts = np.strings.replace(texts, suffix, b"")
    shortest = len("YYYY-MM-DD hh:mm:ss")
    if (np.strings.str_len(texts) < shortest).any() or not np.strings.isdigit(texts.astype("S4")).all():
        raise ValueError("not all are times")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return False, texts.astype("datetime64[ns]").astype(np.int64)
