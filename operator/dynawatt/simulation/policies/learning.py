"""Learns time and power factors of each shape from a simulated fleet, with the objects that run live.

What a policy sees of the fleet are totals and a look at every replica, as from
metrics that are scraped. The totals are those of all shapes: only windows in
which replicas of a single one serve, the same from beginning to end, tell of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.planning.calibration.comparing import Comparison, compare
from dynawatt.planning.calibration.observing import Observation
from dynawatt.planning.calibration.predicting import Predictor
from dynawatt.planning.calibration.shape import ShapeCalibration
from dynawatt.planning.calibration.startup import StartupTimes
from dynawatt.simulation.fleet_core import FleetSnapshot, ReplicaState
from dynawatt.simulation.policies.dynawatt_shapes import ShapeChoice
from dynawatt.simulation.tally import Cause, Tally

Numbers = NDArray[np.float64]

_WINDOW_S: Final = 30.0
"""Shorter ones differ by what is under way at their ends."""


@dataclass(slots=True)
class FleetLearning:
    """State of one run."""

    choices: Mapping[int, ShapeChoice]
    """By position in the policy's shapes, as the profiles say."""
    learnt: dict[int, ShapeCalibration] = field(init=False)
    _predictors: dict[int, Predictor] = field(init=False)
    _begin: tuple[float, Tally] = field(init=False)
    """Of the present window."""
    _looks: list[FleetSnapshot] = field(default_factory=list)
    """Since then: governors move clocks in between."""

    def __post_init__(self) -> None:
        """Nothing learnt yet."""
        self.learnt, self._predictors = {}, {}
        for row, choice in self.choices.items():
            replica = choice.shape.replica
            self.learnt[row] = ShapeCalibration(StartupTimes(choice.study.startup_of(replica.tensor_parallel)))
            mix = choice.study.mix_of(choice.classes)
            self._predictors[row] = Predictor(replica, choice.shape.settings, mix)

    def observe(self, now_s: float, tally: Tally, fleet: FleetSnapshot) -> int | None:
        """Look at the fleet; the shape whose factors changed, by position."""
        if not self._looks:
            self._begin = (now_s, tally)
        self._looks.append(fleet)
        begin_s, earlier = self._begin
        window_s = now_s - begin_s
        if window_s < _WINDOW_S:
            return None
        looks, self._looks, self._begin = self._looks, [fleet], (now_s, tally)
        was, rows = looks[0], _serving(fleet)
        if not len(rows) or not all(np.array_equal(rows, _serving(look)) for look in looks):
            return None
        if len(set(fleet.shape[rows].tolist())) > 1:
            return None
        shape = int(fleet.shape[rows[0]])
        gaps = (fleet.gaps[rows] - was.gaps[rows]).astype(np.float64)
        clocks_mhz = np.array([look.clock_mhz[rows] for look in looks])
        found = _compared(self._predictors[shape], gaps, clocks_mhz, tally - earlier, window_s)
        return shape if self.learnt[shape].observe(found, window_s) else None


def _compared(predictor: Predictor, gaps: Numbers, clocks_mhz: Numbers, did: Tally, window_s: float) -> Comparison:
    """Replicas that served requests did about the same; the others idled. Clocks are [look, replica]."""
    busy = gaps > 0
    found = Comparison(energy_j=float(did.energy_j.sum() - did.energy_j[Cause.STARTUP]))
    if not busy.all():
        idle_s = window_s * int((~busy).sum())
        idle_j = predictor.predict(Observation(idle_s, clocks_mhz[:, ~busy].ravel().tolist(), 0.0, 0.0, 0.0)).energy_j
        found = found._replace(replica_s=idle_s, predicted_energy_j=idle_j)
    if not busy.any():
        return found
    serving = Observation(
        replica_s=window_s * int(busy.sum()),
        clocks_mhz=clocks_mhz[:, busy].ravel().tolist(),
        gaps=float(did.gaps.sum()),
        gap_sum_s=float(did.gap_sum_s.sum()),
        prompt_tokens=float(did.input_tokens),
        energy_j=0.0,  # is in the sum above
        busy_s=did.busy_gpu_s / predictor.replica.tensor_parallel,
    )
    return found.plus(compare(serving, predictor))


def _serving(fleet: FleetSnapshot) -> NDArray[np.int64]:
    """Ids of replicas that serve, none while any drains."""
    if (fleet.state == ReplicaState.DRAINING).any():
        return np.zeros(0, np.int64)
    return np.flatnonzero(fleet.state == ReplicaState.SERVING)
