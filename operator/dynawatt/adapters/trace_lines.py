"""Finds the line that makes a trace file unreadable. Slow and exact; used only when reading whole columns failed."""

import contextlib
import csv
import math
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Final, NoReturn

import numpy as np

from dynawatt.errors import InvalidInputError
from dynawatt.workload.trace import MAX_TOKENS

COLUMNS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_TIME_FORMAT: Final = "a UTC time like 2023-11-16 18:15:46.6805900, or seconds"
_DATE_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d{1,9})?(\+00:00|Z)?")


def refuse_first_bad_line(path: Path, file: IO[str], columns: Sequence[int]) -> NoReturn:
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
            as_number = is_number(time) if as_number is None else as_number
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


def is_number(text: str) -> bool:
    """Whether this is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


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
        return float(time) if is_number(time) else None
    if not _DATE_TIME.fullmatch(time):
        return None
    plain = time.removesuffix("Z").removesuffix("+00:00")
    try:
        datetime.fromisoformat(plain)
    except ValueError:
        return None
    return int(np.datetime64(plain, "ns").astype(np.int64))
