"""Gives a service back to the Deployment it was found with, one batch of original replicas after the other.

What is promised: as many Ready replicas as there were before, or as the original
Deployment is to have where those are fewer, and as much capacity as before, or as
all originals carry where that is less. So siblings go as originals become Ready.
Where these have no room, the siblings in their way go first if the rest carries
that capacity, or at least the load: then replicas may be fewer until the next
original is Ready. Siblings that are stuck or still starting go at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Final

from dynawatt.planning.replica_counts import ShapeCount
from dynawatt.planning.room import NodeRoom
from dynawatt.planning.step import GIVE_BACK_INCOMPLETE, GIVING_BACK, Scale, Step, StepKind, Terms
from dynawatt.planning.stepper import Stepper, capacity_rps

_BATCH: Final = 0.25
"""Of the original replicas: as many start at the same time as when a Deployment rolls out (its maxSurge)."""


@dataclass(frozen=True, slots=True)
class Original:
    """The user's own Deployment as it was found."""

    deployment: str
    replicas: int


def serving(shapes: Mapping[str, ShapeCount]) -> dict[str, int]:
    """Ready replicas by Deployment: what giving back begins from, to be remembered until it ends."""
    return {name: shape.serving for name, shape in shapes.items() if shape.serving}


def give_back_step(
    original: Original,
    shapes: Mapping[str, ShapeCount],
    *,
    nodes: Sequence[NodeRoom],
    max_gpus: int | None,
    before: Mapping[str, int] | None,
    needed_rps: float = inf,
    is_timed_out: bool = False,
) -> Step:
    """What to do now; Done when only the original Deployment is left.

    Args:
        original: What to give back.
        shapes: All Deployments of the service as they are, the original one included.
        nodes: With such GPUs as its replicas run on.
        max_gpus: Most GPUs that the service may hold at any instant, stopping pods included; None for no limit.
        before: ``serving`` when this began. None where nobody remembers: what is there now, which is safe, but keeps
            more than had to be kept, and so may find no room.
        needed_rps: Load to be carried; infinite where it is not known, so that capacity never is less than promised.
        is_timed_out: Whether it took too long: what serves goes on serving, and the original Deployment asks for its
            replicas, so that they start whenever there is room.
    """
    name, replicas = original.deployment, original.replicas
    siblings = {key: shape for key, shape in shapes.items() if key != name}
    are_asked_for = any(shape.desired for shape in siblings.values())
    if not are_asked_for and (is_timed_out or not any(shape.leaving for shape in siblings.values())):
        return _alone(original, shapes[name])
    began = serving(shapes) if before is None else before
    began_rps = sum(shapes[key].capacity_rps * count for key, count in began.items() if key in shapes)
    kept_rps = min(began_rps, shapes[name].capacity_rps * replicas, capacity_rps(shapes))
    terms = Terms(
        goal={name: replicas},
        reason=GIVING_BACK,
        kept_rps=kept_rps,
        kept_replicas=min(sum(began.values()), replicas),
        needed_rps=min(needed_rps, kept_rps),
        needed_replicas=min(1, replicas),
        batch=max(1, ceil(_BATCH * replicas)),
        is_final=True,
    )
    step = Stepper(shapes, nodes, max_gpus, terms).step()
    if is_timed_out and step.kind is not StepKind.DROP:
        return _given_up(original, shapes[name], siblings)
    return step


def _alone(original: Original, shape: ShapeCount) -> Step:
    """No sibling is left: the Deployment is the user's own again, whether its replicas have room or not."""
    name, replicas = original.deployment, original.replicas
    if shape.desired == replicas:
        return Step(StepKind.DONE, GIVING_BACK, f"{name} has its {replicas} replicas back")
    kind = StepKind.START if shape.desired < replicas else StepKind.DRAIN
    return Step(kind, GIVING_BACK, f"{name} back from {shape.desired} to {replicas} replicas", Scale(name, replicas))


def _given_up(original: Original, shape: ShapeCount, siblings: Mapping[str, ShapeCount]) -> Step:
    """What serves goes on serving; replicas that are missing start when there is room, which nobody awaits."""
    name, replicas = original.deployment, original.replicas
    left = ", ".join(f"{sibling.desired} of {key}" for key, sibling in sorted(siblings.items()) if sibling.desired)
    message = (
        f"{shape.serving} of {replicas} replicas of {name} are Ready: {left} go on serving; delete them once it has all"
    )
    scale = Scale(name, replicas) if shape.desired < replicas else None
    return Step(StepKind.GAVE_UP, GIVE_BACK_INCOMPLETE, message, scale)
