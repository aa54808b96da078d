"""What the operator remembers of one LLMService between two ticks; none of it is needed to restart safely."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Final

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.api.llmservice_status import LLMServiceStatus
from dynawatt.forecast.recent_peak import HighWater, RecentPeakForecast
from dynawatt.perfmodel.surface import Surface
from dynawatt.planning.plan import ServicePlan, ServiceState

_BAND: Final = 1.05
"""Demand may exceed what was planned for by this factor, and fall by its cube, before a new plan is made at once."""

_NO_DEMAND_RPS: Final = 0.1


@dataclass(slots=True)
class ServiceRuntime:
    """Observations, model and plan of one service."""

    namespace: str
    name: str
    created: str
    """Creation time as the API writes it, which sorts."""
    deployment: str
    """The Deployment it refers to."""
    forecast: RecentPeakForecast
    demands: HighWater
    """Demand as forecast in the last minutes."""
    surface: Surface | None = None
    state: ServiceState | None = None
    """What the next plan is made from; None while it must not be planned for."""
    plan: ServicePlan | None = None
    planned_s: float = float("-inf")
    planned_for: ServiceState | None = None
    nodes: dict[str, KubernetesObject] = field(default_factory=dict)
    status: LLMServiceStatus | None = None
    """As last written."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One tick or giving back at a time: kopf starts the latter while a tick may still be under way."""
    deleted: bool = False
    """Set when giving back begins; no tick acts from then on."""

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    def forget_plan(self) -> None:
        """Start anew: the next state is planned for at once."""
        self.state = self.plan = self.planned_for = None

    def adopt_plan(self, plan: ServicePlan, now_s: float) -> None:
        """Keep a plan together with what it was made from."""
        self.plan, self.planned_s, self.planned_for = plan, now_s, self.state

    def outgrown(self) -> bool:
        """Whether the present state needs a new plan at once: more load than planned for, or other circumstances."""
        if self.state is None:
            return False
        if self.planned_for is None:
            return True
        before = self.planned_for
        ratios = (
            _ratio(self.state.demand_rps, before.demand_rps),
            _ratio(self.state.present_demand_rps, before.present_demand_rps),
        )
        if max(ratios) > _BAND or min(ratios) < 1 / _BAND**3:
            return True
        same_demand = replace(
            self.state,
            demand_rps=before.demand_rps,
            present_demand_rps=before.present_demand_rps,
            lasting_demand_rps=before.lasting_demand_rps,
            startup_s=before.startup_s,
        )
        return same_demand != before


def _ratio(now_rps: float, before_rps: float) -> float:
    """Of two demands; below the smallest that makes a difference all are equal."""
    return max(now_rps, _NO_DEMAND_RPS) / max(before_rps, _NO_DEMAND_RPS)
