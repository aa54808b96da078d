"""What the operator remembers of one LLMService between two ticks; none of it is needed to restart safely."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from dynawatt.accounting.accounts import Accounts
from dynawatt.adapters.vllm_load.source import LoadObservation
from dynawatt.api.llmservice_status import LLMServiceStatus
from dynawatt.controller.claiming import ClockTerms
from dynawatt.controller.engine_advice import AdviceBook
from dynawatt.controller.load import ServiceLoad
from dynawatt.controller.shape_models import ShapeBook, ShapeModels
from dynawatt.controller.stillness import Watch
from dynawatt.planning.service import ServicePlan, ServiceState
from dynawatt.workload.mix import LengthMix

_OUTGROWN: Final = 1.05
"""Present load over what the plan is ready for, above which it is planned anew at once."""
_NO_LOAD_RPS: Final = 0.1
"""Below this all loads are alike."""


@dataclass(slots=True)
class ServiceRuntime:
    """Observations, model and plan of one service."""

    uid: str
    """Of the LLMService."""
    namespace: str
    name: str
    created: str
    """Creation time as the API writes it, which sorts."""
    deployment: str
    """The Deployment it refers to."""
    load: ServiceLoad
    product: str = "unknown"
    """Of the GPUs it runs on."""
    models: Mapping[str, ShapeModels] = field(default_factory=dict)
    """By shape, the user's own first."""
    book: ShapeBook = field(default_factory=ShapeBook)
    refusals: tuple[object, list[str]] | None = None
    """Why its Deployment cannot be copied into further shapes, and of which version of it that was found."""
    pods: Mapping[str, str] = field(default_factory=dict)
    """Names of its pods that have not ended, with the shape of each, as of the last look."""
    mix: LengthMix | None = None
    """Lengths of its requests, which the surfaces are for."""
    observed: LoadObservation | None = None
    """The last look at its load."""
    advice: AdviceBook = field(default_factory=AdviceBook)
    """What the advice on its engine flags is about."""
    accounts: Accounts = field(default_factory=Accounts)
    """What it used, and what it would have."""
    burst_rps: float = 0.0
    """Arrival rate that is surely there by now, although the mean over the rate window may not tell yet."""
    state: ServiceState | None = None
    """What the next plan is made from; None while it must not be planned for."""
    plan: ServicePlan | None = None
    planned_s: float = float("-inf")
    planned_for: ServiceState | None = None
    terms: Mapping[str, ClockTerms] = field(default_factory=dict)
    """By what the agents govern while the plan holds, by shape."""
    terms_of: ServicePlan | None = None
    """The plan that they belong to."""
    terms_from: Sequence[object] = ()
    """What they were made from."""
    looked: bool = False
    """Whether this operator has seen its replicas, and would know if it had changed them."""
    giving_back_since_s: float | None = None
    """When giving back began, on a monotonic clock."""
    served_before: Mapping[str, int] | None = None
    """Ready replicas by Deployment at that time."""
    watch: Watch = field(default_factory=Watch)
    """Which of its replicas can be compared with their profiles."""
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
        state.may_reshape,
        state.max_gpus,
        state.fixed_clock,
    )
