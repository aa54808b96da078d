"""One finished tick as the operator's metrics show it."""

import time

from dynawatt.accounting.ledger import Source
from dynawatt.adapters.vllm_load.histograms import fraction_within
from dynawatt.api.conditions import ConditionType
from dynawatt.api.llmservice import SLO, LLMServiceSpec, Mode
from dynawatt.controller.attaining import ALL_INPUTS, input_classes, ttft_bounds
from dynawatt.controller.draft import StatusDraft
from dynawatt.controller.metrics.figures import Attainment, Objective, ReplicaState, ServiceFigures
from dynawatt.controller.runtime import ServiceRuntime


def figures_of(runtime: ServiceRuntime, spec: LLMServiceSpec | None, draft: StatusDraft) -> ServiceFigures:
    """What is known after a tick, whether it acted or held; ``spec`` is None when it could not be read."""
    state, plan, accounts, load = runtime.state, runtime.plan, runtime.accounts, runtime.observed
    percent = 0 if spec is None else spec.evaluation.switchback_percent
    plans = spec is None or spec.mode is not Mode.OFF
    expected_rps = high_rps = None
    if state is not None and runtime.planned_for is not None:
        demand = runtime.planned_for.demand
        slot = min(int((time.monotonic() - runtime.planned_s) / demand.slot_s), len(demand.expected_rps) - 1)
        expected_rps, high_rps = float(demand.expected_rps[slot]), float(demand.high_rps[slot])
    shown = {f"tp{shape.tensor_parallel_size}" for shape in draft.status.shapes}
    return ServiceFigures(
        desired_replicas=None if plan is None else plan.replicas,
        holds_desired=plans,
        observed_rps=None if state is None else runtime.load.present_rps,
        expected_rps=expected_rps,
        high_rps=high_rps,
        predicted_power_w=None if state is None else accounts.predicted_power_w,
        measured_power_w=None if state is None else accounts.measured_power_w,
        replicas={
            (f"tp{shape.tensor_parallel_size}", kind): count
            for shape in draft.status.shapes
            for kind, count in (
                (ReplicaState.DESIRED, shape.desired_replicas),
                (ReplicaState.READY, shape.ready_replicas),
            )
        },
        conditions={ConditionType(one.type): one.status for one in draft.status.conditions},
        attainments=_attainments(runtime, spec),
        ttft_bounds={} if load is None or spec is None or state is None else ttft_bounds(spec.slo, load),
        slo_target=None if spec is None else spec.slo.attainment_target,
        objectives_s={} if spec is None else _objectives_s(spec.slo),
        pods=runtime.pods,
        calibration={
            (name, kind): factor
            for name, models in runtime.models.items()
            if name in shown
            for kind, factor in (("time", models.replica.time_factor), ("power", models.replica.power_factor))
        },
        savings=accounts.ledger.savings,
        used_j=accounts.ledger.used_j,
        overloaded_s=accounts.ledger.overloaded_s,
        clock_saving=None if plan is None or not plan.energy_j else plan.saving_to_default_clock,
        switchback=accounts.trial.saving if percent else None,
        switchback_pairs=accounts.trial.pairs if percent else None,
    )


def _objectives_s(slo: SLO) -> dict[tuple[Objective, str], float]:
    ttft = {(Objective.TTFT, inputs): objective_s for inputs, objective_s in input_classes(slo).items()}
    return {(Objective.TBT, ALL_INPUTS): slo.tbt_objective_s, **ttft}


def _attainments(runtime: ServiceRuntime, spec: LLMServiceSpec | None) -> dict[Objective, Attainment]:
    """As far as vLLM's histograms tell: TTFT only where one objective holds for all lengths."""
    load = runtime.observed
    if load is None or spec is None or runtime.state is None:
        return {}
    found = {}
    tbt = fraction_within(load.tbt, spec.slo.tbt_objective_s)
    if tbt is not None:
        found[Objective.TBT] = Attainment(tbt, Source.MEASURED)
    objectives = spec.slo.ttft_objectives_s
    ttft = fraction_within(load.ttft, objectives[0][1]) if len(objectives) == 1 else None
    if ttft is not None:
        found[Objective.TTFT] = Attainment(ttft, Source.MEASURED)
    return found
