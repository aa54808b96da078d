"""What a service used against what it would have used: measured where agents count, modelled elsewhere."""

import logging
import time

from dynawatt.accounting.accounts import Accounts
from dynawatt.accounting.counterfactual import moment_of, static_fleets
from dynawatt.accounting.fleets import RunningShape, running_draw
from dynawatt.accounting.ledger import Bands
from dynawatt.accounting.metering import EnergySpan
from dynawatt.accounting.switchback.schedule import Schedule
from dynawatt.accounting.uncertainty import level_band
from dynawatt.adapters.pod_energy import pod_energies_j
from dynawatt.api.llmservice import Knob, Mode
from dynawatt.controller.tick import Tick
from dynawatt.planning.service import ServiceState
from dynawatt.ports import MetricsSource, MetricsUnavailable

_log = logging.getLogger(__name__)


class Evaluator:
    """Books every tick in which a service was observed."""

    def __init__(self, metrics: MetricsSource | None) -> None:
        """``metrics`` has what the agents count; None where there is no Prometheus."""
        self._metrics = metrics

    async def look(self, tick: Tick, state: ServiceState, accounts: Accounts) -> None:
        """Add what happened since the last look."""
        now_s, rate_rps = time.time(), tick.runtime.load.present_rps
        span = await self._span(tick, accounts, now_s)
        accounts.peak.observe(now_s, rate_rps)
        governed = {shape.deployment for shape in tick.draft.status.shapes if shape.clock is not None}
        running = [
            RunningShape(
                state.curves[workload.shape],
                serving=state.ready.get(workload.shape, 0),
                starting=state.starting.get(workload.shape, 0),
                governed=workload.name in governed and not clock_is_off(tick, now_s),
            )
            for workload in tick.target.workloads
            if workload.shape in state.curves
        ]
        template = state.curves.get(tick.target.template.shape)
        models = tick.runtime.models.get(tick.target.template.shape)
        if template is None or models is None:  # emptied, and without a model for the present load
            return
        adopted = tick.draft.status.adopted
        fleets = static_fleets(
            template,
            adopted=tick.target.template.replicas if adopted is None else adopted.replicas,
            peak_rps=max(accounts.peak.peak_rps, rate_rps),
            least=tick.spec.replicas.min,
            most=tick.spec.replicas.max,
        )
        used = running_draw(running, rate_rps)
        accounts.predicted_power_w = used.power_w
        moment = moment_of(used, fleets, rate_rps, models.replica.released_w)
        bands = Bands(clock=models.replica.model.power.clock_band, level=level_band(models.replica.model))
        accounts.ledger.observe(now_s, moment, span, bands)
        self._compare(tick, accounts, span, now_s)

    async def _span(self, tick: Tick, accounts: Accounts, now_s: float) -> EnergySpan | None:
        """Measured joules since the last complete reading."""
        if self._metrics is None:
            return None
        holders = [pod["metadata"]["name"] for pod in tick.target.pods if pod["spec"].get("nodeName")]
        try:
            counters_j = await pod_energies_j(self._metrics, tick.runtime.namespace, accounts.meter.pods(holders))
        except MetricsUnavailable as error:
            _log.debug("service=%s energy=unknown error=%r", tick.runtime.key, str(error))
            counters_j = {}
        return accounts.meter.observe(now_s, counters_j, holders)

    @staticmethod
    def _compare(tick: Tick, accounts: Accounts, span: EnergySpan | None, now_s: float) -> None:
        """Let the switchback see this tick."""
        before_s, accounts.looked_s = accounts.looked_s, now_s
        if not tick.spec.evaluation.switchback_percent or before_s is None:
            return
        power_w = None
        if span is not None and span.energy_j is not None and span.end_s > span.start_s:
            power_w = span.energy_j / (span.end_s - span.start_s)
        accounts.trial.observe(
            schedule_of(tick),
            before_s,
            now_s,
            power_w=power_w,
            load=tick.runtime.load.present_rps,
            fleet=tuple((one.name, len(one.serving_pods)) for one in tick.target.workloads),
            clock_off=clock_is_off(tick, now_s),
        )


def schedule_of(tick: Tick) -> Schedule:
    """When the knob Clock is off so that what it saves can be measured."""
    return Schedule(tick.runtime.uid, tick.spec.evaluation.switchback_percent)


def clock_is_off(tick: Tick, now_s: float) -> bool:
    """Whether the GPUs are to run at their default clock now, for the sake of measuring; ``now_s`` is Unix time."""
    governs = tick.spec.mode is Mode.AUTO and Knob.CLOCK in tick.spec.knobs
    return governs and tick.spec.evaluation.switchback_percent > 0 and schedule_of(tick).at(now_s).clock_off
