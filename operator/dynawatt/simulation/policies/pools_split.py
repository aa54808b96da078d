"""How the GPUs of a pool are split into replicas of different tensor parallelism.

DynamoLLM's program (HPCA 2025, section IV-A): the fewest watts of N_i replicas at
degree i, each at a clock f_i and a load L_i within the SLO, that together carry the
pool's load on its GPUs. What a replica carries depends here on how many share the
load, and its watts are no line over the load, so it is solved by dynamic programming
over GPUs and twentieths of the load, which is exact on that grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.simulation.policies.pools import Numbers
from dynawatt.simulation.policies.pools_profile import PoolProfile

PARTS: Final = 20
"""The load is split among degrees in such parts."""
_OTHERS: Final = np.subtract.outer(np.arange(PARTS + 1), np.arange(PARTS + 1))
"""Parts that are left for others, [parts in all, parts of one]; below 0 where there are none to be had."""


@dataclass(frozen=True, slots=True)
class Split:
    """Replicas of a pool."""

    replicas: tuple[int, ...]
    """By shape."""
    cost_w: float
    """Beyond released GPUs, start-ups included."""


@dataclass(frozen=True, slots=True)
class SplitRules:
    """What a pool manager may do."""

    any_clock: bool
    """Whether clocks are chosen too; else all replicas run at the default clock."""
    all_gpus: bool
    """Whether no GPU may be left over."""
    worth_s: float
    """Time over which starting replicas must pay off."""


def cheapest_split(
    profiles: Sequence[PoolProfile | None], load: float, gpus: int, standing: Sequence[int], rules: SplitRules
) -> Split | None:
    """The split with the fewest watts; None when none carries the load.

    What starting replicas draw counts as watts over the time in which they must pay off: so a pool is only changed
    when that saves more than it takes.

    Args:
        profiles: By shape; None for those that carry nothing.
        load: Work to carry.
        gpus: At most so many, in all.
        standing: Replicas that there are, by shape.
        rules: What is allowed.
    """
    best = np.full((gpus + 1, PARTS + 1), np.inf)
    best[0, 0] = 0.0
    if load <= 0:
        best[0] = 0.0  # all parts of it need nobody
    choices: list[NDArray[np.int64]] = []
    for profile, there in zip(profiles, standing, strict=True):
        costs = np.zeros((0, PARTS + 1)) if profile is None else _costs(profile, load, gpus, there, rules)
        best, chosen = _with_shape(best, costs, profile.gpus if profile else 1)
        choices.append(chosen)
    column = best[:, PARTS]
    used = gpus if rules.all_gpus else int(column.argmin())
    if not np.isfinite(column[used]):
        return None
    cost_w, counts, part = float(column[used]), [0] * len(profiles), PARTS
    for shape in range(len(profiles) - 1, -1, -1):
        profile = profiles[shape]
        counts[shape], taken = divmod(int(choices[shape][used, part]), PARTS + 1)
        used -= counts[shape] * (profile.gpus if profile else 0)
        part -= taken
    return Split(tuple(counts), cost_w)


def load_parts(
    profiles: Sequence[PoolProfile | None], replicas: Sequence[int], load: float, *, any_clock: bool
) -> Numbers:
    """What part of a pool's load each shape gets for the fewest watts, of given replicas; by capacity beyond it.

    All is the first shape's where nothing carries anything.
    """
    best, taken = np.full(PARTS + 1, np.inf), np.zeros((len(profiles), PARTS + 1), np.int64)
    best[0] = 0.0
    capacities = np.zeros(len(profiles))
    for shape, (profile, count) in enumerate(zip(profiles, replicas, strict=True)):
        if profile is None or not count:
            continue
        capacities[shape] = profile.capacity(count)
        watts = profile.power_w(count, load * np.arange(PARTS + 1) / PARTS, any_clock=any_clock)
        sums = best[_OTHERS] + np.where(_OTHERS >= 0, watts, np.inf)
        best, taken[shape] = sums.min(axis=1), sums.argmin(axis=1)
    if not np.isfinite(best[PARTS]) or load <= 0:
        return np.asarray(capacities / capacities.sum()) if capacities.any() else np.eye(len(profiles))[0]
    parts, left = np.zeros(len(profiles)), PARTS
    for shape in range(len(profiles) - 1, -1, -1):
        parts[shape] = taken[shape, left] / PARTS
        left -= int(taken[shape, left])
    return parts


def _costs(profile: PoolProfile, load: float, gpus: int, standing: int, rules: SplitRules) -> Numbers:
    """Watts of 1, 2, .. replicas under 0, 1, .. PARTS parts of the load, [replicas - 1, part]."""
    most = min(gpus // profile.gpus, profile.most_replicas)
    watts = profile.power_table(most, load * np.arange(PARTS + 1) / PARTS, any_clock=rules.any_clock)[1:]
    started = np.maximum(0, np.arange(1, most + 1) - standing)
    return np.asarray(watts + started[:, None] * (profile.startup_j / rules.worth_s))


def _with_shape(best: Numbers, costs: Numbers, gpus: int) -> tuple[Numbers, NDArray[np.int64]]:
    """Fewest watts by GPUs used and parts carried, with one more shape, and how: its count * (PARTS + 1) + its part."""
    found, chosen = best.copy(), np.zeros(best.shape, np.int64)
    for count, row in enumerate(costs, start=1):
        used = count * gpus
        # [GPUs, parts in all, parts of this shape]
        sums = best[: len(best) - used, _OTHERS] + np.where(_OTHERS >= 0, row, np.inf)
        part = sums.argmin(axis=2)
        candidate = np.take_along_axis(sums, part[:, :, None], axis=2)[:, :, 0]
        better = candidate < found[used:]
        found[used:][better] = candidate[better]
        chosen[used:][better] = count * (PARTS + 1) + part[better]
    return found, chosen
