"""Services whose true saving is known, with everything that makes it hard to measure."""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from dynawatt.accounting.switchback.estimate import Pair
from dynawatt.accounting.switchback.schedule import CARRY_OVER_S, PERIOD_S, Schedule

START_S = 1_760_000_000.0


@dataclass(frozen=True)
class World:
    """Watts follow the load of a day with random turns; the clock saves a fraction of them."""

    saving: float
    day: float = 0.6
    """Amplitude of the day around the mean load of 20 req/s."""
    trend_per_day: float = 0.0
    """Growth of the load, as a fraction of the mean."""
    turns: float = 0.1
    """Standard deviation of slow random changes of the load, which last about half an hour."""
    noise: float = 0.02
    """Of the watts of a period."""
    idle_w: float = 800.0
    w_per_rps: float = 60.0
    falling: float = 0.0
    """By what part the saving falls where the load is twice its mean, as it does where clocks follow the load."""

    def loads(self, rng, times_s):
        """Arrivals per second in periods; Poisson on top of everything else."""
        steps = np.diff(times_s, prepend=times_s[0])
        slow, level = np.empty(len(times_s)), 0.0
        for at, step_s in enumerate(steps):
            kept = np.exp(-step_s / 1800.0)
            level = kept * level + self.turns * np.sqrt(1 - kept**2) * rng.standard_normal()
            slow[at] = level
        days = (times_s - START_S) / 86_400
        mean = 20.0 * np.maximum(0.05, 1 + self.day * np.sin(2 * np.pi * days) + self.trend_per_day * days + slow)
        counted_s = PERIOD_S - CARRY_OVER_S
        return rng.poisson(mean * counted_s) / counted_s

    def watts(self, rng, loads, off):
        default_w = self.idle_w + self.w_per_rps * loads
        saved = self.saving * (1 - self.falling * (loads / 20 - 1))
        return default_w * np.where(off, 1.0, 1 - saved) * (1 + self.noise * rng.standard_normal(len(loads)))

    def truth(self):
        """The saving over whole days, as a fraction of the watts with the clock off."""
        rng = np.random.default_rng(12345)
        loads = np.concatenate([self.loads(rng, START_S + PERIOD_S * np.arange(288)) for _ in range(50)])
        off_w, on_w = (self.watts(rng, loads, off).mean() for off in (True, False))
        return 1 - on_w / off_w if self.falling else self.saving


@cache
def periods(days, percent, uid):
    """Start, pair and whether the clock is off of all periods that are compared."""
    schedule = Schedule(uid, percent)
    starts_s = schedule.at(START_S).end_s + PERIOD_S * np.arange(int(days * 86_400 / PERIOD_S))
    found = [(start_s, schedule.at(start_s + 1)) for start_s in starts_s]
    return [(start_s, phase.pair, phase.clock_off) for start_s, phase in found if phase.pair is not None]


def compared(world, rng, *, days, percent, uid):
    """Pairs as the schedule orders them; their true saving is that of the world."""
    found = periods(days, percent, uid)
    times_s, numbers, off = map(np.array, zip(*found, strict=True))
    loads = world.loads(rng, times_s)
    watts = world.watts(rng, loads, off)
    return [
        Pair(times_s[second] + PERIOD_S, watts[a], watts[b], loads[a], loads[b])
        for first, second in pairwise(range(len(found)))
        if numbers[first] == numbers[second]
        for a, b in [(first, second) if off[first] else (second, first)]
    ]
