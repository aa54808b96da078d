"""From the replicas that there are to those wanted, one step that fits at a time.

Stock vLLM cannot change its tensor parallelism in place, as DynamoLLM's engine does:
new replicas start beside the old ones, which go only when the load has been shared
out anew. Where not all of them fit, some start first; where none fits, an old one goes
first, but only where the others carry the load.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from dynawatt.simulation.policy import Group

Fleet = Counter[Group]


def next_step(
    present: Fleet,
    wanted: Fleet,
    free_gpus: Sequence[int],
    gpus: Sequence[int],
    carries: Callable[[Fleet], bool],
) -> Fleet | None:
    """The fleet to ask for now; None when nothing can be done yet, or all is as wanted.

    Args:
        present: Replicas that serve; none starts or drains.
        wanted: Replicas to get to.
        free_gpus: By server.
        gpus: Of a replica, by shape.
        carries: Whether a fleet carries as much of the load as the present one.
    """
    missing, surplus = wanted - present, present - wanted
    if not missing:
        return wanted if surplus else None
    if added := fitting(missing, free_gpus, gpus):
        return present + added
    # The largest first: room for one replica is room for several smaller ones.
    for group in sorted(surplus, key=lambda each: -gpus[each.shape]):
        fewer = present - Counter([group])
        if carries(fewer):
            return fewer
    return None


def fitting(missing: Fleet, free_gpus: Sequence[int], gpus: Sequence[int]) -> Fleet:
    """Those of the missing replicas that fit on servers with free GPUs, largest first, each on the fullest server."""
    free = list(free_gpus)
    found: Fleet = Counter()
    for group in sorted(missing.elements(), key=lambda each: (-gpus[each.shape], each)):
        able = [server for server, count in enumerate(free) if count >= gpus[group.shape]]
        if able:
            free[min(able, key=free.__getitem__)] -= gpus[group.shape]
            found[group] += 1
    return found
