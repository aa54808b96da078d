"""The numbers of every service as of its last tick, and what happened so far.

The reconciler hands over a whole picture of a service once a tick; scrapes, on
threads of their own, only ever see whole pictures. What a tick could not find out
is left out rather than shown as it was, with one exception: the replicas that are
asked for hold, as a HorizontalPodAutoscaler that follows them must not move
because Prometheus did not answer.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar

from dynawatt.accounting.counterfactual import Counterfactual
from dynawatt.accounting.ledger import Source
from dynawatt.accounting.saving import Saving
from dynawatt.accounting.switchback.estimate import SwitchbackSaving
from dynawatt.api.conditions import ConditionStatus, ConditionType

K = TypeVar("K")
V = TypeVar("V")


def _nothing() -> Mapping[K, V]:
    return MappingProxyType({})


class ServiceKey(NamedTuple):
    """An LLMService by namespace and name."""

    namespace: str
    name: str


class ReplicaState(StrEnum):
    """What replicas of a shape are counted by."""

    DESIRED = "desired"
    READY = "ready"


class Objective(StrEnum):
    """What has to be attained."""

    TTFT = "ttft"
    TBT = "tbt"


class Attainment(NamedTuple):
    """Fraction within an objective."""

    ratio: float
    source: Source
    """vLLM's own TTFT histogram has no input lengths, so where objectives differ by length it can only be modelled."""


class Bounds(NamedTuple):
    """Between which a fraction lies."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFigures:
    """One service as a tick left it; None, or nothing, is what the tick could not tell."""

    desired_replicas: int | None = None
    """That are asked for by the last decision; None leaves them as they were told before."""
    holds_desired: bool = True
    """Whether they stand while none are told; off for a service that nothing is decided for, such as in mode Off."""
    observed_rps: float | None = None
    expected_rps: float | None = None
    """Forecast for the slot that comes."""
    high_rps: float | None = None
    """What is planned to be ready for in that slot."""
    predicted_power_w: float | None = None
    """Of what runs, under the load observed: to be compared with what is measured."""
    measured_power_w: float | None = None
    replicas: Mapping[tuple[str, ReplicaState], int] = field(default_factory=_nothing)
    """By name of the shape and state."""
    conditions: Mapping[ConditionType, ConditionStatus] = field(default_factory=_nothing)
    attainments: Mapping[Objective, Attainment] = field(default_factory=_nothing)
    ttft_bounds: Mapping[str, Bounds] = field(default_factory=_nothing)
    """Between which the attainment of TTFT lies, by class of input lengths and for all of them."""
    slo_target: float | None = None
    """Fraction that must be within the objectives."""
    objectives_s: Mapping[tuple[Objective, str], float] = field(default_factory=_nothing)
    """By class of input lengths; for TBT all are one."""
    pods: Mapping[str, str] = field(default_factory=_nothing)
    """Names of the service's pods, with the shape of each."""
    calibration: Mapping[tuple[str, str], float] = field(default_factory=_nothing)
    """Factors by name of the shape and kind, such as time or power: measured over predicted."""
    savings: Mapping[Counterfactual, Saving] = field(default_factory=_nothing)
    """From the service's ``SavingLedger``, as are the next two."""
    used_j: Mapping[Source, float] = field(default_factory=_nothing)
    overloaded_s: Mapping[Counterfactual, float] = field(default_factory=_nothing)
    clock_saving: float | None = None
    """Modelled fraction that the knob Clock saves: what a switchback measures."""
    switchback: SwitchbackSaving | None = None
    switchback_pairs: int | None = None
    """Compared so far; None where no share of the time is set aside for it."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One service as a scrape sees it."""

    key: ServiceKey
    figures: ServiceFigures
    age_s: float
    """Since its last tick was finished."""
    decisions: Mapping[str, int]
    """By reason, since the operator started."""
    held: Mapping[str, int]


@dataclass(slots=True)
class _Known:
    figures: ServiceFigures
    finished_s: float
    decisions: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)


class Figures:
    """All services. Safe to use from several threads. ``clock_s`` is monotonic time in seconds."""

    def __init__(self, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s: Final = clock_s
        self._lock: Final = threading.Lock()
        self._services: dict[ServiceKey, _Known] = {}

    def put(
        self, key: ServiceKey, figures: ServiceFigures, *, decided: str | None = None, held: str | None = None
    ) -> None:
        """A tick was finished.

        Args:
            key: Of the service.
            figures: What the tick found.
            decided: Reason of the decision, where a new one was made.
            held: Reason for which everything was held as it is, where it was.
        """
        with self._lock:
            known = self._services.get(key)
            if known is None:
                known = self._services[key] = _Known(figures, 0.0)
            elif figures.desired_replicas is None and figures.holds_desired:
                figures = replace(figures, desired_replicas=known.figures.desired_replicas)
            known.figures, known.finished_s = figures, self._clock_s()
            known.decisions.update(() if decided is None else (decided,))
            known.held.update(() if held is None else (held,))

    def drop(self, key: ServiceKey) -> None:
        """A service is gone, and all its series with it; harmless for one that is not known."""
        with self._lock:
            self._services.pop(key, None)

    def clear(self) -> None:
        """Another operator decides from now on: two that tell how many replicas to have would add up."""
        with self._lock:
            self._services.clear()

    def shown(self) -> list[Shown]:
        """All services as they are now."""
        with self._lock:
            now_s = self._clock_s()
            return [
                Shown(key, known.figures, now_s - known.finished_s, dict(known.decisions), dict(known.held))
                for key, known in sorted(self._services.items())
            ]
