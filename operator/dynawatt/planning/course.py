"""One way of a service through the horizon, step by step, and what it takes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dynawatt.planning.commitment import Courses, Indices, interpolated
from dynawatt.planning.curves import Numbers
from dynawatt.planning.present import Present


@dataclass(frozen=True, slots=True)
class Step:
    """From one decision to the next."""

    shape: int
    replicas: int
    first_slot: int
    last_slot: int
    """One past the last."""
    started: int
    held_gpus: int
    """At most, at any instant of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """Decisions from now to the end; the first one is what is acted on."""

    steps: Sequence[Step]

    @property
    def gpus(self) -> Indices:
        """Most that are held in each slot, [slot]."""
        return np.array([step.held_gpus for step in self.steps for _ in range(step.first_slot, step.last_slot)])


def follow(present: Present, courses: Courses, fleet: tuple[int, int], dwell_slots: int) -> Course:
    """The cheapest course of a service after a decision for now, a shape and a count."""
    own, one = present.own, present.own.service
    shape, replicas = fleet
    started = int(present.started[fleet])
    held = replicas * int(one.gpus[shape])
    until = dwell_slots if held < one.held_gpus else 1
    if present.pending[fleet]:
        until = int(own.lead_slots[shape])
        held = one.held_gpus + started * int(one.gpus[shape])
    steps = [Step(shape, replicas, 0, min(until, own.slots), started, held)]
    while (slot := steps[-1].last_slot) < own.slots:
        at = (slot, shape, replicas)
        to_shape, to_replicas = divmod(int(courses.next_fleet[at]), len(own.counts))
        kept, leaving = (replicas, 0) if to_shape == shape else (0, replicas * int(one.gpus[shape]))
        held = leaving + to_replicas * int(one.gpus[to_shape])
        started = max(0, to_replicas - kept)
        steps.append(Step(to_shape, to_replicas, slot, int(courses.next_slot[at]), started, held))
        shape, replicas = to_shape, to_replicas
    return Course(steps)


def resting(present: Present, fleet: tuple[int, int]) -> Course:
    """A decision that starts nothing, and no change after it."""
    shape, replicas = fleet
    one = present.own.service
    held = one.held_gpus if present.pending[fleet] else replicas * int(one.gpus[shape])
    return Course([Step(shape, replicas, 0, present.own.slots, 0, held)])


def total_j(course: Course, present: Present, serving_j: Numbers, served_j: Numbers, start_j: Sequence[float]) -> float:
    """Sum up a course: what serves goes on until what is started for the next step is Ready.

    Args:
        course: What to sum up.
        present: Where it begins.
        serving_j: What the replicas that are Ready now take, from now to the start of each slot, [slot].
        served_j: The same of any fleet, [slot, shape, replicas].
        start_j: What it takes to start a replica, [shape].
    """
    own, one = present.own, present.own.service
    sum_j, before_j = 0.0, serving_j
    for number, step in enumerate(course.steps):
        after_j = served_j[:, step.shape, step.replicas]
        starting = step.started + (int(one.starting[step.shape]) if number == 0 else 0)
        # None of another shape are counted like any number of it: they come when one would be Ready.
        reshaped = number > 0 and step.shape != course.steps[number - 1].shape
        wait_slots = one.curves[step.shape].startup_s / own.slot_s if starting or reshaped else 0.0
        ready = min(step.first_slot + wait_slots, own.slots)
        sum_j += float(interpolated(before_j, ready) - before_j[step.first_slot])
        sum_j += float(after_j[step.last_slot] - interpolated(after_j, ready)) + starting * start_j[step.shape]
        before_j = after_j
    return sum_j
