"""What the operator remembers of one LLMService between two ticks; none of it is needed to restart safely."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.api.llmservice_status import LLMServiceStatus
from dynawatt.controller.claiming import ClockTerms
from dynawatt.controller.load import ServiceLoad
from dynawatt.perfmodel.surface import Surface
from dynawatt.planning.curves import ShapeCurve
from dynawatt.planning.service import ServicePlan, ServiceState
from dynawatt.workload.mix import LengthMix

_OUTGROWN: Final = 1.05
"""Present load over what the plan is ready for, above which it is planned anew at once."""
_NO_LOAD_RPS: Final = 0.1
"""Below this all loads are alike."""


@dataclass(frozen=True, slots=True, eq=False)
class CurveOf:
    """A curve, and what it was made from."""

    curve: ShapeCurve
    surface: Surface
    terms: tuple[float, float, int]
    """Planned attainment, start-up seconds, largest fleet."""


@dataclass(slots=True)
class ServiceRuntime:
    """Observations, model and plan of one service."""

    namespace: str
    name: str
    created: str
    """Creation time as the API writes it, which sorts."""
    deployment: str
    """The Deployment it refers to."""
    load: ServiceLoad
    surface: Surface | None = None
    mix: LengthMix | None = None
    """Lengths of its requests, which the surface is for."""
    curve: CurveOf | None = None
    state: ServiceState | None = None
    """What the next plan is made from; None while it must not be planned for."""
    plan: ServicePlan | None = None
    planned_s: float = float("-inf")
    planned_for: ServiceState | None = None
    terms: ClockTerms | None = None
    """By what the agents govern while the plan holds."""
    terms_of: ServicePlan | None = None
    """The plan that they belong to."""
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

    def adopt_plan(self, plan: ServicePlan, state: ServiceState, now_s: float) -> None:
        """Keep a plan together with what it was made from."""
        self.plan, self.planned_s, self.planned_for = plan, now_s, state

    def outgrown(self, now_s: float) -> bool:
        """Whether the present state needs a new plan at once: more load than planned for, or other circumstances."""
        if self.state is None:
            return False
        before = self.planned_for
        if before is None or _circumstances(self.state) != _circumstances(before):
            return True
        high_rps, slot = before.demand.high_rps, int((now_s - self.planned_s) / before.demand.slot_s)
        ready_for_rps = float(high_rps[min(slot, len(high_rps) - 1)])
        return self.state.present_rps > _OUTGROWN * max(ready_for_rps, _NO_LOAD_RPS)


def _circumstances(state: ServiceState) -> tuple[object, ...]:
    """All that a plan depends on but the load and the time."""
    return (
        list(state.curves.values()),  # equal only if they are the same objects
        state.ready,
        state.starting,
        state.min_replicas,
        state.max_replicas,
        state.attainment,
        state.may_scale,
        state.may_set_clock,
    )
