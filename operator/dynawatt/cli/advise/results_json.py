"""The same advice as JSON, units in the names."""

from dataclasses import asdict
from typing import Any

from dynawatt.cli.advise.report import Report
from dynawatt.quantities import kwh
from dynawatt.simulation.advice.rungs import Rung
from dynawatt.simulation.fleet_core import ReplicaShape


def to_json(report: Report, wall_s: float) -> dict[str, Any]:
    """Everything on the page, and more digits."""
    advice, observed = report.advice, report.observed
    load = observed.load
    return {
        "service": {
            "source": observed.source,
            "selector": None if observed.service is None else observed.service.selector,
            "model": report.replica.model.architecture.name,
            "profile": report.replica.model.name,
            "gpu": report.replica.gpu.name,
            "deployment": report.deployment,
        },
        "slo": report.slo_text,
        "load": {
            "requests": load.requests,
            "known_s": load.known_s,
            "span_s": float(load.width_s.sum()),
            "mean_rps": load.mean_rps,
            "peak_rps": load.peak_rps,
            "mean_input_tokens": load.mix.mean_input_tokens,
            "mean_output_tokens": load.mix.mean_output_tokens,
            "mix_source": observed.mix_source,
            "interarrival_cv": load.cv,
            "interarrival_cv_source": observed.cv_source,
            "prefix_hit_ratio": observed.prefix_hit_ratio,
        },
        "measured_latency": None if observed.latency is None else asdict(observed.latency),
        "present_misses_slo": report.misses_slo,
        "inventory_gpus": advice.inventory_gpus,
        "capacity_rps_per_replica": {"before": advice.flags.before_rps, "after": advice.flags.after_rps},
        "rungs": [_rung(report, rung) for rung in advice.rungs],
        "needs_the_plugin": None if advice.urgent_first is None else _rung(report, advice.urgent_first, real=False),
        "tensor_parallel_that_misses_the_slo": list(advice.refused),
        "measured": report.measured(),
        "assumed": report.assumed(),
        "wall_s": round(wall_s, 2),
    }


def _rung(report: Report, rung: Rung, *, real: bool = True) -> dict[str, Any]:
    cost, load = rung.cost, report.advice.load
    known = load.known
    replicas, clocks = rung.course.replicas[known], rung.course.clock_mhz[known]
    return {
        "name": rung.step.value,
        "shape": _shape(rung.course.model.shape),
        "replicas": {"min": int(replicas.min()), "max": int(replicas.max()), "mean": float(replicas.mean())},
        "clock_mhz": {"min": int(clocks.min()), "max": int(clocks.max()), "mean": float(clocks.mean())},
        "most_gpus": cost.most_gpus,
        "power_w": cost.energy_j / load.known_s,
        "energy_kwh_per_day": load.per_day(kwh(cost.energy_j)),
        "energy_off_kwh_per_day": load.per_day(kwh(cost.energy_off_j)),
        "saving": rung.saving.share,
        "saving_band": [rung.saving.low, rung.saving.high],
        "ttft_attainment": cost.ttft_attainment,
        "tbt_attainment": cost.tbt_attainment,
        "worst_slot_attainment": cost.worst_attainment,
        "meets_slo": report.meets(rung),
        "worthwhile": real and rung is not report.advice.present and report.is_worthwhile(rung),
        "vllm_flags": report.flags(rung),
        "llmservice": report.resource(rung) if real else None,
    }


def _shape(shape: ReplicaShape) -> dict[str, Any]:
    settings = shape.settings
    return {
        "tensor_parallel": shape.replica.tensor_parallel,
        "max_num_batched_tokens": settings.max_num_batched_tokens,
        "max_num_seqs": settings.max_num_seqs,
        "long_prefill_token_threshold": settings.long_prefill_token_threshold,
        "queue_order": settings.queue_order.value,
    }
