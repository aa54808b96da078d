"""A planner for mean latencies, after NVIDIA Dynamo's SLA planner with aggregated engines.

Source: ai-dynamo/dynamo, docs/design-docs/planner-design.md and components/src/dynamo/planner: throughput-based scaling
in mode ``agg`` (core/throughput_scaling.py), with its defaults (config/defaults.py).

Every 180 s it counts the requests of the interval, forecasts those of the next one, and wants
ceil(forecast rate / engine rate) replicas, at least one and no more than there are GPUs for. The engine rate is the
highest at which one engine's mean time to first token and mean inter-token latency are both within their targets.
While replicas start or wait to be drained it holds.

What differs, each in favour of this baseline:

- Dynamo models the engine from iteration times, without the queueing of random arrivals. Here one engine is profiled
  by simulation, under the service's own mix and burstiness; and so nothing is left for correction factors to correct
  (newer versions of Dynamo dropped them).
- Mean lengths of the next interval change the rate in Dynamo by way of its model, here by the work of the requests
  that finished in the last one.
- Forecasts are those of Dynamo's Kalman filter with its default noise, warmed up with the week before. Dynamo's
  default is auto-ARIMA, which needs pmdarima.

The objectives are the SLO's, though for means: the TBT objective, and the TTFT objectives averaged over the mix.
"""

from dataclasses import dataclass, field
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.forecast.slots import SLOT_S
from dynawatt.quantities import MS_PER_S
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.load_sweep import fleet_sweep
from dynawatt.simulation.operating_point import saturation_rps
from dynawatt.simulation.policies.scaled_fleet import ScaledFleet, most_replicas, single_shape
from dynawatt.simulation.policy import FleetPlan, FleetView
from dynawatt.simulation.study import Study
from dynawatt.simulation.tally import Tally

MEAN_LATENCY: Final = "mean-latency"
INTERVAL_S: Final = 180.0
"""``throughput_adjustment_interval``."""
_LEVEL_NOISE: Final = 1.0
_TREND_NOISE: Final = 0.1
_READING_NOISE: Final = 10.0
"""``kalman_q_level``, ``kalman_q_trend`` and ``kalman_r``: variances, whose ratios alone matter."""
_UNSURE: Final = 1000.0
"""Variance of level and trend before the first reading."""
_TOLERANCE: Final = 0.02
"""Relative width of the bracket around the engine rate."""


@dataclass(slots=True, eq=False)
class KalmanTrend:
    """Level and trend of a series, one step ahead: Dynamo's KalmanPredictor."""

    _state: NDArray[np.float64] | None = None
    """[level, trend], as predicted for the next reading."""
    _variance: NDArray[np.float64] = field(default_factory=lambda: _UNSURE * np.eye(2))

    def add(self, value: float) -> None:
        """Take a reading in. Zeros before the first load are passed over."""
        if self._state is None:
            if value == 0:
                return
            state = np.array([value, 0.0])
        else:
            gain = self._variance[:, 0] / (self._variance[0, 0] + _READING_NOISE)
            state = self._state + gain * (value - self._state[0])
            self._variance = self._variance - np.outer(gain, self._variance[0])
        step = np.array([[1.0, 1.0], [0.0, 1.0]])
        self._state = step @ state
        self._variance = step @ self._variance @ step.T + np.diag([_LEVEL_NOISE, _TREND_NOISE])

    @property
    def next(self) -> float:
        """What the next reading is expected to be; 0 before any."""
        return 0.0 if self._state is None else max(0.0, float(self._state[0]))


@dataclass(slots=True, eq=False)
class MeanLatencyPolicy(ScaledFleet):
    """Replicas for the forecast rate; one object is for one run."""

    engine_rps: float
    """What one replica is trusted with, in requests of the profiled mix."""
    work_s: NDArray[np.float64]
    """By class: weighs requests against each other."""
    mean_work_s: float
    """Of the profiled mix."""
    history: NDArray[np.float64]
    """Requests per interval before time 0, oldest first; may be none."""
    _forecast: KalmanTrend = field(default_factory=KalmanTrend)
    _seen: Tally | None = None

    @property
    def plan_interval_s(self) -> float:
        """Dynamo's."""
        return INTERVAL_S

    def initial(self) -> FleetPlan:
        """What the history lets expect; without any the tuned static fleet."""
        self._forecast, self._seen = KalmanTrend(), None
        for requests in self.history:
            self._forecast.add(float(requests))
        return self.of(self._needed() if len(self.history) else self.static_replicas)

    def plan(self, now_s: float, view: FleetView) -> FleetPlan | None:
        """The replicas for the next interval; nothing new while the last plan is carried out."""
        del now_s
        total = view.tally()
        new = total if self._seen is None else total - self._seen
        self._seen = total
        self._forecast.add(float(new.requests.sum()) * self._relative_work(new.finished))
        return None if view.in_transition else self.of(self._needed())

    def _needed(self) -> int:
        return ceil(self._forecast.next / INTERVAL_S / self.engine_rps)

    def _relative_work(self, finished: NDArray[np.int64]) -> float:
        """Mean work of these requests relative to the profiled mix; 1 where nothing finished."""
        known = np.where(self.work_s > 0, finished, 0)
        return float(known @ self.work_s / known.sum() / self.mean_work_s) if known.sum() else 1.0


def mean_latency(name: str, study: Study) -> MeanLatencyPolicy:
    """The planner on the tuned static fleet's shape. Raises InvalidInputError when one engine misses the means idle."""
    shape = single_shape(study)
    work_s = study.work(shape)
    history = np.zeros(0)
    if study.history is not None:
        history = study.history.requests.sum(axis=1) * (INTERVAL_S / SLOT_S)
    return MeanLatencyPolicy(
        name,
        shape,
        study.single_replicas,
        most_replicas(study, shape),
        engine_rps=engine_rps(study, shape),
        work_s=work_s,
        mean_work_s=float(study.class_shares @ work_s),
        history=history,
    )


def engine_rps(study: Study, shape: ReplicaShape) -> float:
    """The highest load of one replica at the default clock whose mean latencies are within the objectives.

    The lower end of a bracket 2 % wide. Raises InvalidInputError when no load is.
    """
    demand = study.demand()
    ttft_s = float(study.objectives.ttft_s_of(demand.mix.input_tokens).mean())
    clock_mhz = shape.replica.gpu.default_clock_mhz
    limit_rps = saturation_rps(shape, demand.mix, clock_mhz)
    load = demand.load(1)
    sweep = fleet_sweep(shape, demand.objectives, load, replicas=1, clock_mhz=clock_mhz, limit_rps=limit_rps)

    def within(rate_rps: float) -> bool:
        point = sweep.at(rate_rps)
        return point.ttft_mean_s <= ttft_s and point.tbt_mean_s <= study.objectives.tbt_s

    if within(limit_rps):
        return limit_rps
    low_rps, high_rps = 0.0, limit_rps
    while high_rps - low_rps > _TOLERANCE * high_rps:
        middle_rps = (low_rps + high_rps) / 2
        if within(middle_rps):
            low_rps = middle_rps
        elif middle_rps < _TOLERANCE * limit_rps:
            raise InvalidInputError(
                f"SLO: {shape.replica.name} exceeds means of {MS_PER_S * ttft_s:.0f} ms to the first token or "
                f"{MS_PER_S * study.objectives.tbt_s:.0f} ms between tokens under any load; loosen the objectives or "
                "choose more GPUs per replica"
            )
        else:
            high_rps = middle_rps
    return low_rps
