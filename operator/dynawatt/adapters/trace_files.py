"""Request traces as files, in the format of the Azure LLM inference traces.

A CSV file with the columns TIMESTAMP, ContextTokens and GeneratedTokens in any
place, one request per line in order of time. Timestamps are UTC, with up to 9
fractional digits, or plain seconds; the first request is time 0.

Whole columns are parsed at once, as traces of a week hold tens of millions of
lines. Only when that fails is the file read again line by line, to say where.
"""

import contextlib
import csv
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.workload.trace import MAX_TOKENS, Trace

COLUMNS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_TIME_FORMAT: Final = "a UTC time like 2023-11-16 18:15:46.6805900, or seconds"
_DATE_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d{1,9})?(\+00:00|Z)?")
_MAX_TIME_CHARACTERS: Final = 40
_ROW: Final = np.dtype([("time", f"S{_MAX_TIME_CHARACTERS}"), ("input", np.int64), ("output", np.int64)])


def read_trace(path: Path) -> Trace:
    """Read a trace. Raises InvalidInputError with file, line, value and remedy."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            columns = _columns(path, file)
            try:
                trace = _read_columns(file, columns)
            except (ValueError, Warning):
                file.seek(0)
                _refuse_first_bad_line(path, file, columns)
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"trace {path}: is not a text file (byte {error.start}: {error.reason}); give a CSV file, not compressed"
        ) from error
    except OSError as error:
        raise InvalidInputError(f"trace {path}: {error.strerror}; give a CSV file that can be read") from error
    if not len(trace):
        raise InvalidInputError(f"trace {path}: holds no request; give one with at least one line below the header")
    return trace


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


def _read_columns(file: IO[str], columns: Sequence[int]) -> Trace:
    """The rest of the file as a trace. Raises ValueError or a warning when anything is wrong with it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy only warns of other time zones and of fractions of a token
        warnings.filterwarnings("ignore", message=".*input contained no data")
        rows = np.loadtxt(file, delimiter=",", usecols=columns, dtype=_ROW, comments=None, quotechar='"', ndmin=1)
        return Trace(_times_s(rows["time"]), rows["input"].copy(), rows["output"].copy())


def _times_s(texts: NDArray[np.bytes_]) -> NDArray[np.float64]:
    """Seconds since the first. Raises ValueError."""
    if not len(texts):
        return np.empty(0)
    if _is_number(texts[0].decode()):
        seconds = texts.astype(np.float64)
        return np.asarray(seconds - seconds[0])
    for suffix in (b"+00:00", b"Z"):
        if texts[0].endswith(suffix):
            texts = np.strings.replace(texts, suffix, b"")
    if (np.strings.str_len(texts) < len("YYYY-MM-DD hh:mm:ss")).any() or not np.strings.isdigit(
        texts.astype("S4")
    ).all():
        raise ValueError("not all are times")
    times = texts.astype("datetime64[ns]")
    return np.asarray((times - times[0]) / np.timedelta64(1, "s"))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _refuse_first_bad_line(path: Path, file: IO[str], columns: Sequence[int]) -> NoReturn:
    """Find out what is wrong with a file that could not be read."""
    before: tuple[str, float | int] | None = None
    as_number: bool | None = None
    with contextlib.suppress(csv.Error):
        for line, row in _lines(file):
            place = f"trace {path}, line {line}"
            if len(row) <= max(columns):
                raise InvalidInputError(f"{place}: has {len(row)} values; needs one for each column of the header")
            time, *counts = (row[column].strip() for column in columns)
            for name, text in zip(COLUMNS[1:], counts, strict=True):
                if not re.fullmatch(r"[+-]?\d{1,18}", text) or not 1 <= int(text) <= MAX_TOKENS:
                    raise InvalidInputError(
                        f"{place}: {name} is {text[:40]!r}; must be a whole number from 1 to {MAX_TOKENS}"
                    )
            as_number = _is_number(time) if as_number is None else as_number
            value = _order(time, as_number=as_number)
            if value is None:
                must = "must be seconds as in the lines above" if as_number else f"must be {_TIME_FORMAT}"
                raise InvalidInputError(f"{place}: TIMESTAMP is {time[:40]!r}; {must}")
            if before is not None and value < before[1]:
                raise InvalidInputError(
                    f"{place}: TIMESTAMP {time} is before {before[0]} of the line above; sort the lines by time"
                )
            before = (time, value)
    raise InvalidInputError(f"trace {path}: cannot be read as CSV; write it with the columns {','.join(COLUMNS)} only")


def _lines(file: IO[str]) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and values below the header, without blank lines."""
    reader = csv.reader(line.replace("\0", "\N{REPLACEMENT CHARACTER}") for line in file)
    next(reader)
    for row in reader:
        if row:
            yield reader.line_num, row


def _order(time: str, *, as_number: bool) -> float | int | None:
    """Something that sorts as the times do; None when this is no time."""
    if as_number:
        return float(time) if _is_number(time) else None
    if not _DATE_TIME.fullmatch(time):
        return None
    plain = time.removesuffix("Z").removesuffix("+00:00")
    try:
        datetime.fromisoformat(plain)
    except ValueError:
        return None
    return int(np.datetime64(plain, "ns").astype(np.int64))
