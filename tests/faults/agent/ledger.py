"""What was tried and what came of it: the table of ``make faults-agent``."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SLACK_S = 6.0
"""Given to every deadline on top, because other things run on the machine; what needed it is called late."""
_POLL_S = 0.02
_HEADER = ("fault", "tried", "outcome", "seen after", "wanted", "verdict")


def always_true() -> bool:
    return True


@dataclass
class Trial:
    """One try of one fault."""

    fault: str
    outcome: str
    wanted_s: float | None
    """Within how long the outcome must be seen; None for outcomes that are no matter of time."""
    took_s: float = 0.0
    failed: bool = False
    _began_s: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """The fault happens now."""
        self._began_s = time.monotonic()

    def until(self, check: Callable[[], object], *, meanwhile: Callable[[], bool] = always_true) -> None:
        """Wait for the outcome, and see that something else stays true all the time."""
        race({self: check}, meanwhile=meanwhile)

    def note(self, *, took_s: float) -> None:
        """A time that was measured by somebody else, so that a busy machine may at most double it."""
        self.took_s = max(self.took_s, took_s)
        assert self.wanted_s is None or took_s <= 2 * self.wanted_s, self

    def __hash__(self) -> int:
        return id(self)


def race(checks: Mapping[Trial, Callable[[], object]], *, meanwhile: Callable[[], bool] = always_true) -> None:
    """Wait for the outcomes of several trials that run at the same time."""
    waiting = dict(checks)
    while waiting:
        assert meanwhile(), f"while waiting for: {', '.join(trial.outcome for trial in waiting)}"
        for trial, check in list(waiting.items()):
            is_true = check()
            trial.took_s = max(trial.took_s, time.monotonic() - trial._began_s)
            if is_true:
                del waiting[trial]
            else:
                wanted_s = 0.0 if trial.wanted_s is None else trial.wanted_s
                assert trial.took_s < wanted_s + SLACK_S, f"not within {wanted_s:g} + {SLACK_S:g} s: {trial.outcome}"
        time.sleep(_POLL_S)


def until(check: Callable[[], object], *, within_s: float = 30.0) -> None:
    """Wait for what is no outcome, but has to be before a fault is tried."""
    deadline_s = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline_s, f"not within {within_s:g} s"
        time.sleep(_POLL_S)


def holds(check: Callable[[], object], *, for_s: float) -> None:
    """See that something stays true for so long."""
    end_s = time.monotonic() + for_s
    while time.monotonic() < end_s:
        assert check(), f"ended {end_s - time.monotonic():.1f} s too early"
        time.sleep(_POLL_S)


class Ledger:
    """All trials of a run."""

    def __init__(self) -> None:
        self.trials: list[Trial] = []

    def rows(self) -> list[dict[str, object]]:
        """One row for each fault and outcome, in the order in which they were first tried."""
        groups: dict[tuple[str, str], list[Trial]] = {}
        for trial in self.trials:
            groups.setdefault((trial.fault, trial.outcome), []).append(trial)
        return [
            {
                "fault": fault,
                "tried": len(trials),
                "outcome": outcome,
                "seen_after_s": None if trials[0].wanted_s is None else round(max(t.took_s for t in trials), 2),
                "wanted_s": trials[0].wanted_s,
                "verdict": _verdict(trials),
            }
            for (fault, outcome), trials in groups.items()
        ]

    def table(self) -> list[str]:
        """The rows as lines of text."""
        return _aligned(
            [
                _HEADER,
                *(
                    (
                        str(row["fault"]),
                        str(row["tried"]),
                        str(row["outcome"]),
                        "" if row["seen_after_s"] is None else f"{row['seen_after_s']:.1f} s",
                        "" if row["wanted_s"] is None else f"{row['wanted_s']:g} s",
                        str(row["verdict"]),
                    )
                    for row in self.rows()
                ),
            ]
        )

    def save(self, path: Path) -> None:
        """The rows as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.rows(), indent=2) + "\n")


def _verdict(trials: Sequence[Trial]) -> str:
    if any(trial.failed for trial in trials):
        return "FAIL"
    return "late" if any(trial.took_s > (trial.wanted_s or math.inf) for trial in trials) else "pass"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
