"""The fleets that ``dynawatt simulate`` runs, and the inventory that all policies pay for."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf, sqrt
from typing import Final

from dynawatt.adapters.engine_settings import engine_settings
from dynawatt.adapters.vllm_args import VllmSettings, default_max_num_batched_tokens, default_max_num_seqs
from dynawatt.cli.simulate.loads import Load
from dynawatt.cli.simulate.options import Slo
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.profile import ReplicaProfile
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.governed_policies import CLOCK_ONLY, ClockOnlyPolicy, clock_only
from dynawatt.simulation.inventory import GPUS_PER_SERVER
from dynawatt.simulation.settings import EngineSettings, QueueOrder
from dynawatt.simulation.sizing import Demand, capacity_rps, replicas_for, tune_chunk
from dynawatt.simulation.static_fleet import replay_static
from dynawatt.simulation.static_policies import (
    SINGLE_POOL,
    STATIC_DEADLINE,
    STATIC_PRIORITY,
    VLLM_DEFAULT,
    StaticPolicy,
)
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.trace import MAX_SCALE, Trace

_STATIC_ORDERS: Final = {STATIC_PRIORITY: QueueOrder.PRIORITY, STATIC_DEADLINE: QueueOrder.DEADLINE}
POLICIES: Final = (SINGLE_POOL, VLLM_DEFAULT, *_STATIC_ORDERS, *CLOCK_ONLY)
_SCALE_TOLERANCE: Final = 0.02
"""Of the rate that a given fleet just carries."""
_HOPELESS: Final = 0.01
_MOST_REPLICAS: Final = 10_000


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """What the user fixed; None is left to simulation."""

    replicas: int | None = None
    chunk: int | None = None
    """``max_num_batched_tokens`` of the tuned static fleet."""
    queue_order: QueueOrder = QueueOrder.FCFS
    servers: int | None = None
    peak_servers: int | None = None


@dataclass(frozen=True, slots=True)
class Fleets:
    """Policies ready to run, the tuned static fleet first."""

    policies: tuple[StaticPolicy | ClockOnlyPolicy, ...]
    servers: int
    """The inventory."""
    servers_rule: str
    """Where it comes from, for people."""
    sizing_wall_s: float


def build_fleets(names: Sequence[str], replica: ReplicaProfile, load: Load, slo: Slo, options: FleetOptions) -> Fleets:
    """Build the wanted policies; the tuned static fleet is always the first, as savings are against it.

    Scales the load when its size is given in servers. Raises InvalidInputError when the options contradict each other,
    the profile does not cover them, or no fleet meets the SLO.
    """
    if options.peak_servers is not None and options.replicas is not None:
        raise InvalidInputError("--peak-servers and --replicas both size the static fleet: give one of them")
    begin_s = time.perf_counter()
    sizing = _Sizing(replica, load, slo, load.mix())
    tuned = sizing.tuned(options.chunk, options.queue_order)
    count = options.replicas
    if options.peak_servers is not None:
        count = options.peak_servers * (GPUS_PER_SERVER // replica.tensor_parallel)
        sizing.scale_load(tuned, count)
    single = sizing.policy(SINGLE_POOL, tuned, count)
    others = [sizing.other(name, single, options) for name in dict.fromkeys(names) if name != SINGLE_POOL]
    servers, rule = single.servers, "what the tuned static fleet needs"
    if options.servers is not None:
        if options.servers < servers:
            raise InvalidInputError(f"--servers {options.servers}: the tuned static fleet needs {servers}")
        servers, rule = options.servers, "as given"
    return Fleets((single, *others), servers, rule, time.perf_counter() - begin_s)


@dataclass(frozen=True, slots=True)
class _Sizing:
    """Finds settings and sizes by simulation."""

    replica: ReplicaProfile
    load: Load
    slo: Slo
    mix: LengthMix

    def tuned(self, chunk: int | None, order: QueueOrder) -> EngineSettings:
        """Settings with the given prefill chunk, or with the one that carries most."""
        settings = _flags(self.replica, chunk, order)
        return settings if chunk is not None else tune_chunk(self.replica, settings, self._demand())[0]

    def other(self, name: str, single: StaticPolicy, options: FleetOptions) -> StaticPolicy | ClockOnlyPolicy:
        """Any policy but the tuned static fleet, under the same load."""
        if name in CLOCK_ONLY:
            return clock_only(name, single, CLOCK_ONLY[name], self._demand())
        # --peak-servers is the size of the tuned fleet; the others get what they need.
        if name in _STATIC_ORDERS:
            return self.policy(name, self.tuned(options.chunk, _STATIC_ORDERS[name]), options.replicas)
        return self.policy(name, _flags(self.replica, None, options.queue_order), options.replicas)

    def scale_load(self, settings: EngineSettings, replicas: int) -> None:
        """Give the load the highest rate that so many replicas carry at its peak."""
        each_rps = capacity_rps(self.replica, settings, self._demand(), replicas=replicas)
        peak_rps = self.load.statistics().peak_rps
        if not each_rps > 0 or not peak_rps > 0:
            raise InvalidInputError(
                f"--peak-servers: {replicas} replicas of {self.replica.name} carry {each_rps:.3g} requests/s each "
                f"within the SLO, and the peak is {peak_rps:.3g}: loosen the objectives or take another load"
            )
        scale = self.load.rate_scale * replicas * each_rps / peak_rps
        if scale > MAX_SCALE:
            raise InvalidInputError(
                f"--peak-servers: {replicas} replicas of {self.replica.name} need {scale:.4g} times the load: must be "
                f"at most {MAX_SCALE:g}; give fewer servers or take a larger load"
            )
        self.load.rate_scale = scale
        if self.load.is_recorded:
            self._refine_scale(settings, replicas)

    def policy(self, name: str, settings: EngineSettings, replicas: int | None) -> StaticPolicy:
        """A static fleet of this size, or of the one that the peak needs."""
        if replicas is None:
            replicas = replicas_for(self.load.statistics().peak_rps, self.replica, settings, self._demand())
            if self.load.is_recorded:
                hour = self.load.busiest_hour()
                replicas = fewest(lambda count: self._carries(hour, settings, count), replicas)
        return StaticPolicy(name, ReplicaShape(self.replica, settings), replicas, self.replica.gpu.default_clock_mhz)

    def _refine_scale(self, settings: EngineSettings, replicas: int) -> None:
        """Bisect between a rate that the fleet carries and one that it does not, beginning at the present one."""
        guess, low, high = self.load.rate_scale, 0.0, inf
        while high > low * (1 + _SCALE_TOLERANCE):
            if self._carries(self.load.busiest_hour(), settings, replicas):
                low = self.load.rate_scale
            else:
                high = self.load.rate_scale
            if high < guess * _HOPELESS:
                raise InvalidInputError(
                    f"--peak-servers: {replicas} replicas of {self.replica.name} miss the SLO at any rate of "
                    f"{self.load.workload.name}: loosen the objectives or give more servers"
                )
            step = 1 + 5 * _SCALE_TOLERANCE
            self.load.rate_scale = low * step if high == inf else high / step if low == 0 else sqrt(low * high)
        self.load.rate_scale = low

    def _carries(self, hour: Trace, settings: EngineSettings, replicas: int) -> bool:
        """Whether so many replicas meet the SLO under these very requests."""
        run = replay_static(
            hour,
            ReplicaShape(self.replica, settings),
            replicas=replicas,
            clock_mhz=self.replica.gpu.default_clock_mhz,
            objectives=self.slo.objectives,
        )
        return run.attainment >= self.slo.fraction

    def _demand(self) -> Demand:
        cv = self.load.statistics().interarrival_cv
        return Demand(self.mix, cv, self.slo.objectives, self.slo.fraction)


def fewest(enough: Callable[[int], bool], guess: int) -> int:
    """The fewest replicas that are enough, where more of them always are; found around a guess."""
    low, high, step = 0, guess, 1
    if enough(guess):
        while high > 1 and not low:
            fewer = max(1, high - step)
            if enough(fewer):
                high, step = fewer, 2 * step
            else:
                low = fewer
    else:
        low, high = guess, guess + step
        while not enough(high):
            if high > _MOST_REPLICAS:
                raise InvalidInputError(f"--slo: {high} replicas miss it in the busiest hour: loosen the objectives")
            step *= 2
            low, high = high, high + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _flags(replica: ReplicaProfile, chunk: int | None, order: QueueOrder) -> EngineSettings:
    """Engine settings with this prefill chunk, or vLLM's own. Raises InvalidInputError outside the profile.

    ``max_num_seqs`` is vLLM's own, or as high as the profile goes: that of an older engine ends below vLLM's default.
    """
    seqs = default_max_num_seqs(replica.gpu, chunk or default_max_num_batched_tokens(replica.gpu))
    vllm = VllmSettings(
        replica.model.architecture.name,
        (),
        max_num_batched_tokens=chunk,
        max_num_seqs=min(seqs, replica.max_decode_requests),
    )
    return replace(engine_settings(vllm, replica), queue_order=order)
