"""Length mix over the next hours: a joint mix of what came lately and of what comes at that hour of the week.

The two are weighed by how far each was from what came, an hour ahead, as the share of
requests that would have to change their lengths by an octave or more. The template of
an hour takes in its neighbours. With nothing seen, the mix is the one that was assumed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from dynawatt.forecast.slots import Calendar, Numbers
from dynawatt.forecast.state import Array, collected, write_back
from dynawatt.workload.mix import LengthMix, blend

_HOURS: Final = 168
_HOUR_SLOTS: Final = 12
_LATELY: Final = 2 * _HOUR_SLOTS
"""Slots kept: of the last hour the forecast is made, of the one before the forecast that is scored now."""
_SLOT_PAIRS: Final = 256
_HOUR_PAIRS: Final = 256
_NEW_WEEK: Final = 0.5
"""Weight of the newest week in the template of an hour."""
_NEIGHBOUR: Final = 0.5
"""Weight of the hours beside the one that is forecast."""
_LEARNS: Final = 0.05
"""Part of a distance that is learnt in a slot for which the two were wholly different."""
_KEPT_ERRORS: Final = 576
_PRIOR_ERRORS: Final = 0.15 * ndtri((np.arange(20) + 0.5) / 20)
"""Logarithms of means over their forecasts to start from."""
_OCTAVES: Final = 21
"""Of lengths, up to 1,000,000 tokens."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """Part of a forecast: pairs drawn from what was seen, the exact means of all of it, and what it counts for."""

    pairs: LengthMix
    means: Numbers
    weight: float


@dataclass(slots=True)
class MixForecast:
    """Learns from mixes of finished requests, in order of time. Pairs are (input, output) tokens."""

    calendar: Calendar = field(default_factory=Calendar)
    assumed: LengthMix | None = None
    """The mix before anything was seen."""
    _lately: Numbers = field(default_factory=lambda: np.zeros((_LATELY, 2, _SLOT_PAIRS)))
    _lately_means: Numbers = field(default_factory=lambda: np.zeros((_LATELY, 2)))
    _lately_requests: Numbers = field(default_factory=lambda: np.zeros(_LATELY))
    _hours: NDArray[np.int32] = field(default_factory=lambda: np.zeros((_HOURS, 2, _HOUR_PAIRS), dtype=np.int32))
    """By hour of the week."""
    _hour_means: Numbers = field(default_factory=lambda: np.zeros((_HOURS, 2)))
    _hour_requests: Numbers = field(default_factory=lambda: np.zeros(_HOURS))
    _newest: Numbers = field(default_factory=lambda: np.full(1, np.nan))
    """Number of the newest slot seen."""
    _misses: Numbers = field(default_factory=lambda: np.full(2, 0.1))
    """Discounted distances of what came lately and of the hour's template from what then came."""
    _errors: Numbers = field(default_factory=lambda: np.full((_KEPT_ERRORS, 2), np.nan))
    """Logarithms of the means of what came over those forecast an hour before, for inputs and outputs."""
    _scored: Numbers = field(default_factory=lambda: np.zeros(1))

    def observe(self, start_s: float, mix: LengthMix, requests: float) -> bool:
        """Take the mix of the requests that came in the slot of ``start_s``; False when it was not used.

        Slots that were passed already are not used; one more than two hours back means that the clock was set back.
        Raises ValueError for what is no count or no time.
        """
        if not (isfinite(requests) and requests >= 0):
            raise ValueError(f"requests is {requests}: must be a number >= 0")
        if not isfinite(start_s):
            raise ValueError(f"start_s is {start_s}: must be a finite time in s")
        slot = self.calendar.slot(start_s)
        if requests == 0 or not len(mix.input_tokens) or self._newest[0] - _LATELY <= slot <= self._newest[0]:
            return False
        if slot < self._newest[0]:
            self._lately_requests[:] = 0.0
            self._newest[0] = np.nan
        if isfinite(self._newest[0]):
            self._score(slot, mix)
            self._end_hours(slot)
        self._lately[slot % _LATELY] = _drawn(mix, _SLOT_PAIRS)
        self._lately_means[slot % _LATELY] = mix.mean_input_tokens, mix.mean_output_tokens
        self._lately_requests[slot % _LATELY] = requests
        self._newest[0] = slot
        return True

    def mix(self, now_s: float, lead_s: float = 0.0, size: int = 512) -> LengthMix | None:
        """About ``size`` equally likely requests of the time ``lead_s`` from now; None when nothing is known."""
        found = self._forecast(self.calendar.slot(now_s), self.calendar.slot(now_s + lead_s))
        return _blended(found, size) if found else None

    def mean_tokens(self, now_s: float, lead_s: float, q: float) -> tuple[float, float] | None:
        """Mean input and output tokens that are not exceeded with probability ``q``; None when nothing is known."""
        if not 0 < q < 1:
            raise ValueError(f"q is {q}: must be above 0 and below 1")
        found = self._forecast(self.calendar.slot(now_s), self.calendar.slot(now_s + lead_s))
        if not found:
            return None
        known = self._errors[~np.isnan(self._errors[:, 0])]
        prior = np.stack([_PRIOR_ERRORS, _PRIOR_ERRORS], axis=1)
        factor = np.exp(np.quantile(np.concatenate([known, prior]), q, axis=0))
        inputs, outputs = (_means(found) * factor).tolist()
        return inputs, outputs

    def state(self) -> dict[str, Array]:
        """All that was learnt, as plain arrays by name."""
        return collected(self)

    def restore(self, arrays: dict[str, Array]) -> None:
        """Go on from a state. Raises ValueError when it is not one of this version."""
        write_back(self, arrays)

    def _forecast(self, now: int, slot: int) -> list[_Seen]:
        """For a slot, from the hour before ``now`` and the template of the slot's hour; empty when nothing is known."""
        lately, template = list(self._slots(range(now - _HOUR_SLOTS, now + 1))), list(self._template(slot))
        if not lately and not template:
            return self._last()
        trust = self._misses[::-1] ** 2  # in one, by how much the other missed
        found = []
        for part, share in zip((lately, template), trust.tolist(), strict=True):
            total = sum(seen.weight for seen in part)
            found += [_Seen(seen.pairs, seen.means, share * seen.weight / total) for seen in part]
        return found

    def _last(self) -> list[_Seen]:
        """A service that was still for hours is taken to go on as it did last."""
        if isfinite(self._newest[0]):
            newest = int(self._newest[0])
            return list(self._slots(range(newest, newest + 1)))
        if self.assumed is None:
            return []
        means = np.array([self.assumed.mean_input_tokens, self.assumed.mean_output_tokens])
        return [_Seen(self.assumed, means, 1.0)]

    def _slots(self, slots: range) -> Iterator[_Seen]:
        """Of these, the ones that are kept."""
        newest = self._newest[0]
        for slot in slots:
            at = slot % _LATELY
            if newest - _LATELY < slot <= newest and self._lately_requests[at] > 0:
                pairs = LengthMix(*self._lately[at].astype(np.int64))
                yield _Seen(pairs, self._lately_means[at], float(self._lately_requests[at]))

    def _template(self, slot: int) -> Iterator[_Seen]:
        hour = slot // _HOUR_SLOTS
        for away, weight in ((0, 1.0), (-1, _NEIGHBOUR), (1, _NEIGHBOUR)):
            at = (hour + away) % _HOURS
            if self._hour_requests[at] > 0:
                yield _Seen(LengthMix(*self._hours[at].astype(np.int64)), self._hour_means[at], weight)

    def _score(self, slot: int, mix: LengthMix) -> None:
        """What would have been forecast for this slot an hour ago, against what came."""
        before = slot - _HOUR_SLOTS
        lately, template = list(self._slots(range(before - _HOUR_SLOTS, before + 1))), list(self._template(slot))
        if lately and template:
            came, *found = _octaves(mix), _octaves(_blended(lately)), _octaves(_blended(template))
            missed = np.array([_distance(each, came) for each in found])
            # Where both say the same, nothing is learnt about which to trust.
            self._misses += _LEARNS * _distance(*found) ** 2 * (np.maximum(missed, 1e-3) - self._misses)
        if lately or template:
            came_means = np.array([mix.mean_input_tokens, mix.mean_output_tokens])
            row = int(self._scored[0]) % _KEPT_ERRORS
            self._errors[row] = np.log(came_means / _means(self._forecast(before, slot)))
            self._scored[0] += 1

    def _end_hours(self, slot: int) -> None:
        """Forget slots that were not seen; put the hour of the newest slot into its template once it is over."""
        newest = int(self._newest[0])
        hour = newest // _HOUR_SLOTS
        if slot // _HOUR_SLOTS > hour:
            at = hour % _HOURS
            seen = list(self._slots(range(hour * _HOUR_SLOTS, newest + 1)))
            new = _Seen(_blended(seen), _means(seen), _NEW_WEEK)
            parts = [new]
            if self._hour_requests[at] > 0:
                before = LengthMix(*self._hours[at].astype(np.int64))
                parts.append(_Seen(before, self._hour_means[at].copy(), 1 - _NEW_WEEK))
            self._hours[at] = _drawn(_blended(parts), _HOUR_PAIRS)
            self._hour_means[at] = _means(parts)
            self._hour_requests[at] += sum(each.weight for each in seen)
        skipped = np.arange(newest + 1, min(slot, newest + 1 + _LATELY))
        self._lately_requests[skipped % _LATELY] = 0.0


def _drawn(mix: LengthMix, size: int) -> NDArray[np.int64]:
    """Pairs at equal distances, shape (2, size)."""
    rows = np.linspace(0, len(mix.input_tokens) - 1, size).astype(np.int64)
    return np.array([mix.input_tokens[rows], mix.output_tokens[rows]])


def _blended(parts: list[_Seen], size: int = 512) -> LengthMix:
    return blend([(part.pairs, part.weight) for part in parts], size)


def _means(parts: list[_Seen]) -> Numbers:
    """Mean input and output tokens."""
    return np.average([part.means for part in parts], axis=0, weights=[part.weight for part in parts])


def _distance(one: Numbers, other: Numbers) -> float:
    """Share that would have to move for one to be the other."""
    return float(np.abs(one - other).sum() / 2)


def _octaves(mix: LengthMix) -> Numbers:
    """Shares of requests by octave of inputs and outputs."""
    octave = [np.log2(np.maximum(1, tokens)).astype(np.int64) for tokens in (mix.input_tokens, mix.output_tokens)]
    return np.bincount(octave[0] * _OCTAVES + octave[1], minlength=_OCTAVES**2) / len(octave[0])
