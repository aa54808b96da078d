"""How many replicas a static fleet needs: by the statistics of a load, and then by its very requests."""

from collections.abc import Callable
from typing import Final

from dynawatt.errors import InvalidInputError
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.sizing import replicas_for
from dynawatt.simulation.static_fleet import replay_static
from dynawatt.simulation.study import Study
from dynawatt.workload.trace import Trace

_MOST_REPLICAS: Final = 10_000


def static_replicas(study: Study, shape: ReplicaShape) -> int:
    """The fewest that meet the SLO at the default clock, always the same ones, under all classes.

    Raises InvalidInputError when no number is enough.
    """
    guess = replicas_for(study.peak_rps, shape.replica, shape.settings, study.demand())
    busiest = study.busiest
    return guess if busiest is None else fewest(lambda count: carries(study, busiest, shape, count), guess)


def carries(study: Study, requests: Trace, shape: ReplicaShape, replicas: int) -> bool:
    """Whether so many replicas at the default clock meet the SLO under these very requests."""
    run = replay_static(
        requests,
        shape,
        replicas=replicas,
        clock_mhz=shape.replica.gpu.default_clock_mhz,
        objectives=study.objectives,
    )
    return run.attainment >= study.fraction


def fewest(enough: Callable[[int], bool], guess: int) -> int:
    """The fewest replicas that are enough, where more of them always are; found around a guess.

    Raises InvalidInputError when none seem to be.
    """
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
