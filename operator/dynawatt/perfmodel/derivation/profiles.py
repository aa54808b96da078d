"""A whole profile from measured operations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.architecture import Architecture
from dynawatt.perfmodel.catalog import profile_name
from dynawatt.perfmodel.derivation.closed_loop import ClosedLoopRow
from dynawatt.perfmodel.derivation.held_out import held_out_residuals
from dynawatt.perfmodel.derivation.measured import MeasuredModel
from dynawatt.perfmodel.derivation.overhead import EngineOverhead, mean_step_s
from dynawatt.perfmodel.derivation.shape import derive_shape, with_overhead
from dynawatt.perfmodel.derivation.weights import weight_bytes
from dynawatt.perfmodel.gpus import GpuSpec
from dynawatt.perfmodel.power import PowerCalibration
from dynawatt.perfmodel.power_fit import residual
from dynawatt.perfmodel.profile import ModelProfile, ReplicaProfile, Residual

TENSOR_PARALLEL_SIZES: Final = (1, 2, 4, 8)
_LEAST_KV_TOKENS: Final = 8192
"""A replica that can hold less serves no long prompt: its weights count as not fitting."""
_LOAD_BYTES_PER_S: Final = 2e9
_START_S: Final = 120.0
"""Processes, compilation and CUDA graphs, before any weights; a round figure."""

STARTUP_PROVENANCE: Final = "start-up time assumed: 120 s, and weights read at 2 GB/s"


def startup_s(weights: float) -> float:
    """Seconds from the creation of a pod to Ready, with weights of so many bytes on local disk."""
    return _START_S + weights / _LOAD_BYTES_PER_S


@dataclass(frozen=True, slots=True)
class Subject:
    """What a profile is of."""

    architecture: Architecture
    precision: str
    gpu: GpuSpec

    @property
    def name(self) -> str:
        """The profile's."""
        return profile_name(self.architecture.name, self.precision, self.gpu.name)


def derive_profile(
    subject: Subject,
    measured: Callable[[int], MeasuredModel],
    power: PowerCalibration,
    dataset: str,
    provenance: Sequence[str],
) -> ModelProfile:
    """The profile at all degrees where the weights fit, without the engine's overhead.

    Args:
        subject: what to derive.
        measured: operations at a tensor-parallel degree; raises InvalidInputError where nothing was measured.
        power: calibration of the GPU in this precision.
        dataset: name of the measured operations, for the residuals.
        provenance: where they come from, one sentence each.

    Raises InvalidInputError when no degree fits or nothing was measured.
    """
    weights = weight_bytes(subject.architecture, subject.precision)
    profile = ModelProfile(
        name=subject.name,
        architecture=subject.architecture,
        precision=subject.precision,
        gpu=subject.gpu,
        weight_bytes=weights,
        power=power.coefficients,
        shapes={},
        startup_s=startup_s(weights),
        provenance=(*provenance, *power.provenance),
        residuals=(),
    )
    problems: list[str] = []
    residuals: list[Residual] = []
    for size in TENSOR_PARALLEL_SIZES:
        capacity = ReplicaProfile(profile, size).kv_capacity_tokens
        if capacity < _LEAST_KV_TOKENS:
            continue
        try:
            operations = measured(size)
            shape = derive_shape(operations, subject.architecture, subject.gpu, size, capacity).coefficients
        except InvalidInputError as error:
            problems.append(str(error))
            continue
        profile = replace(profile, shapes={**profile.shapes, size: shape})
        replica = profile.replica(size).at_clock(subject.gpu.default_clock_mhz)
        residuals += held_out_residuals(
            replica, operations, capacity, subject.architecture.context_tokens, f"{dataset}, TP {size}"
        )
    if not profile.shapes:
        raise InvalidInputError(problems[0] if problems else f"{subject.name}: the weights fit at no degree up to 8")
    return replace(profile, residuals=(*residuals, *power.residuals_of(subject.architecture)))


def apply_overhead(profile: ModelProfile, overhead: EngineOverhead, provenance: str) -> ModelProfile:
    """The profile with the engine's own time."""
    shapes = {
        size: with_overhead(shape, overhead.iteration_overhead_s(size), overhead.request_s)
        for size, shape in profile.shapes.items()
    }
    return replace(profile, shapes=shapes, provenance=(*profile.provenance, provenance))


def closed_loop_residual(
    profile: ModelProfile,
    rows: Sequence[ClosedLoopRow],
    prompt_tokens: float,
    dataset: str,
    *,
    held_out: bool,
) -> tuple[Residual, ...]:
    """Error of the mean step over those rows that the profile covers; none for no such row."""
    covered = [row for row in rows if row.tensor_parallel in profile.shapes]
    if not covered:
        return ()
    clock_mhz = profile.gpu.default_clock_mhz
    modelled = [
        mean_step_s(profile.replica(row.tensor_parallel).at_clock(clock_mhz), row, prompt_tokens) for row in covered
    ]
    steps = np.array([row.step_s for row in covered])
    return (residual(dataset, "mean_step", np.array(modelled), steps, held_out=held_out),)
