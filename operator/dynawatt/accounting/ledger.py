"""Energy of one service against its counterfactuals, over all time that is known.

Between two looks watts are taken to change evenly; over a longer pause nothing is
invented. What the service used is measured wherever the agents' counters cover
it, else modelled, and both are kept apart: against a measurement the level of the
model counts in full, between two modelled energies only what it says of clocks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from dynawatt.accounting.counterfactual import Counterfactual, Moment
from dynawatt.accounting.metering import EnergySpan
from dynawatt.accounting.saving import Saving, measured_saving, modelled_saving, total

_NOTHING: Final = Saving(0.0, 0.0)


class Source(StrEnum):
    """Where the energy of what runs is from."""

    MEASURED = "measured"
    MODELLED = "modelled"


@dataclass(frozen=True, slots=True)
class Bands:
    """Relative uncertainties of the power model."""

    clock: float
    """Of what a lower clock saves: ``PowerCoefficients.clock_band``."""
    level: float
    """Of its watts: ``accounting.uncertainty.level_band``, or less once it is calibrated."""


@dataclass(slots=True)
class _Open:
    """What was added up since it was last booked; by the model."""

    span_s: float = 0.0
    used_j: float = 0.0
    released_j: float = 0.0
    """Part of ``used_j`` that is drawn by GPUs which no pod holds: never measured."""
    instead_j: dict[Counterfactual, float] = field(default_factory=dict)
    overloaded_s: dict[Counterfactual, float] = field(default_factory=dict)

    def add(self, before: Moment, after: Moment, span_s: float) -> None:
        self.span_s += span_s
        for moment in (before, after):
            half_s = span_s / 2
            self.used_j += moment.charged_w(moment.used) * half_s
            self.released_j += moment.released_by(moment.used) * half_s
            for name, draw in moment.instead.items():
                self.instead_j[name] = self.instead_j.get(name, 0.0) + moment.charged_w(draw) * half_s
            for name in moment.overloaded:
                self.overloaded_s[name] = self.overloaded_s.get(name, 0.0) + half_s


class SavingLedger:
    """Books what a service used and what it would have used. Times are any seconds that go on evenly."""

    def __init__(self, *, gap_s: float = 60.0, wait_s: float = 120.0) -> None:
        """Pauses up to ``gap_s`` are bridged; a complete reading of the counters is waited for up to ``wait_s``."""
        self._gap_s: Final = gap_s
        self._wait_s: Final = wait_s
        self._last: tuple[float, Moment] | None = None
        self._open = _Open()
        self._metered = False
        """Whether the meter's next span begins where the open account does."""
        self._savings: dict[Counterfactual, Saving] = {}
        self._overloaded_s: dict[Counterfactual, float] = {}
        self._used_j: dict[Source, float] = dict.fromkeys(Source, 0.0)
        self._known_s: dict[Source, float] = dict.fromkeys(Source, 0.0)

    @property
    def savings(self) -> Mapping[Counterfactual, Saving]:
        """Against each counterfactual, since the first look."""
        return dict(self._savings)

    @property
    def used_j(self) -> Mapping[Source, float]:
        """Charged to the service, by where it is known from."""
        return dict(self._used_j)

    @property
    def known_s(self) -> Mapping[Source, float]:
        """Time that is accounted for, likewise."""
        return dict(self._known_s)

    @property
    def overloaded_s(self) -> Mapping[Counterfactual, float]:
        """How long each would have missed the SLO."""
        return dict(self._overloaded_s)

    def observe(self, now_s: float, moment: Moment, span: EnergySpan | None, bands: Bands) -> None:
        """Take what is there now.

        Args:
            now_s: Time of the look.
            moment: The service and its counterfactuals by the model.
            span: What the meter said at the same look.
            bands: How sure the model is.
        """
        before, self._last = self._last, (now_s, moment)
        if before is None or not self._follows(before, now_s, moment):
            self._book(None, bands)
            self._metered = span is not None
            return
        self._open.add(before[1], moment, now_s - before[0])
        if span is not None:
            self._book(span.energy_j if self._metered else None, bands)
            self._metered = True
        elif self._open.span_s >= self._wait_s:
            self._book(None, bands)
            self._metered = False

    def _follows(self, before: tuple[float, Moment], now_s: float, moment: Moment) -> bool:
        return 0 < now_s - before[0] <= self._gap_s and before[1].instead.keys() == moment.instead.keys()

    def _book(self, measured_j: float | None, bands: Bands) -> None:
        done, self._open = self._open, _Open()
        source = Source.MODELLED if measured_j is None else Source.MEASURED
        used_j = done.used_j if measured_j is None else measured_j + done.released_j
        self._used_j[source] += used_j
        self._known_s[source] += done.span_s
        for name, instead_j in done.instead_j.items():
            saving = (
                modelled_saving(used_j, instead_j, bands.clock)
                if source is Source.MODELLED
                else measured_saving(used_j, instead_j, bands.level)
            )
            self._savings[name] = total([self._savings.get(name, _NOTHING), saving])
            overloaded_s = done.overloaded_s.get(name, 0.0)
            self._overloaded_s[name] = self._overloaded_s.get(name, 0.0) + overloaded_s
