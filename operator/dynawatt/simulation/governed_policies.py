"""Policies that leave replicas alone and govern clocks only.

They run on the untouched fleet: the replicas, prefill chunk and inventory of
single-pool, which is sized for the peak with requests served in the order of
arrival. Only the order in which requests wait differs between them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from dynawatt.governing.governor import ClockGovernor
from dynawatt.governing.reading import PodReading
from dynawatt.governing.table import GovernorTable
from dynawatt.perfmodel.gpus import GpuSpec
from dynawatt.planning.governor_table import SPARE_BUDGET, governor_table
from dynawatt.planning.plan import planned_attainment
from dynawatt.simulation.fleet_core import FleetSnapshot, ReplicaShape, ReplicaState
from dynawatt.simulation.policy import FleetPlan, FleetView
from dynawatt.simulation.settings import QueueOrder
from dynawatt.simulation.sizing import Demand
from dynawatt.simulation.static_policies import FixedFleet, StaticPolicy
from dynawatt.simulation.surface_question import SurfaceQuestion
from dynawatt.simulation.surfaces import build_surface

CLOCK_ONLY: Final = {f"clock-only-{order.value}": order for order in QueueOrder}
"""Queue order by policy name."""
GOVERN_INTERVAL_S: Final = 1.0
FLOOR_MHZ: Final = 800
"""The lowest clock that an LLMService allows by default."""
_FINE_MHZ: Final = 45
"""Between clocks of a table above the voltage's knee, where a few MHz save watts."""
_COARSE_MHZ: Final = 195
_MOST_REPLICAS: Final = 8
"""Of a simulated fleet: what a replica gains by sharing the load with even more is little."""
_REQUESTS_PER_REPLICA: Final = 1000
_FEWEST_REQUESTS: Final = 3000


@dataclass(frozen=True, slots=True)
class ClockOnlyPolicy(FixedFleet):
    """A fixed fleet, each replica with a governor of its own; one object is for one run."""

    table: GovernorTable
    floor_mhz: int
    ceiling_mhz: int
    _governors: dict[int, ClockGovernor] = field(default_factory=dict)

    @property
    def govern_interval_s(self) -> float:
        """As the agent does."""
        return GOVERN_INTERVAL_S

    def initial(self) -> FleetPlan:
        """The fleet, at its ceiling; nothing is known of its load yet."""
        self._governors.clear()
        return self._at(float(self.ceiling_mhz))

    def govern(self, now_s: float, view: FleetView) -> Mapping[int, float]:
        """One step of every serving replica's governor."""
        clocks_mhz: dict[int, float] = {}
        for identity, reading in pod_readings(view.snapshot()).items():
            governor = self._governors.get(identity)
            if governor is None:
                governor = self._governors[identity] = ClockGovernor(self.table, self.floor_mhz, self.ceiling_mhz)
            clocks_mhz[identity] = float(governor.step(now_s, reading))
        return clocks_mhz


def pod_readings(snapshot: FleetSnapshot) -> dict[int, PodReading]:
    """What the metrics of every replica that serves or drains say, by replica id.

    First tokens are judged by the objective of their own input length, which live only the plug-in can.
    """
    columns = (
        snapshot.running,
        snapshot.waiting,
        snapshot.kv_usage,
        snapshot.finished,
        snapshot.first_tokens,
        snapshot.first_tokens_met,
        snapshot.gaps,
        snapshot.gaps_met,
        snapshot.prompt_tokens,
        snapshot.first_tokens + snapshot.gaps,
    )
    # Lists first: taking single elements out of arrays is slow, and this runs for every simulated second.
    rows = zip(*(column.tolist() for column in columns), strict=True)
    active = (ReplicaState.SERVING, ReplicaState.DRAINING)
    found = zip(snapshot.id.tolist(), snapshot.state.tolist(), rows, strict=True)
    return {identity: PodReading(*row) for identity, state, row in found if state in active}


def clock_only(
    name: str, single: StaticPolicy, order: QueueOrder, demand: Demand, *, spare_budget: float = SPARE_BUDGET
) -> ClockOnlyPolicy:
    """Govern the clocks of a static fleet, whose requests wait in this order.

    The table is made from a surface of that fleet under this demand. Raises InvalidInputError when no clock meets the
    SLO at any load.
    """
    models = single.shape.replica
    shape = ReplicaShape(models, replace(single.shape.settings, queue_order=order))
    fleet = min(single.replicas, _MOST_REPLICAS)
    clocks_mhz = governor_clocks(models.gpu)
    planned = planned_attainment(demand.percentile, spare_budget)
    question = SurfaceQuestion(
        replica=models,
        settings=shape.settings,
        mix=demand.mix,
        cv=demand.cv,
        objectives=demand.objectives,
        attainments=(planned,),
        clocks_mhz=clocks_mhz,
        fleet_sizes=tuple(sorted({1, fleet})),
        requests=max(_FEWEST_REQUESTS, fleet * _REQUESTS_PER_REPLICA),
        seed=demand.seed,
    )
    table = governor_table(
        build_surface(question),
        models,
        shape.settings,
        demand.mix,
        demand.objectives,
        attainment=demand.percentile,
        replicas=fleet,
        urgent_first=order is not QueueOrder.FCFS,
        spare_budget=spare_budget,
    )
    return ClockOnlyPolicy(name, shape, single.replicas, table, clocks_mhz[0], clocks_mhz[-1])


def governor_clocks(gpu: GpuSpec) -> tuple[int, ...]:
    """Clocks for a table, from the lowest allowed to the default: few below the voltage's knee, many above it."""
    allowed = [clock for clock in gpu.supported_clocks_mhz if clock >= FLOOR_MHZ] or [gpu.default_clock_mhz]
    low = [clock for clock in allowed if clock <= gpu.voltage_knee_mhz]
    high = [clock for clock in allowed if clock > gpu.voltage_knee_mhz]
    chosen = (
        set(low[:1]) | _every(low, _COARSE_MHZ // gpu.clock_step_mhz) | _every(high, _FINE_MHZ // gpu.clock_step_mhz)
    )
    return tuple(sorted(chosen))


def _every(clocks_mhz: Sequence[int], stride: int) -> set[int]:
    """One in ``stride``, the last among them."""
    return set(clocks_mhz[::-1][:: max(1, stride)])
