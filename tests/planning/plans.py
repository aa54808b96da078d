"""Plans for one service."""

from dynawatt.planning.planner import UnitCommitmentPlanner

EAGER = UnitCommitmentPlanner(dwell_s=0.0, minimum_saving=0.0)
"""Changes at once, for any saving."""


def plan(what, planner=None, free=None):
    return (planner or UnitCommitmentPlanner()).plan({"it": what}, free)["it"]


def fleet(found):
    return found.shape, found.replicas
