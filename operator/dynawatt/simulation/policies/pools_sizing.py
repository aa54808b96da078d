"""How many replicas of the static fleets' shape every pool gets: for its own peak, or as DynamoLLM sizes them."""

from collections.abc import Collection, Sequence
from functools import partial
from itertools import combinations

import numpy as np

from dynawatt.routing.prediction import LengthPredictor
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.policies.pools import Numbers, RequestPool, spill
from dynawatt.simulation.policies.pools_profile import ProfileTables
from dynawatt.simulation.static_sizing import carries, fewest
from dynawatt.simulation.study import Study
from dynawatt.workload.trace import Trace


def predicted_loads(rates_rps: Numbers, work: Numbers, predictor: LengthPredictor) -> Numbers:
    """Work per second by predicted class, of rates by actual class."""
    return np.asarray((rates_rps * work) @ predictor.confusion)


def own_replicas(tables: ProfileTables, loads: Numbers) -> list[int]:
    """So many that every pool carries its own classes; at least one each.

    Args:
        tables: Profiles of the pools.
        loads: Work per second by predicted class.
    """
    found = []
    for row, pool in enumerate(tables.pools):
        profile = tables.own[row][0]
        load = float(loads[list(pool.classes)].sum())
        found.append(max(1, profile.fewest(load)) if profile else 0)
    return found


def filled_replicas(tables: ProfileTables, loads: Numbers, closed: Collection[int] = ()) -> list[int]:
    """As many as every pool fills entirely; what is left over goes to the next larger pool, and the last gets enough.

    So only the last pool has more than it needs (DynamoLLM, HPCA 2025).

    Args:
        tables: Profiles of the pools.
        loads: Work per second by predicted class.
        closed: Pools that get none, so that all of their load goes to the next larger one.
    """
    found = [0] * len(tables.pools)
    last = len(found) - 1

    def size(row: int, offered: Numbers) -> float:
        profile = None if row in closed else tables.of(row, 0, offered)
        if profile is None:
            return 0.0
        load = float(offered.sum())
        found[row] = max(1, profile.fewest(load)) if row == last else profile.most_filled(load)
        return profile.capacity(found[row])

    spill(tables.pools, loads, size)
    return found


def merged_replicas(
    tables: ProfileTables, loads: Numbers, most: int, standing: Sequence[int] | None = None
) -> list[int]:
    """As ``filled_replicas``, with those pools merged into the next larger ones that makes the fewest in all.

    Of equals one for which the fewest replicas must start beside those ``standing``, and of these the one with the most
    pools. There are ``most`` at most: beyond them the last pool gets those that are left, and smaller pools go before
    larger ones.
    """
    rows = range(len(tables.pools) - 1)
    merged = [set(closed) for count in range(len(rows) + 1) for closed in combinations(rows, count)]
    there = standing or [most] * len(tables.pools)

    def cost(replicas: Sequence[int]) -> tuple[int, int]:
        return sum(replicas), sum(max(0, count - old) for count, old in zip(replicas, there, strict=True))

    found = min((filled_replicas(tables, loads, closed) for closed in merged), key=cost)
    for row in rows:
        found[row] -= min(found[row], max(0, sum(found[row:-1]) + 1 - most))
    found[-1] = max(1, min(found[-1], most - sum(found[:-1])))
    return found


def refined_by_replay(
    study: Study,
    pools: Sequence[RequestPool],
    shape: ReplicaShape,
    replicas: Sequence[int],
    predictor: LengthPredictor,
) -> list[int]:
    """Sizes with which every pool meets the SLO under its very requests of the busiest hour, as single-pool does.

    A pool gets the requests that are predicted to be of its classes. Without a busiest hour the sizes stay.
    """
    busiest = study.busiest
    if busiest is None:
        return list(replicas)
    actual = study.classes.of(busiest.input_tokens, busiest.output_tokens)
    predicted = predictor.predicted(0, actual)
    found = []
    for pool, guess in zip(pools, replicas, strict=True):
        rows = np.isin(predicted, pool.classes)
        part = Trace(busiest.arrival_s[rows], busiest.input_tokens[rows], busiest.output_tokens[rows])
        found.append(fewest(partial(carries, study, part, shape), guess) if len(part) else 1)
    return found
