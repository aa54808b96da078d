"""The result of ``dynawatt simulate`` as JSON; keys and their meaning are part of the command's interface."""

from collections.abc import Callable
from typing import Any

from dynawatt.cli.simulate.comparison import Ablated, Comparison, PolicyRun, Question
from dynawatt.quantities import kwh
from dynawatt.simulation.class_attainment import Attained, ClassAttainment, class_attainments
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.policies.clairvoyant import Bound


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Everything that was found out. Energies are J; what nothing can be said about is null."""
    return {
        "requests": comparison.results[0].requests,
        "hours": comparison.question.hours,
        "wall_s": round(sum(run.wall_s for run in comparison.runs), 4),
        "policies": [_policy(comparison, run) for run in comparison.runs],
        "bounds": {name: _bound(comparison, bound) for name, bound in comparison.bounds.items()},
        "not_simulated": {refusal.name: refusal.reason for refusal in comparison.refusals},
        "ablations": [_ablated(each) for each in comparison.ablations],
        "sizing_wall_s": round(comparison.sizing_wall_s, 4),
        "dropped_requests": comparison.fit.dropped,
        "clipped_requests": comparison.fit.clipped,
        "config": _config(comparison.question),
    }


def _policy(comparison: Comparison, run: PolicyRun) -> dict[str, Any]:
    result = run.result
    tally = result.tally
    classes = class_attainments(tally)
    return {
        "name": result.name,
        "energy_off_j": result.energy_off_j,
        "energy_idling_j": result.energy_idling_j,
        "saving_vs_single_pool": comparison.saving(result),
        "attainment": {
            "ttft": _by_class(classes, lambda each: each.ttft, lambda attained: attained.share),
            "tbt": _by_class(classes, lambda each: each.tbt, lambda attained: attained.share),
            "ttft_all": tally.ttft_attainment(),
            "tbt_all": tally.tbt_attainment(),
        },
        "p50_ttft_s": _number(result.ttft_quantile_s(0.5)),
        "p99_ttft_s": _number(result.ttft_quantile_s(0.99)),
        "p50_tbt_s": _number(tally.tbt_quantile_s(0.5)),
        "p99_tbt_s": _number(tally.tbt_quantile_s(0.99)),
        "j_per_token": result.j_per_token,
        "gpu_hours": result.gpu_hours,
        "reconfigurations": result.reconfigurations,
        "unfinished_requests": result.unfinished_requests,
        "rejected_requests": int(tally.rejected),
        "slo_met": result.slo_met,
        "attainment_interval": {
            "ttft": _by_class(classes, lambda each: each.ttft, lambda attained: list(attained.interval)),
            "tbt": _by_class(classes, lambda each: each.tbt, lambda attained: list(attained.interval)),
        },
        "energy_by_cause_j": dict(zip(("prefill", "decode", "idle", "startup"), tally.energy_j.tolist(), strict=True)),
        "input_tokens": int(tally.input_tokens),
        "output_tokens": int(tally.output_tokens),
        "iterations": int(tally.iterations),
        "preemptions": int(tally.preemptions),
        "clock_changes": result.clock_changes,
        "refused_plans": result.refused_plans,
        "servers": result.servers,
        "duration_s": result.duration_s,
        "relative_to_single_pool": None if (saving := comparison.saving(result)) is None else 1 - saving,
        "kwh": kwh(result.energy_idling_j),
        "cost": None if comparison.tariff is None else comparison.tariff.cost(result.energy_idling_j),
        "carbon_g": None if comparison.tariff is None else comparison.tariff.carbon_g(result.energy_idling_j),
        "above_bound": comparison.above_bound(result),
        "above_bound_of_own_order": comparison.above_own_bound(result),
        "build_wall_s": round(run.build_s, 4),
        "wall_s": round(run.wall_s, 4),
        "shapes": [_shape(shape, result.initial_replicas(index)) for index, shape in enumerate(result.shapes)],
    }


def _bound(comparison: Comparison, bound: Bound) -> dict[str, Any]:
    return {
        "queue_order": bound.order.value,
        "energy_idling_j": bound.energy_idling_j,
        "energy_off_j": bound.energy_off_j,
        "saving_vs_single_pool": comparison.bound_saving(bound),
        "one_fleet_per_slot_idling_j": bound.plan_idling_j,
        "overloaded_slots": bound.overloaded_slots,
    }


def _ablated(ablated: Ablated) -> dict[str, Any]:
    found: dict[str, Any] = {
        "group": ablated.group,
        "name": ablated.name,
        "relative_to_single_pool": ablated.to_single_pool,
        "j_per_token_relative_to_unablated": ablated.to_unablated,
        "reason": ablated.reason,
    }
    if (result := ablated.result) is None:
        return found
    return found | {
        "policy": result.name,
        "servers": result.servers,
        "energy_idling_j": result.energy_idling_j,
        "energy_off_j": result.energy_off_j,
        "j_per_token": result.j_per_token,
        "ttft_all": result.tally.ttft_attainment(),
        "tbt_all": result.tally.tbt_attainment(),
        "slo_met": result.slo_met,
        "reconfigurations": result.reconfigurations,
        "unfinished_requests": result.unfinished_requests,
    }


def _by_class(
    classes: tuple[ClassAttainment, ...],
    kind: Callable[[ClassAttainment], Attained | None],
    value: Callable[[Attained], object],
) -> dict[str, object]:
    """By class name; null for a class with too few samples to say."""
    return {each.name: None if (found := kind(each)) is None else value(found) for each in classes}


def _shape(shape: ReplicaShape, replicas: int) -> dict[str, Any]:
    settings = shape.settings
    return {
        "tensor_parallel": shape.replica.tensor_parallel,
        "max_num_batched_tokens": settings.max_num_batched_tokens,
        "max_num_seqs": settings.max_num_seqs,
        "queue_order": settings.queue_order.value,
        "replicas_at_start": replicas,
    }


def _config(question: Question) -> dict[str, Any]:
    return {
        "load": question.load,
        "rate_scale": question.rate_scale,
        "interarrival_cv": question.interarrival_cv,
        "model": question.model,
        "gpu": question.gpu,
        "profile": question.profile,
        "slo": question.slo_text,
        "queue_order": question.queue_order,
        "servers": question.servers,
        "seed": question.seed,
        "fidelity": question.fidelity.value,
        "cold_start": question.cold_start,
        "predictor_accuracy": question.predictor_accuracy,
        "startup_s": question.startup_s,
        "released_gpu_w": question.released_w,
        "input_cuts": list(question.class_cuts[0]),
        "output_cuts": list(question.class_cuts[1]),
    }


def _number(value: float | None) -> float | None:
    """JSON knows neither nan nor infinity."""
    return value if value is not None and abs(value) < float("inf") else None
