"""One step of a service from the replicas it has towards those it is to have: make before break.

A step is decided from what is found, and nothing is remembered: whoever was
killed between any two writes goes on from what it finds, and asking twice gives
the same step. A step writes what one Deployment asks for, or nothing.

Ready replicas are drained for two reasons only. Either those that stay carry as
much as was promised, because others have become Ready or fewer are wanted. Or
no GPUs are free for a replica that is wanted, the load is so low that fewer
carry it, and exactly those go that are in its way on one node.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import floor
from typing import Final

from dynawatt.planning.replica_counts import ShapeCount
from dynawatt.planning.room import Emptying, NodeRoom, Room
from dynawatt.planning.step import (
    DISRUPTION_NOT_ALLOWED,
    NO_SPARE_CAPACITY,
    OUTSIDE_CHANGE_WINDOW,
    RESHAPE_FAILED,
    STEADY,
    Scale,
    Step,
    StepKind,
    Terms,
)

_ROUNDING: Final = 1e-9
"""Of sums of capacities, relative."""


class Stepper:
    """Decides one step.

    Args:
        shapes: All Deployments of the service, those of the goal included.
        nodes: With such GPUs as its replicas run on.
        max_gpus: Most GPUs that the service may hold at any instant, stopping pods included; None for no limit.
        terms: What is wanted.
    """

    def __init__(
        self, shapes: Mapping[str, ShapeCount], nodes: Sequence[NodeRoom], max_gpus: int | None, terms: Terms
    ) -> None:
        """Nothing is checked: counts are facts."""
        # The largest find room last, so they come first.
        self._shapes = dict(sorted(shapes.items(), key=lambda item: (-item[1].gpus, item[0])))
        self._terms = terms
        self._room = Room(shapes, nodes, max_gpus)
        self._serving = sum(shape.serving for shape in shapes.values())
        self._capacity_rps = capacity_rps(shapes) * (1 + _ROUNDING)
        self._wanted = {
            name: terms.goal[name] - shape.desired
            for name, shape in self._shapes.items()
            if terms.goal.get(name, 0) > shape.desired
        }
        """How many more replicas Deployments are to ask for, largest shape first."""
        self._surplus = {
            name: shape.serving - terms.goal.get(name, 0)
            for name, shape in self._shapes.items()
            if terms.goal.get(name, 0) < shape.serving
        }
        """How many Ready replicas of Deployments are to go."""

    def step(self) -> Step:
        """The first move that is possible, the safest first."""
        moves: Sequence[Callable[[], Step | None]] = (
            self._clear_away,
            self._start,
            self._await_starting,
            self._bide,
            self._drain,
            self._make_room,
            self._await_rest,
        )
        steps = (move() for move in moves)
        return next((step for step in steps if step is not None), Step(StepKind.DONE, STEADY, "no change is under way"))

    def _clear_away(self) -> Step | None:
        """Take away what is overdue: it holds GPUs and does not serve."""
        for name, shape in self._shapes.items():
            in_vain = self._terms.is_final and not self._terms.goal.get(name, 0)
            # The Deployment chooses which go, and might take those that are about to be Ready.
            if not (in_vain or (shape.stuck and not shape.coming)):
                continue
            # Where too few serve, what does not serve now may be all there is to come back.
            left = shape.serving + max(0, self._terms.kept_replicas - self._serving)
            unwanted = self._terms.goal.get(name, 0) <= shape.serving
            if left >= shape.desired or not (unwanted or self._gives_up_on(name)):
                continue
            away, scale = replicas(shape.desired - left), Scale(name, left)
            if unwanted or name in self._terms.barred:
                return Step(StepKind.DROP, self._terms.reason, f"take away {away} of {name} that do not serve", scale)
            message = f"{away} of {name} did not become Ready in time: back to {left}"
            return Step(StepKind.ROLL_BACK, RESHAPE_FAILED, message, scale)
        return None

    def _gives_up_on(self, name: str) -> bool:
        """Whether overdue replicas that are wanted are taken away, or Kubernetes goes on trying to start them."""
        return not self._terms.is_final and not self._is_last_hope(name)

    def _is_last_hope(self, name: str) -> bool:
        """Whether capacity is short and no other Deployment has a Ready replica."""
        return self._terms.needed_rps > self._capacity_rps and self._shapes[name].serving == self._serving

    def _start(self) -> Step | None:
        """Start what is wanted and has room; nothing beside another shape that starts, unless capacity is short."""
        if not self._terms.may_start:
            return None
        coming_rps = sum(shape.capacity_rps * shape.coming for shape in self._shapes.values())
        is_short = self._terms.needed_rps > self._capacity_rps + coming_rps
        for name, wanted in self._wanted.items():
            shape = self._shapes[name]
            others_start = any(other.coming for key, other in self._shapes.items() if key != name)
            if self._is_barred(name) or (others_start and not is_short):
                continue
            more = int(min(wanted, self._room.replicas(shape.gpus), self._terms.batch - shape.coming))
            if more > 0:
                message = f"start {replicas(more)} of {name}: {shape.serving} of {self._terms.goal[name]} are Ready"
                return Step(StepKind.START, self._terms.reason, message, Scale(name, shape.desired + more))
        return None

    def _await_starting(self) -> Step | None:
        coming = listed({name: shape.coming for name, shape in self._shapes.items()})
        return Step(StepKind.WAIT, self._terms.reason, f"starting: {coming}") if coming else None

    def _bide(self) -> Step | None:
        """Drain nothing for the sake of replicas that must not be started for now."""
        barred = [name for name in self._wanted if self._is_barred(name)]
        if not barred:
            return None
        return Step(StepKind.BLOCKED, RESHAPE_FAILED, f"{', '.join(barred)} did not start and is tried again later")

    def _is_barred(self, name: str) -> bool:
        """More of what serves already is worth another try where nothing else helps."""
        return name in self._terms.barred and not (self._shapes[name].serving and self._is_last_hope(name))

    def _drain(self) -> Step | None:
        """Drain what the others make up for."""
        spare, spare_rps = self._serving - self._terms.kept_replicas, self._capacity_rps - self._terms.kept_rps
        way = next((way for name in self._wanted for way in self._ways(name, self._surplus)), None)
        not_allowed: list[str] = []
        for name in self._drain_order(way):
            shape = self._shapes[name]
            safe = floor(spare_rps / shape.capacity_rps) if shape.capacity_rps > 0 else spare
            fewer = min(self._surplus[name], spare, safe)
            if fewer > 0 and (not self._terms.may_drain or not shape.drainable):
                not_allowed.append(name)
            elif fewer > 0:
                node = way.node if way and name in way.counts else None
                return self._drained(name, min(fewer, shape.drainable), node, "the others carry what has to be carried")
        return self._not_allowed(not_allowed) if not_allowed else None

    def _make_room(self) -> Step | None:
        """Too few GPUs are free for what is wanted."""
        if not self._wanted:
            return None
        if not self._terms.may_start:
            message = f"{listed(self._wanted)} missing: outside the change windows nothing is started"
            return Step(StepKind.BLOCKED, OUTSIDE_CHANGE_WINDOW, message)
        missing = listed(self._wanted) + " missing: " + self._room.lack(self._shapes[next(iter(self._wanted))].gpus)
        settling = any(shape.leaving > shape.stopping for shape in self._shapes.values())
        if settling or any(self._room.comes(self._shapes[name].gpus) for name in self._wanted):
            return Step(StepKind.WAIT, self._terms.reason, f"{missing}; pods that stop will make room")
        drainable = {name: min(count, self._shapes[name].drainable) for name, count in self._surplus.items()}
        for name in self._wanted if self._terms.may_drain else ():
            if (way := next(self._affordable(name, drainable), None)) is not None:
                drained, count = min(way.counts.items())
                return self._drained(drained, count, way.node, f"the load is low enough to make room for {name}")
        for name in self._wanted:
            if (way := next(self._affordable(name, self._surplus), None)) is not None:
                return self._not_allowed(way.counts)
        return Step(StepKind.BLOCKED, NO_SPARE_CAPACITY, missing)

    def _await_rest(self) -> Step | None:
        stuck = listed({name: shape.stuck for name, shape in self._shapes.items()})
        if stuck:
            return Step(StepKind.WAIT, self._terms.reason, f"not Ready in time and still trying: {stuck}")
        if self._surplus:
            kept = f"{self._terms.kept_rps:.4g} req/s and {replicas(self._terms.kept_replicas)} have to stay"
            return Step(StepKind.WAIT, self._terms.reason, f"not drained yet: {listed(self._surplus)}; {kept}")
        leaving = listed({name: shape.leaving for name, shape in self._shapes.items()})
        return Step(StepKind.WAIT, self._terms.reason, f"finishing their requests: {leaving}") if leaving else None

    def _ways(self, wanted: str, surplus: Mapping[str, int]) -> list[Emptying]:
        """Ways to make room for one more of a shape, those first that give up least capacity."""
        ways = self._room.emptyings(self._shapes[wanted].gpus, surplus)
        return sorted(ways, key=lambda way: (self._given_up_rps(way), way.node or "", sorted(way.counts)))

    def _affordable(self, wanted: str, surplus: Mapping[str, int]) -> Iterator[Emptying]:
        """Those of the ways that leave enough."""
        spare, idle_rps = self._serving - self._terms.needed_replicas, self._capacity_rps - self._terms.needed_rps
        for way in self._ways(wanted, surplus):
            if sum(way.counts.values()) <= spare and self._given_up_rps(way) <= idle_rps:
                yield way

    def _given_up_rps(self, way: Emptying) -> float:
        return sum(self._shapes[name].capacity_rps * count for name, count in way.counts.items())

    def _drain_order(self, way: Emptying | None) -> list[str]:
        """Those in the way of what is wanted first, then those whose GPUs carry least."""
        in_the_way = way.counts if way else ()
        return sorted(
            self._surplus,
            key=lambda name: (name not in in_the_way, self._shapes[name].capacity_rps / self._shapes[name].gpus, name),
        )

    def _drained(self, name: str, fewer: int, node: str | None, why: str) -> Step:
        message = f"drain {replicas(fewer)} of {name}: {why}"
        return Step(StepKind.DRAIN, self._terms.reason, message, Scale(name, self._shapes[name].desired - fewer, node))

    def _not_allowed(self, names: Iterable[str]) -> Step:
        what = f"{', '.join(names)}: not drained"
        if not self._terms.may_drain:
            return Step(StepKind.BLOCKED, OUTSIDE_CHANGE_WINDOW, f"{what} outside the change windows")
        message = f"{what} because a PodDisruptionBudget or the drain settings do not allow it now"
        return Step(StepKind.BLOCKED, DISRUPTION_NOT_ALLOWED, message)


def capacity_rps(shapes: Mapping[str, ShapeCount]) -> float:
    """What all Ready replicas carry together."""
    return sum(shape.capacity_rps * shape.serving for shape in shapes.values())


def replicas(count: int) -> str:
    """For messages."""
    return "1 replica" if count == 1 else f"{count} replicas"


def listed(counts: Mapping[str, int]) -> str:
    """For messages: how many replicas of which Deployments; empty where there are none."""
    return ", ".join(f"{replicas(count)} of {name}" for name, count in counts.items() if count)
