"""What ``dynawatt simulate`` reads from the command line, as objects."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from dynawatt.errors import InvalidInputError, OperationError, nearest_names
from dynawatt.quantities import seconds
from dynawatt.workload.objectives import LatencyObjectives

DEFAULT_SLO: Final = "p99,ttft=256:250,1024:400,2000,tbt=100"
"""DynamoLLM's (HPCA 2025): 250 ms for inputs up to 256 tokens, 400 up to 1024, else 2 s; 100 ms between tokens."""
_SLO_SYNTAX: Final = "p99,ttft=MAX_INPUT:MS,..,MS,tbt=MS"
_LENGTH: Final = re.compile(r"[0-9]{1,8}")


class ClassCuts(StrEnum):
    """Where short requests end and long ones begin."""

    PAPER = "paper"
    PERCENTILE = "percentile"


@dataclass(frozen=True, slots=True)
class Slo:
    """Objectives and the percentile of requests and gaps that must meet them."""

    objectives: LatencyObjectives
    percentile: float

    @property
    def fraction(self) -> float:
        """The percentile as an attainment."""
        return self.percentile / 100


def parse_slo(text: str) -> Slo:
    """Read ``p99,ttft=256:250,1024:400,2000,tbt=100``; parts that are left out are the default's.

    TTFT objectives are milliseconds by longest input, the last one without a length. Raises InvalidInputError.
    """
    given, default = _slo_parts(text), _slo_parts(DEFAULT_SLO)
    percentile = _number(text, given.get("p", default["p"])[0])
    if not 50 <= percentile < 100:
        raise InvalidInputError(f"--slo {text}: percentile {percentile:g} must be at least 50 and below 100")
    tbt_ms = given.get("tbt", default["tbt"])
    if len(tbt_ms) != 1:
        raise InvalidInputError(f"--slo {text}: tbt takes one number of milliseconds; write it as {_SLO_SYNTAX}")
    entries: list[tuple[int | None, float]] = []
    for part in given.get("ttft", default["ttft"]):
        bound, colon, milliseconds = part.rpartition(":")
        if colon and not _LENGTH.fullmatch(bound):
            raise InvalidInputError(f"--slo {text}: {part!r} must be MAX_INPUT_TOKENS:MILLISECONDS")
        entries.append((int(bound) if colon else None, seconds(_number(text, milliseconds))))
    tbt_s = seconds(_number(text, tbt_ms[0]))
    try:
        return Slo(LatencyObjectives(tuple(entries), tbt_s), percentile)
    except InvalidInputError as error:
        raise InvalidInputError(f"--slo {text}: {error}") from error


def chosen(option: str, values: Sequence[str], known: Iterable[str]) -> list[str]:
    """Values of an option that may be repeated or hold commas, each once. Raises InvalidInputError with near names."""
    names = list(known)
    wanted = [name.strip() for value in values for name in value.split(",")]
    for name in wanted:
        if name not in names:
            raise InvalidInputError(f"{option} {name!r} is not known: {nearest_names(name, names)}")
    return list(dict.fromkeys(wanted))


def check_outputs(json_file: str | None, report: Path | None, trace: Path | None) -> None:
    """Find out before the simulation, not after it, that results have no place. Raises InvalidInputError."""
    if report == Path("-"):
        raise InvalidInputError("--report -: must be a file; only --json goes to standard output")
    taken = {} if trace is None else {trace.resolve(): "--trace"}
    for option, file in (("--json", None if json_file in {None, "-"} else Path(str(json_file))), ("--report", report)):
        if file is None:
            continue
        _check_writable(option, file)
        if other := taken.get(file.resolve()):
            raise InvalidInputError(f"{option} {file}: is what {other} names; give another file")
        # Devices such as /dev/null take everything.
        if file.is_file() or not file.exists():
            taken[file.resolve()] = option


def write_output(option: str, file: Path, text: str) -> None:
    """Write a result. Raises OperationError, as when the disk is full."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OperationError(f"{option} {file}: {error.strerror}; make room or give another file") from error


def _check_writable(option: str, file: Path) -> None:
    existing = file if file.exists() else file.parent
    if file.is_dir() or not (file.exists() or existing.is_dir()) or not os.access(existing, os.W_OK):
        raise InvalidInputError(f"{option} {file}: cannot be written; give a file in an existing directory")


def _slo_parts(text: str) -> dict[str, list[str]]:
    """Values by key; what has no key goes on with the one before it."""
    parts: dict[str, list[str]] = {}
    key = ""
    for word in text.replace(" ", "").split(","):
        name, equals, value = word.partition("=")
        if equals:
            key = name
            if key not in ("ttft", "tbt") or key in parts:
                raise InvalidInputError(f"--slo {text}: {word!r} is not understood; write it as {_SLO_SYNTAX}")
            parts[key] = [value]
        elif word.startswith("p") and "p" not in parts:
            key = "p"
            parts[key] = [word[1:]]
        elif key == "ttft":
            parts[key].append(word)
        else:
            raise InvalidInputError(f"--slo {text}: {word!r} is not understood; write it as {_SLO_SYNTAX}")
    return parts


def _number(text: str, word: str) -> float:
    try:
        return float(word)
    except ValueError as error:
        raise InvalidInputError(f"--slo {text}: {word!r} is not a number; write it as {_SLO_SYNTAX}") from error
