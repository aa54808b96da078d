"""What the demo runs: the load, and the static fleet that the state of practice would run it on.

Sizing rule of the static fleet: highest tensor parallelism (a whole node),
default clock, as many replicas as the load's peak minute needs to meet the SLO;
one more for as long as replaying the load on it misses the SLO.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import yaml

from dynawatt.adapters.engine_settings import engine_settings
from dynawatt.adapters.objectives import latency_objectives
from dynawatt.adapters.profile_files import find_replica
from dynawatt.adapters.trace_files import read_trace
from dynawatt.adapters.vllm_args import find_vllm_container, vllm_settings
from dynawatt.api.llmservice import LLMServiceSpec
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.profile import ReplicaProfile
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.settings import EngineSettings
from dynawatt.simulation.sizing import Demand, capacity_rps
from dynawatt.simulation.static_fleet import StaticRun, replay_static
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.synthetic import rising_and_falling
from dynawatt.workload.trace import ScaleMode, Trace

GPU: Final = "h100-sxm"
GPUS_PER_NODE: Final = 8
_REPLICAS: Final = 1
"""Replicas that the load is scaled to need at its peak."""
_PEAK_WINDOW_S: Final = 60.0
"""The peak minute; of a load shorter than four minutes, its peak quarter."""
_TROUGH: Final = 0.25
"""Lowest rate of the synthetic load as a share of its peak."""
_MAX_NODES: Final = 16
_FEWEST_REQUESTS: Final = 100
"""A trace with fewer says nothing about a load, and cannot be scaled to one."""


class TraceFit(StrEnum):
    """How a trace of any length and rate becomes a few minutes of load."""

    TIMELAPSE = "timelapse"
    """The whole trace in fast motion, thinned at random to the wanted rate: keeps how the load rises and falls."""
    SUPERPOSE = "superpose"
    """The first minutes, with time-shifted copies of the trace on top: flattens it."""
    COMPRESS = "compress"
    """As much of the trace as gives the wanted rate when time is compressed: keeps its burstiness."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Load, service and static fleet."""

    trace: Trace
    source: str
    """Where the load comes from, for people."""
    manifests: list[dict[str, Any]]
    llmservice: dict[str, Any]
    model: str
    models: ReplicaProfile
    settings: EngineSettings
    objectives: LatencyObjectives
    attainment: float
    replicas: int
    """Of the static fleet, which is also what the Deployment starts with."""
    capacity_rps: float
    """One replica at the default clock within the SLO."""

    @property
    def nodes(self) -> int:
        """GPU nodes of the sandbox: one per static replica, and one to spare, without which no shape can change."""
        return max(_REPLICAS, self.replicas) + 1

    @property
    def gpus(self) -> int:
        """GPUs of the inventory, charged to both sides."""
        return self.nodes * GPUS_PER_NODE

    def replay_static(self, horizon_s: float) -> StaticRun:
        """The load on the static fleet at the default clock."""
        return replay_static(
            self.trace,
            ReplicaShape(self.models, self.settings),
            replicas=self.replicas,
            clock_mhz=self.models.gpu.default_clock_mhz,
            objectives=self.objectives,
            horizon_s=horizon_s,
        )

    def baseline_energy_j(self, static: StaticRun, duration_s: float) -> float:
        """Energy of the whole inventory with the static fleet: GPUs that no pod requests idle."""
        released = self.gpus - self.replicas * self.models.tensor_parallel
        return static.energy_j + released * self.models.released_w * duration_s


def load_scenario(
    trace_file: Path | None,
    *,
    duration_s: float,
    rate_scale: float | None,
    fit: TraceFit,
    start_offset_s: float,
    seed: int,
) -> Scenario:
    """Read the load and size the static fleet. Raises InvalidInputError."""
    recorded = None if trace_file is None else read_trace(trace_file)
    examples = files("dynawatt") / "examples"
    manifests = list(yaml.safe_load_all((examples / "vllm.yaml").read_text(encoding="utf-8")))
    llmservice = yaml.safe_load((examples / "llmservice.yaml").read_text(encoding="utf-8"))
    deployment = next(manifest for manifest in manifests if manifest["kind"] == "Deployment")
    vllm = vllm_settings(find_vllm_container(deployment["spec"]["template"]["spec"]))
    models = find_replica(vllm.model, GPU, vllm.tensor_parallel_size, quantization=vllm.quantization, dtype=vllm.dtype)
    settings = engine_settings(vllm, models)
    spec = LLMServiceSpec.parse(llmservice["spec"])
    objectives = latency_objectives(spec.slo)
    attainment = spec.slo.attainment_target

    if recorded is not None:
        context_tokens = vllm.max_model_len or models.model.architecture.context_tokens
        _check_fits(recorded, trace_file, min(context_tokens, models.kv_capacity_tokens))
    shape = recorded or rising_and_falling(duration_s=duration_s, trough_rps=5.0, peak_rps=20.0, seed=seed)
    replica_rps = _capacity_rps(models, settings, shape, objectives, attainment)
    # Half a replica under the boundary: fleets of whole replicas have so much to spare at their peak on average.
    wanted_peak_rps = (_REPLICAS - 0.5) * replica_rps
    if recorded is None:
        peak_rps = wanted_peak_rps * (rate_scale or 1.0)
        trace = rising_and_falling(duration_s=duration_s, trough_rps=_TROUGH * peak_rps, peak_rps=peak_rps, seed=seed)
        source = f"synthetic load, {_TROUGH * peak_rps:.0f} to {peak_rps:.0f} req/s"
    else:
        trace = _scaled(
            recorded,
            wanted_peak_rps=wanted_peak_rps,
            rate_scale=rate_scale,
            fit=fit,
            start_offset_s=start_offset_s,
            duration_s=duration_s,
            seed=seed,
        )
        source = f"{trace_file}, {trace.mean_rps:.1f} req/s on average"
    scenario = Scenario(
        trace=trace,
        source=source,
        manifests=manifests,
        llmservice=llmservice,
        model=vllm.served_model_name,
        models=models,
        settings=settings,
        objectives=objectives,
        attainment=attainment,
        replicas=_static_replicas(
            trace,
            models=models,
            settings=settings,
            objectives=objectives,
            attainment=attainment,
            capacity_rps=replica_rps,
        ),
        capacity_rps=replica_rps,
    )
    deployment["spec"]["replicas"] = scenario.replicas
    limits = llmservice["spec"]["replicas"]
    limits["max"] = max(limits["max"], scenario.nodes)
    return scenario


def _check_fits(trace: Trace, file: Path | None, most_tokens: int) -> None:
    """Raises InvalidInputError for a trace that vLLM would refuse a request of, or that cannot be scaled."""
    tokens = trace.input_tokens + trace.output_tokens
    if tokens.max() > most_tokens:
        raise InvalidInputError(
            f"--trace {file}: request {int(tokens.argmax()) + 1} has {tokens.max()} tokens; "
            f"the model takes {most_tokens} for input and output together"
        )
    if len(trace) < _FEWEST_REQUESTS or trace.span_s < _PEAK_WINDOW_S:
        raise InvalidInputError(
            f"--trace {file}: has {len(trace)} requests in {trace.span_s:g} s; "
            f"give at least {_FEWEST_REQUESTS} in {_PEAK_WINDOW_S:g} s"
        )


def _capacity_rps(
    models: ReplicaProfile, settings: EngineSettings, trace: Trace, objectives: LatencyObjectives, attainment: float
) -> float:
    mix = LengthMix(trace.input_tokens, trace.output_tokens)
    # In fast motion, or superposed, requests come at random: CV 1.
    found_rps = capacity_rps(models, settings, Demand(mix, 1.0, objectives, attainment))
    if found_rps <= 0:
        raise InvalidInputError(
            "the trace's requests cannot meet the SLO of examples/llmservice.yaml even alone on a replica: "
            "use a trace with shorter inputs"
        )
    return found_rps


def _scaled(
    recorded: Trace,
    *,
    wanted_peak_rps: float,
    rate_scale: float | None,
    fit: TraceFit,
    start_offset_s: float,
    duration_s: float,
    seed: int,
) -> Trace:
    """The load made from a trace, with the wanted rate in its peak minute unless a scale is given."""
    if fit is TraceFit.TIMELAPSE:
        part = recorded.excerpt(start_s=start_offset_s)
        part = replace(part, arrival_s=part.arrival_s * (duration_s / max(part.span_s, 1e-9)))
        return part.superpose(rate_scale or wanted_peak_rps / part.peak_rps(_peak_window_s(duration_s)), seed)

    def excerpt(scale: float) -> Trace:
        return recorded.excerpt(
            rate_scale=scale, mode=ScaleMode(fit), start_s=start_offset_s, duration_s=duration_s, seed=seed
        )

    if rate_scale is not None:
        return excerpt(rate_scale)
    # Compressed, more of the trace falls into the peak minute than at first: hence twice.
    scale = wanted_peak_rps / excerpt(1.0).peak_rps(_peak_window_s(duration_s))
    return excerpt(scale * wanted_peak_rps / excerpt(scale).peak_rps(_peak_window_s(duration_s)))


def _peak_window_s(duration_s: float) -> float:
    return min(_PEAK_WINDOW_S, duration_s / 4)


def _static_replicas(
    trace: Trace,
    *,
    models: ReplicaProfile,
    settings: EngineSettings,
    objectives: LatencyObjectives,
    attainment: float,
    capacity_rps: float,
) -> int:
    replicas = max(1, math.ceil(trace.peak_rps(_peak_window_s(trace.span_s)) / capacity_rps))
    shape = ReplicaShape(models, settings)
    while replicas <= _MAX_NODES:
        clock_mhz = models.gpu.default_clock_mhz
        run = replay_static(trace, shape, replicas=replicas, clock_mhz=clock_mhz, objectives=objectives)
        if run.attainment >= attainment:
            return replicas
        replicas += 1
    raise InvalidInputError(
        f"the load needs more than {_MAX_NODES} nodes of {GPUS_PER_NODE} GPUs: choose a lower --rate-scale"
    )
