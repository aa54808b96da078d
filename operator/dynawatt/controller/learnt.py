"""What live replicas taught about profiles, kept in a file.

What is learnt belongs to a profile at a tensor-parallel degree, and all services
that run it share it: together they know it sooner, a new one begins with it, and
they go on sharing surfaces, of which every factor needs its own. Where they differ
after all, such as in the version of vLLM, the evidence contradicts itself: then its
interval stays wide, no factor moves, and the condition says so.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from dynawatt.adapters.calibration_file import CalibrationFile
from dynawatt.controller.shape_models import ShapeModels, with_replica
from dynawatt.controller.target import Workload
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.profile import ReplicaProfile
from dynawatt.planning.calibration.comparing import Comparison
from dynawatt.planning.calibration.shape import ShapeCalibration
from dynawatt.planning.calibration.startup import StartupTimes

_VERSION: Final = 1
_SAVE_EVERY_S: Final = 60.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class LearntShape:
    """Of one profile at one tensor-parallel degree."""

    replica: ReplicaProfile
    """As the profile says, which is what is compared with."""
    state: ShapeCalibration
    restored_s: float = float("-inf")
    """Unix time when it was saved; earlier starts are counted."""
    _judged_before: frozenset[str] = frozenset()
    _corrected: ReplicaProfile | None = None
    _waiting: Comparison = field(default_factory=Comparison)
    """Windows of several services at about the same time count as one: a burst of all is no long observation."""
    _waits_since_s: float | None = None

    @property
    def judged(self) -> frozenset[str]:
        """The factors that a verdict was ever reached on: ``time``, ``power``."""
        return self._judged_before | self.state.judged

    @property
    def corrected(self) -> ReplicaProfile | None:
        """With the factors, the same object as long as they are; None as long as they say nothing."""
        factors = self.state.time.value, self.state.power.value
        if factors == (1.0, 1.0):
            return None
        known = self._corrected
        if known is None or (known.time_factor, known.power_factor) != factors:
            known = self._corrected = self.replica.calibrated(time_factor=factors[0], power_factor=factors[1])
        return known

    def add(self, found: Comparison, now_s: float, window_s: float) -> bool:
        """A window of one service that ends now, on a monotonic clock; whether a factor changed."""
        changed = False
        if self._waits_since_s is not None and now_s - self._waits_since_s >= window_s:
            changed = self.state.observe(self._waiting, window_s)
            self._waiting, self._waits_since_s = Comparison(), None
        self._waiting = self._waiting.plus(found)
        self._waits_since_s = now_s if self._waits_since_s is None else self._waits_since_s
        return changed


class Learnt:
    """All of it. An entry that cannot be read begins anew."""

    def __init__(self, file: CalibrationFile | None = None) -> None:
        """``file`` keeps it between starts; None forgets it."""
        self._file = file
        stored = {} if file is None else file.load()
        readable = stored.get("version") == _VERSION and isinstance(stored.get("shapes"), dict)
        if stored and not readable:
            _log.warning("calibration of version %r: must be %d; learning starts anew", stored.get("version"), _VERSION)
        self._stored: dict[str, Any] = stored["shapes"] if readable else {}
        """What no service has asked for since the start stays as it was."""
        self._shapes: dict[str, LearntShape] = {}
        self._dirty = False
        self._saved_s = float("-inf")

    def of(self, models: ShapeModels) -> LearntShape:
        """What is known of a shape's profile."""
        name = models.replica.name
        if name not in self._shapes:
            replica = models.replica.calibrated()
            self._shapes[name] = self._restored(name, replica) or LearntShape(replica, _new(replica))
        return self._shapes[name]

    def applied(self, models: ShapeModels) -> ShapeModels:
        """The models as plans should take them; the same object as long as nothing changes."""
        replica = self.of(models).corrected
        return models if replica is None else with_replica(models, replica)

    def count_starts(self, models: ShapeModels, workload: Workload, counted: set[str]) -> None:
        """Learn how long its replicas took to start, each once; ``counted`` are the uids of those that were."""
        shape = self.of(models)
        for uid, start in workload.starts.items():
            if uid not in counted and start.ready_s > shape.restored_s:
                shape.state.startup.observe(start.took_s)
                self._dirty = True
            counted.add(uid)

    def startup_s(self, models: ShapeModels, otherwise: ShapeModels) -> float:
        """Seconds from creation to Ready to plan with.

        While few such replicas were started, others of this cluster tell more than the profile: those of
        ``otherwise``, which had the same image and the same disks.
        """
        own, other = self.of(models).state.startup, self.of(otherwise).state.startup
        known = other if other.starts_s else own
        typical_s = median(known.starts_s) if known.starts_s else own.prior_s
        return StartupTimes(StartupTimes(typical_s, known.starts_s).expected_s, own.starts_s).expected_s

    def add(self, models: ShapeModels, found: Comparison, now_s: float, window_s: float) -> None:
        """A window of the replicas of one service that ends now, on a monotonic clock."""
        shape = self.of(models)
        self._dirty = True
        if shape.add(found, now_s, window_s):
            time_factor, power_factor = shape.state.time.value, shape.state.power.value
            message = "calibrated profile=%s time_factor=%.3f power_factor=%.3f"
            _log.info(message, shape.replica.name, time_factor, power_factor)

    async def save(self, now_s: float) -> None:
        """Write it down if anything changed, at most once a minute; ``now_s`` on a monotonic clock."""
        if self._file is None or not self._dirty or now_s - self._saved_s < _SAVE_EVERY_S:
            return
        self._dirty, self._saved_s = False, now_s
        now = {name: _stored(shape) for name, shape in self._shapes.items()}
        try:
            await asyncio.to_thread(self._file.save, {"version": _VERSION, "shapes": self._stored | now})
        except OSError as error:
            self._dirty = True
            _log.warning("calibration not kept: %s", error)

    def _restored(self, name: str, replica: ReplicaProfile) -> LearntShape | None:
        stored = self._stored.get(name)
        if stored is None:
            return None
        try:
            state = ShapeCalibration.from_dict(stored["state"], replica.model.startup_s)
            return LearntShape(replica, state, float(stored["saved"]), frozenset(map(str, stored["judged"])))
        except (InvalidInputError, KeyError, TypeError, ValueError) as error:
            _log.warning("calibration of %s unreadable, learning starts anew: %r", name, str(error))
            return None


def _new(replica: ReplicaProfile) -> ShapeCalibration:
    return ShapeCalibration(StartupTimes(replica.model.startup_s))


def _stored(shape: LearntShape) -> Mapping[str, Any]:
    return {"saved": round(time.time()), "judged": sorted(shape.judged), "state": shape.state.to_dict()}
