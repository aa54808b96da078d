"""The next step of a service towards its plan, and how long a shape is avoided that failed to start."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from dynawatt.planning.replica_counts import ShapeCount
from dynawatt.planning.room import NodeRoom
from dynawatt.planning.step import RESHAPING, SCALING, Step, Terms
from dynawatt.planning.stepper import Stepper, capacity_rps

FIRST_RETRY_S: Final = 300.0
LONGEST_RETRY_S: Final = 7200.0


def next_step(
    goal: Mapping[str, int],
    shapes: Mapping[str, ShapeCount],
    *,
    nodes: Sequence[NodeRoom],
    max_gpus: int | None,
    needed_rps: float,
    min_replicas: int,
    barred: Collection[str] = (),
    may_start: bool = True,
    may_drain: bool = True,
) -> Step:
    """What to do now; pure, and the same for plain scaling, where there is one shape.

    Ready replicas are drained as far as those that stay carry what the goal carries, or what is there now where that
    is less, and the load. Where there is no room for a replica of the goal, those in its way on one node are drained
    if the rest carries the load.

    Replicas of the goal that are overdue are rolled back: the caller first records the failed attempt, then writes,
    and bars the Deployment until its next one. Whoever is killed in between finds it barred, and the same replicas
    are dropped without counting as another attempt.

    Args:
        goal: Replicas that are to be there in the end, by Deployment; none of those that are not named.
        shapes: All Deployments of the service as they are, those of the goal included.
        nodes: With such GPUs as its replicas run on.
        max_gpus: Most GPUs that the service may hold at any instant, stopping pods included; None for no limit.
        needed_rps: Load to be carried from now until a replica that starts now is Ready, with the planner's margin.
        min_replicas: Fewest Ready replicas. The last one only goes where the goal is to have none.
        barred: Deployments of which no replica is started for now.
        may_start: Whether replicas may be started now, as change windows say.
        may_drain: Whether Ready replicas may be drained now.
    """
    now_rps = capacity_rps(shapes)
    goal_rps = sum(shapes[name].capacity_rps * count for name, count in goal.items())
    fewest = max(min_replicas, min(1, sum(goal.values())))
    terms = Terms(
        goal=goal,
        reason=RESHAPING if any(shape.pods for name, shape in shapes.items() if not goal.get(name)) else SCALING,
        kept_rps=min(now_rps, max(goal_rps, needed_rps)),
        kept_replicas=fewest,
        needed_rps=needed_rps,
        needed_replicas=fewest,
        barred=barred,
        may_start=may_start,
        may_drain=may_drain,
    )
    return Stepper(shapes, nodes, max_gpus, terms).step()


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often a shape failed to start in a row; to be forgotten once a change to it is done."""

    failed: int = 0
    retry_s: float = -inf
    """It is barred until then, on the clock of whoever keeps this."""

    def after_failure(self, now_s: float) -> "Attempts":
        """With one more that failed now: each is waited for twice as long, from 5 minutes to 2 hours."""
        wait_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(self.failed, 10))
        return Attempts(self.failed + 1, now_s + wait_s)

    def bars(self, now_s: float) -> bool:
        """Whether it must not be tried now."""
        return now_s < self.retry_s
