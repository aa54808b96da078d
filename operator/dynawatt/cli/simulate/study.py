"""Builds the study of a comparison: the load at its final rate, the tuned static fleet, inventory and history."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from dynawatt.adapters.engine_settings import engine_settings
from dynawatt.adapters.vllm_args import VllmSettings, default_max_num_batched_tokens, default_max_num_seqs
from dynawatt.cli.simulate.loads import Load
from dynawatt.cli.simulate.options import Slo
from dynawatt.cli.simulate.scaling import scale_to
from dynawatt.cli.simulate.slot_counts import LoadCounts, calendar_of, count_load, week_before
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.profile import ReplicaProfile
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.inventory import GPUS_PER_SERVER, servers_for
from dynawatt.simulation.settings import EngineSettings, QueueOrder
from dynawatt.simulation.static_sizing import static_replicas
from dynawatt.simulation.study import Knobs, Study, SurfaceSource
from dynawatt.workload.classes import LengthClasses


@dataclass(frozen=True, slots=True)
class StudyOptions:
    """What the user fixed; None is left to simulation."""

    replicas: int | None = None
    """Of every static fleet."""
    chunk: int | None = None
    """``max_num_batched_tokens`` of the tuned static fleet."""
    queue_order: QueueOrder = QueueOrder.FCFS
    """Of the tuned static fleet."""
    servers: int | None = None
    peak_servers: int | None = None
    startup_s: float | None = None
    predictor_accuracy: float = 0.81
    cold_start: bool = False
    classes: LengthClasses = LengthClasses()  # noqa: RUF009 (frozen)
    knobs: Knobs = Knobs()  # noqa: RUF009 (frozen)

    def __post_init__(self) -> None:
        """Check what excludes each other. Raises InvalidInputError."""
        if self.peak_servers is not None and self.replicas is not None:
            raise InvalidInputError("--peak-servers and --replicas both size the static fleet: give one of them")


@dataclass(frozen=True, slots=True)
class PreparedStudy:
    """A study and what people want to know about it."""

    study: Study
    counts: LoadCounts
    servers_rule: str
    """Where the inventory comes from."""
    wall_s: float
    """What finding it out took, surfaces aside."""


def build_study(
    load: Load,
    slo: Slo,
    replicas: Mapping[int, ReplicaProfile],
    tensor_parallel: int,
    surfaces: SurfaceSource,
    options: StudyOptions | None = None,
) -> PreparedStudy:
    """Prepare a comparison; scales the load when its size is given in servers.

    Args:
        load: What arrives.
        slo: What it is held against.
        replicas: Profiles by tensor-parallel degree.
        tensor_parallel: Of static fleets.
        surfaces: Where policies get theirs.
        options: What the user fixed.

    Raises InvalidInputError when the options contradict each other, the profile does not cover them, or no fleet meets
    the SLO.
    """
    begin_s = time.perf_counter()
    options = options or StudyOptions()
    rates = load.statistics()
    study = Study(
        profiles=replicas,
        base_settings=vllm_flags,
        tensor_parallel=tensor_parallel,
        mix=load.mix(),
        cv=rates.interarrival_cv,
        objectives=slo.objectives,
        fraction=slo.fraction,
        peak_rps=rates.peak_rps,
        surfaces=surfaces,
        static_replicas=options.replicas,
        classes=options.classes,
        calendar=calendar_of(load.workload.name),
        predictor_accuracy=options.predictor_accuracy,
        startup_s=options.startup_s,
        knobs=options.knobs,
    )
    shape = _tuned(study, options)
    count = options.replicas
    if options.peak_servers is not None:
        count = options.peak_servers * (GPUS_PER_SERVER // tensor_parallel)
        counts = scale_to(study, load, shape, count)
    else:
        counts = count_load(load, options.classes)
    _see_load(study, load, counts)
    study.single_settings = shape.settings
    study.single_replicas = static_replicas(study, shape) if count is None else count
    study.history = None if options.cold_start else week_before(load, counts, study)
    study.future = counts.future
    needed = servers_for(study.single_replicas, tensor_parallel)
    if options.servers is not None and options.servers < needed:
        raise InvalidInputError(f"--servers {options.servers}: the tuned static fleet needs {needed}")
    study.servers = options.servers or needed
    rule = "what the tuned static fleet needs" if options.servers is None else "as given"
    return PreparedStudy(study, counts, rule, time.perf_counter() - begin_s)


def vllm_flags(replica: ReplicaProfile, order: QueueOrder, chunk: int | None = None) -> EngineSettings:
    """Engine settings with this prefill chunk, or vLLM's own. Raises InvalidInputError outside the profile.

    ``max_num_seqs`` is vLLM's own, or as high as the profile goes: that of an older engine ends below vLLM's default.
    """
    seqs = default_max_num_seqs(replica.gpu, chunk or default_max_num_batched_tokens(replica.gpu))
    vllm = VllmSettings(
        replica.model.architecture.name,
        (),
        max_num_batched_tokens=chunk,
        max_num_seqs=min(seqs, replica.max_decode_requests),
    )
    return replace(engine_settings(vllm, replica), queue_order=order)


def _tuned(study: Study, options: StudyOptions) -> ReplicaShape:
    """The tuned static fleet's shape: with the given prefill chunk, or with the one that carries most."""
    replica = study.profiles[study.tensor_parallel]
    if options.chunk is not None:
        return ReplicaShape(replica, vllm_flags(replica, options.queue_order, options.chunk))
    shape = study.tuned(study.tensor_parallel, options.queue_order)
    if shape is None:
        raise InvalidInputError(
            f"SLO of {study.fraction:.1%}: a replica of {replica.name} misses it under any load; "
            "loosen the objectives or choose more GPUs per replica"
        )
    return shape


def _see_load(study: Study, load: Load, counts: LoadCounts) -> None:
    """Take over what the load is like at its present rate."""
    rates = load.statistics()
    study.peak_rps, study.cv, study.busiest = rates.peak_rps, rates.interarrival_cv, counts.busiest
    if counts.busiest is None:
        raise InvalidInputError(
            f"no request of {load.workload.name} is left at rate scale {load.rate_scale:.3g}: scale it up, or take "
            "more hours"
        )
