"""Surfaces by hand, for our own policies: what a replica carries and draws can be followed on paper."""

from dataclasses import dataclass, replace

import numpy as np

from dynawatt.perfmodel.surface import Surface, SurfacePoint
from dynawatt.simulation.study import History, Knobs

from ..small_replica import small_replica
from .small_study import small_study

RELEASED_W = 70.0
SLOW_MHZ, FAST_MHZ = 1005, 1980
LONG_TOKENS = 1024
"""Inputs that are long begin here, by the default cuts."""


def row(carried_rps, idle_w, busy_w):
    """Within the SLO up to a load, and far from it beyond."""
    good = [SurfacePoint(rate, 1, 1, 0.1, 0.01, watts) for rate, watts in ((0.0, idle_w), (carried_rps, busy_w))]
    return [*(good if carried_rps else ()), SurfacePoint(carried_rps + 1e-6, 0.5, 0.5, 9.0, 1.0, busy_w)]


def hand_surface(gpus=1, slow=(5.0, 100.0, 250.0), fast=(10.0, 130.0, 630.0)):
    """By clock: requests/s carried, watts idle, watts at that load.

    A request costs 30 J at the slow, 50 J at the fast clock. A parked replica draws 81 W, what the profile says.
    """
    return Surface(gpus, RELEASED_W, 130.0, {SLOW_MHZ: row(*slow), FAST_MHZ: row(*fast)})


@dataclass
class HandSurfaces:
    """By number of GPUs, or by whether the load has long inputs: ``both``, ``short``, ``long``."""

    answers: dict
    asked: int = 0

    def get_all(self, questions):
        self.asked += len(questions)
        return [self.answers.get(inputs_of(each)) or self.answers[each.replica.tensor_parallel] for each in questions]


def inputs_of(question):
    is_long = question.mix.input_tokens >= LONG_TOKENS
    return "long" if is_long.all() else "both" if is_long.any() else "short"


def two_degrees(larger=2):
    """The small replica on one GPU, and on more that are together no faster."""
    model = small_replica().model
    both = replace(model, shapes=dict.fromkeys((1, larger), model.shapes[1]))
    return {degree: both.replica(degree) for degree in both.shapes}


def hand_study(answers=None, **changes):
    """Nothing is simulated: settings are vLLM's own, surfaces by hand."""
    surfaces = HandSurfaces(answers or {1: hand_surface()})
    return small_study(**{"surfaces": surfaces, "knobs": Knobs(settings=False), **changes})


def day_before(study, *rates_rps):
    """A history of equal parts of a day, which ends at time 0."""
    counts = np.repeat(np.array(rates_rps, dtype=float), 288 // len(rates_rps)) * 300.0
    return History(-86400.0, np.outer(counts, study.class_shares))
