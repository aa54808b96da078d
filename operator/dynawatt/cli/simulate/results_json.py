"""The result of ``dynawatt simulate`` as JSON; keys and their meaning are part of the command's interface."""

from collections.abc import Callable
from typing import Any

from dynawatt.cli.simulate.comparison import Comparison, Question
from dynawatt.simulation.class_attainment import Attained, ClassAttainment, class_attainments
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.results import PolicyResult


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Everything that was found out. Energies are J; what nothing can be said about is null."""
    return {
        "requests": comparison.results[0].requests,
        "hours": comparison.question.hours,
        "wall_s": round(sum(comparison.wall_s), 4),
        "policies": [
            _policy(comparison, result, wall_s)
            for result, wall_s in zip(comparison.results, comparison.wall_s, strict=True)
        ],
        "sizing_wall_s": round(comparison.sizing_wall_s, 4),
        "dropped_requests": comparison.fit.dropped,
        "clipped_requests": comparison.fit.clipped,
        "config": _config(comparison.question),
    }


def _policy(comparison: Comparison, result: PolicyResult, wall_s: float) -> dict[str, Any]:
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
        "wall_s": round(wall_s, 4),
        "shapes": [_shape(shape, result.initial_replicas(index)) for index, shape in enumerate(result.shapes)],
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
        "model": question.model,
        "gpu": question.gpu,
        "profile": question.profile,
        "slo": question.slo_text,
        "queue_order": question.queue_order,
        "servers": question.servers,
        "seed": question.seed,
    }


def _number(value: float | None) -> float | None:
    """JSON knows neither nan nor infinity."""
    return value if value is not None and abs(value) < float("inf") else None
