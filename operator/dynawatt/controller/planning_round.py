"""When services are planned for, and with which GPUs: all together, since they compete for them, and some at once.

All are planned for at the interval. In between, those that are new, or have left what
their plans were made for, take what is free: to plan for hundreds anew because of one
would hold up the one, and the others have what they need.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.controller.draft import Hold
from dynawatt.controller.inventory import Inventory
from dynawatt.controller.metrics.working import Scope, Work
from dynawatt.controller.runtime import ServiceRuntime
from dynawatt.controller.settings import OperatorSettings
from dynawatt.planning.planner import UnitCommitmentPlanner
from dynawatt.planning.service import ServicePlan

_RESHAPE_SAVING: Final = 0.03
"""A change of shape costs more than its joules: for minutes two sizes share the load, evenly, whatever they carry."""

_log = logging.getLogger(__name__)


class PlanningRound:
    """Plans all services at the interval, and single ones at once when they have left what they were planned for."""

    def __init__(self, settings: OperatorSettings, work: Work) -> None:
        """How it is done, and where it is counted."""
        self._settings = settings
        self._work = work
        # Without a picker nothing keeps requests away from replicas that are to be parked.
        self._planner = UnitCommitmentPlanner(
            packs=False, dwell_s=settings.dwell_s, reshape_saving=_RESHAPE_SAVING, interleaves=True
        )
        self._one_at_a_time = asyncio.Lock()

    async def plan_for(
        self, runtime: ServiceRuntime, services: Mapping[str, ServiceRuntime], inventory: Inventory
    ) -> ServicePlan:
        """The plan that holds for a service now. Raises Hold."""
        async with self._one_at_a_time:
            now_s = time.monotonic()
            if runtime.plan is not None and now_s - runtime.planned_s >= self._settings.plan_interval_s:
                await self._plan(services, inventory, now_s, Scope.ALL)
            elif _is_urgent(runtime, now_s):
                urgent = {uid: service for uid, service in services.items() if _is_urgent(service, now_s)}
                await self._plan(urgent, inventory, now_s, Scope.SOME)
        if runtime.plan is None:
            message = "it is being deleted: nothing more is planned"
            raise Hold(ConditionType.SLO_ATTAINABLE, None, Reason.GIVING_BACK, message)
        return runtime.plan

    async def _plan(
        self, services: Mapping[str, ServiceRuntime], inventory: Inventory, now_s: float, scope: Scope
    ) -> None:
        by_product: dict[str, dict[str, ServiceRuntime]] = defaultdict(dict)
        for uid, service in services.items():
            if service.state is not None:
                by_product[service.product][uid] = service
        for product, group in by_product.items():
            states = {uid: service.state for uid, service in group.items() if service.state is not None}
            # Where nodes are added for pods that wait, as many GPUs can be had as are wanted.
            free_gpus = None if self._settings.elastic_nodes else inventory.free(product)
            # Many services take seconds, and the Lease is to be renewed meanwhile.
            plans = await asyncio.to_thread(self._planner.plan, states, free_gpus)
            for uid, plan in plans.items():
                if group[uid].state is not None:
                    group[uid].adopt_plan(plan, states[uid], now_s)
        took_s = time.monotonic() - now_s
        self._work.planned(took_s, scope)
        _log.info("planned services=%d scope=%s took_s=%.2f", sum(map(len, by_product.values())), scope, took_s)


def _is_urgent(service: ServiceRuntime, now_s: float) -> bool:
    return service.state is not None and (service.plan is None or service.outgrown(now_s))
