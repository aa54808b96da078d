"""What was learnt of one shape: factors for time and watts, start-up seconds, and why they are as they are.

There is one factor for all seconds, because plans know one step time. First tokens
and gaps each give a ratio; the larger one counts, so that neither objective is
promised too much. Ratios are always against the profile itself, not against the
factors in force, so that learning does not depend on when surfaces became ready.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dynawatt.errors import InvalidInputError
from dynawatt.planning.calibration.comparing import Comparison
from dynawatt.planning.calibration.evidence import Evidence
from dynawatt.planning.calibration.factor import BAND, LEAST, MOST, Factor
from dynawatt.planning.calibration.startup import StartupTimes

_VERSION: Final = 1
_FEWEST_GAPS: Final = 2000.0
_FEWEST_PREFILLS: Final = 50.0
_FEWEST_REPLICA_S: Final = 300.0
_TIME_ABOVE: Final = 1.2
"""Steps: gaps are predicted up to 3 % too short where replicas are full, because long prefills meet large batches."""
_KEYS: Final = ("version", "time", "power", "gaps", "prefills", "energy", "startup")


@dataclass(slots=True)
class ShapeCalibration:
    """State of one shape of one service, or of one profile where services share it."""

    startup: StartupTimes
    time: Factor = field(default_factory=lambda: Factor(_TIME_ABOVE))
    power: Factor = field(default_factory=Factor)
    # No window is judged twice: a verdict begins with new evidence.
    _gaps: Evidence = field(default_factory=Evidence)
    _prefills: Evidence = field(default_factory=Evidence)
    _energy: Evidence = field(default_factory=Evidence)
    _seen: dict[str, str] = field(default_factory=dict)
    """The last verdict in words, by what was judged."""

    def observe(self, found: Comparison, window_s: float) -> bool:
        """Learn from a window of all replicas of the shape, which was so long; whether a factor changed."""
        self._gaps.add(found.gap_sum_s, found.predicted_gap_sum_s, found.gaps, window_s)
        self._prefills.add(found.prefill_sum_s, found.predicted_prefill_sum_s, found.prefills, window_s)
        self._energy.add(found.energy_j, found.predicted_energy_j, found.replica_s, window_s)
        changed_time, changed_power = self._judge_time(), self._judge_power()
        return changed_time or changed_power

    @property
    def frozen(self) -> str:
        """Why no factor moves at present, as a clause; empty when the evidence suffices."""
        reasons = {"time": self._thin_time(), "power": self._thin_power()}
        return "; ".join(f"{name} factor: {reason}" for name, reason in reasons.items() if reason)

    @property
    def judged(self) -> frozenset[str]:
        """The factors that a verdict was reached on since the start: ``time``, ``power``."""
        return frozenset(self._seen)

    @property
    def drift(self) -> str:
        """What is so far off that the profile needs attention, as a sentence; empty while all is within the band."""
        found = [
            f"{what} {factor.value:.3g} times what the profile says ({self._seen.get(name, 'learnt before')}), "
            + (f"which is as far as it is corrected, {LEAST} to {MOST}" if factor.at_bound else _OUTSIDE)
            for name, what, factor in (
                ("time", "iterations take", self.time),
                ("power", "GPUs draw", self.power),
            )
            if factor.drifted
        ]
        if not found:
            return ""
        return f"{'; '.join(found)}: check that engine version, flags and GPUs are the profile's, or measure a new one"

    def _judge_time(self) -> bool:
        if self._thin_time():
            return False
        judged = [("gaps between tokens", self._gaps)]
        self._gaps = Evidence()
        if not self._prefills.thin(_FEWEST_PREFILLS, "prefills"):
            judged.append(("prefills", self._prefills))
            self._prefills = Evidence()
        what, worst = max(judged, key=lambda pair: pair[1].ratio)
        self._seen["time"] = f"{what}: {worst}"
        return self.time.judge(worst.ratio, worst.half_width)

    def _judge_power(self) -> bool:
        if self._thin_power():
            return False
        judged, self._energy = self._energy, Evidence()
        self._seen["power"] = f"watts: {judged}"
        return self.power.judge(judged.ratio, judged.half_width)

    def _thin_time(self) -> str:
        return self._gaps.thin(_FEWEST_GAPS, "gaps")

    def _thin_power(self) -> str:
        return self._energy.thin(_FEWEST_REPLICA_S, "replica-seconds")

    def to_dict(self) -> dict[str, Any]:
        """As ``from_dict`` takes it, a few hundred bytes of JSON; windows short of a verdict are kept as sums."""
        return {
            "version": _VERSION,
            "time": self.time.to_dict(),
            "power": self.power.to_dict(),
            "gaps": self._gaps.to_dict(),
            "prefills": self._prefills.to_dict(),
            "energy": self._energy.to_dict(),
            "startup": self.startup.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], startup_s: float) -> "ShapeCalibration":
        """What ``to_dict`` gave, with the profile's own start-up seconds. Raises InvalidInputError."""
        if not isinstance(values, Mapping) or set(values) != set(_KEYS):
            raise InvalidInputError(f"calibration: must have exactly {', '.join(_KEYS)}")
        if values["version"] != _VERSION:
            raise InvalidInputError(f"calibration of version {values['version']!r}: must be {_VERSION}")
        return cls(
            startup=StartupTimes.from_dict(values["startup"], startup_s),
            time=Factor.from_dict(values["time"], _TIME_ABOVE),
            power=Factor.from_dict(values["power"]),
            _gaps=Evidence.from_dict(values["gaps"]),
            _prefills=Evidence.from_dict(values["prefills"]),
            _energy=Evidence.from_dict(values["energy"]),
        )


_OUTSIDE: Final = f"outside of {1 / BAND:.2f} to {BAND:.2f}"
