"""How much of an SLO's error budget plans leave unused."""

from typing import Final

SPARE_BUDGET: Final = 0.35
"""Fraction left unplanned where replicas are counted, because they come minutes later: 99 % is planned at 99.35 %."""


def planned_attainment(attainment: float, spare_budget: float = SPARE_BUDGET) -> float:
    """Attainment to plan for, so that an SLO of ``attainment`` is kept: this fraction of its error budget is spared."""
    return attainment + spare_budget * (1 - attainment)
