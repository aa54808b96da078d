"""What ``dynawatt advise`` is told about a service: by a trace, or by Prometheus."""

import asyncio
import time
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from typing import Final

import numpy as np

from dynawatt.adapters.prometheus import open_prometheus
from dynawatt.adapters.prometheus_auth import PrometheusAuth
from dynawatt.adapters.prometheus_load import SLOT_S, RecordedLoad, read_load
from dynawatt.adapters.trace_workload import read_workload
from dynawatt.adapters.vllm_load.histograms import fraction_within
from dynawatt.adapters.vllm_services import VllmService, find_service
from dynawatt.errors import InvalidInputError, OperationError
from dynawatt.ports import MetricsUnavailable
from dynawatt.quantities import S_PER_HOUR
from dynawatt.simulation.advice.course import Counts
from dynawatt.simulation.advice.load import ServiceLoad, slot_widths
from dynawatt.workload.builtin import built_in
from dynawatt.workload.context import FitCount, fit_to_context
from dynawatt.workload.measuring import LoadMeter
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace

PRIOR: Final = "azure-2023-conv"
"""Whose burstiness a service is taken to have where its own is not known."""
ESTIMATED_MIX: Final = "joint mix estimated from marginal histograms"
_MIX_REQUESTS: Final = 4096
_HIT_STEP: Final = 0.05
"""Of the prefix cache's hit ratio: finer steps change no advice, and latency models are kept by it."""
_LONGEST_H: Final = 10 * 365 * 24


@dataclass(frozen=True, slots=True)
class MeasuredLatency:
    """What vLLM itself measured."""

    ttft_at_least: float
    ttft_at_most: float
    """Attainment: its histogram of first tokens knows no input lengths, so only bounds are certain."""
    tbt: float


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """A service's load and what came with it."""

    source: str
    load: ServiceLoad
    mix_source: str
    cv_source: str
    service: VllmService | None = None
    replicas: Counts | None = None
    """By slot."""
    kv_cache_tokens: int | None = None
    prefix_hit_ratio: float = 0.0
    latency: MeasuredLatency | None = None
    fit: FitCount = field(default_factory=FitCount)


@dataclass(frozen=True, slots=True)
class PrometheusOptions:
    """Which service, and how far back."""

    url: str
    hours: float
    selector: str = ""
    namespace: str | None = None
    service: str | None = None
    served_model: str | None = None
    auth: PrometheusAuth = field(default_factory=PrometheusAuth)


def observe_trace(path: Path, hours: float | None, context_tokens: int) -> Observed:
    """The last hours of a trace file, as a model with this context would be asked. Raises InvalidInputError."""
    workload = read_workload(path)
    if workload.span_s > _LONGEST_H * S_PER_HOUR:
        raise InvalidInputError(
            f"--trace {path}: lasts {workload.span_s / S_PER_HOUR:.3g} hours: must be at most ten years; TIMESTAMP is "
            "seconds, not milliseconds or nanoseconds, or a UTC time"
        )
    first_s = 0.0 if hours is None else max(0.0, workload.span_s - hours * S_PER_HOUR)
    widths_s = slot_widths(workload.span_s - first_s)
    counts, meter, fit = np.zeros(len(widths_s)), LoadMeter(), FitCount()
    for chunk in workload.chunks():
        late = chunk.arrival_s >= first_s
        cut = Trace(chunk.arrival_s[late] - first_s, chunk.input_tokens[late], chunk.output_tokens[late])
        kept, changed = fit_to_context(cut, context_tokens)
        meter.add(kept)
        fit += changed
        counts += np.bincount(np.minimum(kept.arrival_s / SLOT_S, len(counts) - 1).astype(int), minlength=len(counts))
    if not counts.any():
        raise InvalidInputError(
            f"--trace {path}: none of its requests fits a context of {context_tokens} tokens; take another model"
        )
    statistics = meter.result()
    unknown = isnan(statistics.interarrival_cv)
    return Observed(
        source=path.name,
        load=ServiceLoad(
            rate_rps=counts / widths_s,
            width_s=widths_s,
            mix=statistics.mix(_MIX_REQUESTS, 0),
            cv=statistics.burstiness,
        ),
        mix_source="of the trace's own requests",
        cv_source="too few requests to tell, taken for a Poisson process" if unknown else "measured",
        fit=fit,
    )


def observe_prometheus(options: PrometheusOptions, objectives: LatencyObjectives) -> Observed:
    """The last hours of a service. Raises InvalidInputError, and OperationError when Prometheus does not answer."""
    service, recorded = asyncio.run(_read(options))
    known = np.flatnonzero(np.isfinite(recorded.rate_rps))
    # A service that did not exist before, or is gone, has no load then; gaps between are gaps.
    span = slice(known[0], known[-1] + 1)
    if not np.nansum(recorded.rate_rps) > 0:
        raise InvalidInputError(
            f"no request of {service} finished in the last {options.hours:g} hours: look further back with --hours"
        )
    load = ServiceLoad(
        rate_rps=recorded.rate_rps[span],
        width_s=np.full(len(recorded.rate_rps[span]), float(SLOT_S)),
        mix=recorded.mix,
        cv=built_in(PRIOR).interarrival_cv,
        start_s=recorded.start_s + SLOT_S * int(known[0]),
    )
    return Observed(
        source="Prometheus",
        load=load,
        mix_source=ESTIMATED_MIX,
        cv_source=f"assumed, that of {PRIOR}: vLLM exports nothing that tells it",
        service=service,
        replicas=_replicas(recorded.replicas[span]),
        kv_cache_tokens=recorded.kv_cache_tokens,
        prefix_hit_ratio=round(recorded.prefix_hit_ratio / _HIT_STEP) * _HIT_STEP,
        latency=_measured(recorded, objectives),
    )


async def _read(options: PrometheusOptions) -> tuple[VllmService, RecordedLoad]:
    source = open_prometheus(options.url, options.auth, option="--prometheus", timeout_s=60.0)
    try:
        service = await find_service(
            source,
            window_s=round(options.hours * S_PER_HOUR),
            selector=options.selector,
            namespace=options.namespace,
            service=options.service,
            model=options.served_model,
        )
        return service, await read_load(source, service, hours=options.hours, now_s=time.time())
    except MetricsUnavailable as error:
        raise OperationError(str(error)) from error
    finally:
        await source.close()


def _replicas(counts: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> Counts | None:
    """By slot; one that is not known is as the last one that is, and at least one served whatever was served."""
    known = np.flatnonzero(np.isfinite(counts))
    if not len(known):
        return None
    last = np.maximum(0, np.searchsorted(known, np.arange(len(counts)), side="right") - 1)
    return np.maximum(1, counts[known[last]]).astype(np.int64)


def _measured(recorded: RecordedLoad, objectives: LatencyObjectives) -> MeasuredLatency | None:
    bounds_s = [objective_s for _, objective_s in objectives.ttft]
    tight, loose = (fraction_within(recorded.ttft, bound_s) for bound_s in (min(bounds_s), max(bounds_s)))
    tbt = fraction_within(recorded.tbt, objectives.tbt_s)
    return None if tight is None or loose is None or tbt is None else MeasuredLatency(tight, loose, tbt)
