"""Gives a load the highest rate that a static fleet of a given size carries."""

from collections.abc import Callable
from math import inf, sqrt
from typing import Final

from dynawatt.cli.simulate.loads import Load
from dynawatt.cli.simulate.slot_counts import LoadCounts, count_load
from dynawatt.errors import InvalidInputError
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.sizing import capacity_rps
from dynawatt.simulation.static_sizing import carries
from dynawatt.simulation.study import Study
from dynawatt.workload.trace import MAX_SCALE, Trace

_TOLERANCE: Final = 0.02
"""Of the rate that a given fleet just carries."""
_HOPELESS: Final = 0.01


def scale_to(study: Study, load: Load, shape: ReplicaShape, replicas: int) -> LoadCounts:
    """Set the load's rate to what so many replicas carry in its busiest hour, and count it.

    Raises InvalidInputError when they carry nothing, or more than the load can be scaled to.
    """
    load.rate_scale = guess = _by_statistics(study, load, shape, replicas)

    def at(scale: float) -> LoadCounts:
        load.rate_scale = scale
        return count_load(load, study.classes)

    def carry(busiest: Trace | None) -> bool:
        return busiest is not None and carries(study, busiest, shape, replicas)

    if load.is_recorded:
        scale = _highest(lambda scale: carry(at(scale).busiest), guess)
        counts = at(scale) if scale else None
    else:
        # To draw a week takes seconds. A renewal process at a higher rate is the same one, passed faster: what the
        # busiest hour finds so is then tried with the requests of that rate.
        hour = at(guess).busiest
        scale = _highest(lambda scale: hour is not None and carry(hour.compress(scale / guess)), guess)
        counts = at(scale) if scale else None
        while scale and counts and not carry(counts.busiest):
            scale = scale / (1 + _TOLERANCE) if scale > guess * _HOPELESS else None
            counts = at(scale) if scale else None
    if counts is None:
        raise InvalidInputError(
            f"--peak-servers: {replicas} replicas of {shape.replica.name} miss the SLO at any rate of "
            f"{load.workload.name}: loosen the objectives or give more servers"
        )
    return counts


def _by_statistics(study: Study, load: Load, shape: ReplicaShape, replicas: int) -> float:
    """What the peak rate and the burstiness let expect."""
    name = shape.replica.name
    each_rps = capacity_rps(shape.replica, shape.settings, study.demand(), replicas=replicas)
    if not each_rps > 0 or not study.peak_rps > 0:
        raise InvalidInputError(
            f"--peak-servers: {replicas} replicas of {name} carry {each_rps:.3g} requests/s each "
            f"within the SLO, and the peak is {study.peak_rps:.3g}: loosen the objectives or take another load"
        )
    scale = load.rate_scale * replicas * each_rps / study.peak_rps
    if scale > MAX_SCALE:
        raise InvalidInputError(
            f"--peak-servers: {replicas} replicas of {name} need {scale:.4g} times the load: must be "
            f"at most {MAX_SCALE:g}; give fewer servers or take a larger load"
        )
    return scale


def _highest(carried: Callable[[float], bool], guess: float) -> float | None:
    """Bisect between a rate that the fleet carries and one that it does not; None where there seems to be none."""
    low, high, scale = 0.0, inf, guess
    while high > low * (1 + _TOLERANCE):
        low, high = (scale, high) if carried(scale) else (low, scale)
        if high < guess * _HOPELESS:
            return None
        step = 1 + 5 * _TOLERANCE
        scale = low * step if high == inf else high / step if low == 0 else sqrt(low * high)
    return low
