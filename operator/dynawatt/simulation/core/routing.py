"""Which replica a request goes to.

First to the pool whose turn it is, there to an open replica, and of these to the one with the fewest outstanding
requests. Where the one or the other is not to be had, closed replicas and then other pools take the request too: no
request waits while a replica that may serve it does.
"""

import math

from dynawatt.simulation.core.batching import blocks_of
from dynawatt.simulation.core.jit import compiled
from dynawatt.simulation.core.state import NONE, SERVING, Core, Replica, Request, Shape, Turns

REJECTED = -2


@compiled
def pool_in_turn(turns: Turns, predicted_class: int) -> int:
    """The pool that the next request of a class is due to; NONE while no shares are set.

    After every request each pool has got its share of the class, up to less than one request: of the pools that are
    owed enough, the one that would soonest be owed a whole one (R. Tijdeman, "The chairman assignment problem",
    Discrete Mathematics 32, 1980).
    """
    pools = len(turns.shares)
    best, best_wait = NONE, math.inf
    for pool in range(pools):
        share = turns.shares[pool, predicted_class]
        owed = turns.owed[pool, predicted_class] + share
        if share > 0 and owed >= 0.5 / pools:
            wait = (1 - 0.5 / pools - owed) / share
            if wait < best_wait:
                best, best_wait = pool, wait
    return best


@compiled
def take_turn(turns: Turns, predicted_class: int, pool: int) -> None:
    """Count a request of a class as one that a pool has got."""
    for each in range(len(turns.shares)):
        turns.owed[each, predicted_class] += turns.shares[each, predicted_class]
    turns.owed[pool, predicted_class] -= 1


@compiled
def replica_for(core: Core, request: Request, pool: int) -> int:
    """The serving replica that a request goes to, a pool's before others'; NONE while none may take it.

    REJECTED where those that may take it are all too small to hold it.
    """
    best = NONE
    for slot in range(core.fleet[0].slots):
        replica = core.replicas[slot]
        if replica.state != SERVING or not core.eligible[replica.pool, request.predicted_class]:
            continue
        if best >= 0 and not _is_better(replica, core.replicas[best], pool):
            continue
        if _holds(core.shapes[replica.kind], request):
            best = slot
        elif best == NONE:
            best = REJECTED
    return best


@compiled
def other_replica_for(core: Core, request: Request, source: int, waiting: int) -> int:
    """Another serving replica for a request of a replica where so many wait: one with fewer waiting; NONE if none."""
    best = NONE
    for slot in range(core.fleet[0].slots):
        replica = core.replicas[slot]
        if (
            slot != source
            and replica.state == SERVING
            and replica.waiting < waiting
            and core.eligible[replica.pool, request.predicted_class]
            and _holds(core.shapes[replica.kind], request)
            and (best == NONE or _is_better(replica, core.replicas[best], NONE))
        ):
            best = slot
    return best


@compiled
def _holds(shape: Shape, request: Request) -> bool:
    """Whether a request fits into the KV cache of a replica of a shape."""
    return blocks_of(request.input_tokens + request.output_tokens, shape.block_tokens) <= shape.kv_blocks


@compiled
def _is_better(first: Replica, second: Replica, pool: int) -> bool:
    """Whether a request that is due to a pool goes to the first rather than to the second."""
    if (first.pool == pool) != (second.pool == pool):
        return first.pool == pool
    if first.closed != second.closed:
        return first.closed < second.closed
    if first.outstanding != second.outstanding:
        return first.outstanding < second.outstanding
    return first.id < second.id
