"""Attainment by request-length class, with how far chance may have moved it."""

from dataclasses import dataclass
from typing import Final

from dynawatt.perfmodel.surface import Interval
from dynawatt.simulation.confidence import wilson_interval
from dynawatt.simulation.tally import Tally
from dynawatt.workload.classes import CLASS_NAMES

LEAST_SAMPLES: Final = 1000
"""A class's attainment is reported from so many requests or gaps on."""


@dataclass(frozen=True, slots=True)
class Attained:
    """How many were within their objective."""

    samples: int
    share: float
    interval: Interval
    """Binomial, 95 %: as if all came one by one. Misses cluster in bursts, so the truth may lie further off."""


@dataclass(frozen=True, slots=True)
class ClassAttainment:
    """One class, by actual lengths. None where there are fewer than LEAST_SAMPLES samples."""

    name: str
    ttft: Attained | None
    """Over the requests that arrived."""
    tbt: Attained | None
    """Over the gaps."""


def class_attainments(tally: Tally) -> tuple[ClassAttainment, ...]:
    """All nine classes, in the order of their index."""
    return tuple(
        ClassAttainment(
            name,
            _attained(int(tally.ttft_met[index]), int(tally.requests[index])),
            _attained(int(tally.gaps_met[index]), int(tally.gaps[index])),
        )
        for index, name in enumerate(CLASS_NAMES)
    )


def _attained(met: int, samples: int) -> Attained | None:
    if samples < LEAST_SAMPLES:
        return None
    return Attained(samples, met / samples, wilson_interval(met / samples, samples))
