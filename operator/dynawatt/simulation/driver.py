"""Runs a fleet under a policy on virtual time.

Time goes on in steps: to the next sample of the time series, the next plan, the
next look of the governor, or the end of a start-up, whichever comes first. In
between, the compiled core simulates every iteration of every replica.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil, floor, inf
from typing import Final

from dynawatt.errors import InvalidInputError
from dynawatt.routing.prediction import LengthPredictor
from dynawatt.simulation.agents import STEP_S, Agents
from dynawatt.simulation.arrival_feed import ArrivalFeed
from dynawatt.simulation.fleet_core import FleetCore
from dynawatt.simulation.managed_fleet import ManagedFleet, ReplicaCore
from dynawatt.simulation.physics import Physics
from dynawatt.simulation.policy import Policy
from dynawatt.simulation.results import PolicyResult
from dynawatt.simulation.series import SeriesRecorder
from dynawatt.workload.classes import LengthClasses
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace

CLOCK_DELAY_S: Final = 0.08
"""From a clock's command to its effect: upper end of what DynamoLLM (HPCA 2025) measured, 50 to 80 ms."""
_MAX_POINTS: Final = 700
_SAMPLE_INTERVALS_S: Final = (30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)
"""Below 30 s an interval of a small service holds too few requests for percentiles."""


@dataclass(frozen=True, slots=True)
class SimulationSettings:
    """What all policies of a comparison share. Raises InvalidInputError."""

    horizon_s: float
    """Requests arrive before this time."""
    servers: int
    """GPU inventory, in whole servers."""
    percentile: float = 99.0
    """Of latencies in the time series, 50 to 100."""
    clock_delay_s: float = CLOCK_DELAY_S
    startup_s: float | None = None
    """From a replica's creation to Ready; None takes each profile's."""
    overtime_s: float = 600.0
    """How long the last requests may take after the horizon; what has not ended then is unfinished."""
    predictor: LengthPredictor | None = None
    """Of the output lengths by which requests are routed; None knows them."""
    classes: LengthClasses = LengthClasses()  # noqa: RUF009 (frozen)
    physics: Physics = Physics()  # noqa: RUF009 (a tuple)
    """How far the replicas are from what policies plan with."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 < self.horizon_s < inf:
            raise InvalidInputError(f"time to simulate, {self.horizon_s} s: must be above 0")
        if not 0 <= self.clock_delay_s < inf:
            raise InvalidInputError(f"clock delay {self.clock_delay_s} s: must be 0 or more")
        if self.startup_s is not None and not 0 <= self.startup_s < inf:
            raise InvalidInputError(f"start-up time {self.startup_s} s: must be 0 or more")

    @property
    def sample_interval_s(self) -> float:
        """Width of a point of the time series: about 700 points at most."""
        wide_enough = (width_s for width_s in _SAMPLE_INTERVALS_S if self.horizon_s <= _MAX_POINTS * width_s)
        return next(wide_enough, float(ceil(self.horizon_s / _MAX_POINTS)))


def simulate(
    policy: Policy,
    arrivals: Iterable[Trace],
    objectives: LatencyObjectives,
    settings: SimulationSettings,
    on_progress: Callable[[float], None] | None = None,
) -> PolicyResult:
    """Run a load through a fleet.

    Args:
        policy: Decides about replicas and clocks.
        arrivals: Chunks with absolute, ascending times; those at or after the horizon are left out.
        objectives: What latencies are held against.
        settings: Duration, inventory and delays.
        on_progress: Called with the virtual time in s, once per point of the time series.

    Raises InvalidInputError when the initial fleet does not fit the inventory.
    """
    core = FleetCore(
        settings.physics.of(policy.shapes),
        objectives,
        classes=settings.classes,
        eligible=policy.eligible,
        predictor=settings.predictor,
        clock_delay_s=settings.clock_delay_s,
    )
    feed, agents = ArrivalFeed(arrivals), Agents()

    def advance(fleet: ManagedFleet, until_s: float) -> None:
        core.advance(until_s, feed.until(until_s))
        fleet.settle()

    def step_agents(fleet: ManagedFleet) -> None:
        if fleet.claims:
            fleet.set_clocks(agents.step(fleet.now_s, fleet.claims, fleet.snapshot()))

    return drive(policy, core, settings, advance, on_progress, agents=step_agents)


def drive(
    policy: Policy,
    core: ReplicaCore,
    settings: SimulationSettings,
    advance: Callable[[ManagedFleet, float], None],
    on_progress: Callable[[float], None] | None,
    *,
    agents: Callable[[ManagedFleet], None] | None = None,
    step_s: float | None = None,
    least_interval_s: float = 0.0,
) -> PolicyResult:
    """Run a policy on replicas of either fidelity; ``simulate`` and ``simulate_slots`` do.

    Args:
        policy: Decides about replicas and clocks.
        core: Without any replica.
        settings: Duration and inventory.
        advance: Simulates a fleet up to a time.
        on_progress: Called with the virtual time.
        agents: Called every second.
        step_s: Longest time to simulate at once.
        least_interval_s: A policy is not asked more often.

    Raises InvalidInputError when the initial fleet does not fit the inventory.
    """
    fleet = ManagedFleet(core, policy.shapes, servers=settings.servers, startup_s=settings.startup_s)
    initial = policy.initial()
    fleet.begin(initial)
    series = SeriesRecorder(fleet, len(policy.shapes), settings.percentile)
    sample, step, agent = _Timer(settings.sample_interval_s), _Timer(step_s), _Timer(STEP_S if agents else None)
    plan, govern = (
        _Timer(None if interval_s is None else max(least_interval_s, interval_s))
        for interval_s in (policy.plan_interval_s, policy.govern_interval_s)
    )
    while fleet.now_s < settings.horizon_s:
        agent_s = agent.next_s if fleet.claims else inf
        wake_s = min(timer.next_s for timer in (sample, step, plan, govern))
        until_s = min(settings.horizon_s, wake_s, agent_s, fleet.next_ready_s)
        advance(fleet, until_s)
        step.due(until_s)
        left_s = settings.horizon_s - until_s
        # What is left at the end joins the last point, rather than to be a noisy one of its own.
        if (sample.due(until_s) and left_s >= settings.sample_interval_s / 2) or left_s == 0:
            series.record()
            if on_progress is not None:
                on_progress(until_s)
        if plan.due(until_s) and (wanted := policy.plan(until_s, fleet)) is not None:
            fleet.apply(wanted)
        if govern.due(until_s):
            fleet.set_clocks(policy.govern(until_s, fleet))
        if agent.due(until_s) and agents is not None:
            agents(fleet)
    core.finish(settings.horizon_s + settings.overtime_s)
    return PolicyResult(
        name=policy.name,
        shapes=tuple(policy.shapes),
        servers=settings.servers,
        # The inventory is paid for at least to the horizon, and by a fleet that is late until it is done.
        duration_s=max(settings.horizon_s, fleet.now_s),
        percentile=settings.percentile,
        tally=fleet.tally(),
        series=series.series(),
        initial=initial.replicas or {},
        reconfigurations=fleet.reconfigurations,
        clock_changes=fleet.clock_changes,
        refused_plans=fleet.refused_plans,
    )


class _Timer:
    """Due at every multiple of an interval; multiples are counted, so that no error adds up."""

    def __init__(self, interval_s: float | None) -> None:
        self._interval_s = interval_s
        self._count = 1

    @property
    def next_s(self) -> float:
        return inf if self._interval_s is None else self._count * self._interval_s

    def due(self, now_s: float) -> bool:
        """Whether the time has come; then the next multiple that is still ahead is what is waited for."""
        if self._interval_s is None or now_s < self.next_s:
            return False
        self._count = max(self._count + 1, floor(now_s / self._interval_s) + 1)
        return True
