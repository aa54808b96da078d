"""The one place where a ModelProfile document becomes the pure Python object, and back."""

from typing import Any, Final

from dynawatt.api.group import API_VERSION, MODELPROFILE_KIND
from dynawatt.api.model_profile import (
    ArchitectureSpec,
    GpuRef,
    ModelProfileDocument,
    ModelProfileSpec,
    PowerSpec,
    ProfileMetadata,
    ResidualSpec,
    ShapeSpec,
    StepSpec,
    WorkSpec,
)
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.architecture import Architecture
from dynawatt.perfmodel.gpus import GpuSpec, gpu_by_name
from dynawatt.perfmodel.profile import (
    ModelProfile,
    PowerCoefficients,
    Residual,
    ShapeCoefficients,
    StepCoefficients,
    WorkCoefficients,
)

_SIGNIFICANT_DIGITS: Final = 7
"""Far finer than any residual, and a file that people can read."""


def profile_of(document: ModelProfileDocument) -> ModelProfile:
    """The pure object. Raises InvalidInputError when the GPU is not known, or known with other clocks."""
    spec, power = document.spec, document.spec.power
    return ModelProfile(
        name=document.metadata.name,
        # Same names on both sides.
        architecture=Architecture(**spec.architecture.model_dump()),
        precision=spec.precision,
        gpu=_gpu(spec.gpu),
        weight_bytes=spec.weight_bytes,
        power=PowerCoefficients(
            j_per_byte=power.joules_per_byte,
            j_per_context_byte=power.joules_per_context_byte,
            byte_core_share=power.byte_core_share,
            j_per_flop=power.joules_per_flop,
            j_per_link_byte=power.joules_per_link_byte,
            j_per_logit=power.joules_per_logit,
            active_static_w=power.active_static_watts,
            active_clocked_w=power.active_clocked_watts,
            clock_band=power.clock_band,
        ),
        shapes={
            shape.tensor_parallel_size: ShapeCoefficients(_step(shape.step), _work(shape.work)) for shape in spec.shapes
        },
        startup_s=spec.start_up_seconds,
        provenance=spec.provenance,
        residuals=tuple(Residual(**residual.model_dump()) for residual in spec.residuals),
    )


def _gpu(reference: GpuRef) -> GpuSpec:
    gpu = gpu_by_name(reference.name)
    known = _gpu_ref(gpu)
    if reference != known:
        raise InvalidInputError(
            f"spec.gpu: clocks {reference.min_megahertz} to {reference.max_megahertz} in steps of "
            f"{reference.step_megahertz} MHz: must be {known.min_megahertz} to {known.max_megahertz} in steps of "
            f"{known.step_megahertz} MHz, as of {gpu.name}; derive the profile again"
        )
    return gpu


def _step(step: StepSpec) -> StepCoefficients:
    return StepCoefficients(
        reference_clock_mhz=step.reference_clock_megahertz,
        overlap_norm=step.overlap_norm,
        tokens=step.tokens,
        memory_s=step.memory_seconds,
        compute_s=step.compute_seconds,
        communication_s=step.communication_seconds,
        requests=step.requests,
        attention_s=step.attention_seconds,
        attention_context_s=step.attention_seconds_per_context_token,
        attention_compute_share=step.attention_compute_share,
        pair_s=step.seconds_per_pair,
        iteration_overhead_s=step.iteration_overhead_seconds,
        request_overhead_s=step.request_overhead_seconds,
    )


def _work(work: WorkSpec) -> WorkCoefficients:
    return WorkCoefficients(
        flops=work.flops,
        bytes=work.bytes,
        link_bytes=work.link_bytes,
        context_bytes=work.bytes_per_context_token,
        context_flops=work.flops_per_context_token,
        pair_flops=work.flops_per_pair,
    )


def document_of(profile: ModelProfile) -> ModelProfileDocument:
    """The document, its numbers rounded to seven digits. Raises pydantic.ValidationError outside the bounds."""
    power = profile.power
    spec = ModelProfileSpec(
        architecture=ArchitectureSpec.model_validate(profile.architecture, from_attributes=True),
        precision=profile.precision,
        gpu=_gpu_ref(profile.gpu),
        weight_bytes=profile.weight_bytes,
        start_up_seconds=profile.startup_s,
        provenance=profile.provenance,
        residuals=tuple(
            ResidualSpec.model_validate(residual, from_attributes=True, by_name=True) for residual in profile.residuals
        ),
        power=PowerSpec(
            joules_per_byte=power.j_per_byte,
            joules_per_context_byte=power.j_per_context_byte,
            byte_core_share=power.byte_core_share,
            joules_per_flop=power.j_per_flop,
            joules_per_link_byte=power.j_per_link_byte,
            joules_per_logit=power.j_per_logit,
            active_static_watts=power.active_static_w,
            active_clocked_watts=power.active_clocked_w,
            clock_band=power.clock_band,
        ),
        shapes=tuple(
            ShapeSpec(tensor_parallel_size=size, step=_step_spec(shape.step), work=_work_spec(shape.work))
            for size, shape in sorted(profile.shapes.items())
        ),
    )
    rounded = ModelProfileSpec.model_validate(_rounded(spec.model_dump()))
    return ModelProfileDocument(
        api_version=API_VERSION, kind=MODELPROFILE_KIND, metadata=ProfileMetadata(name=profile.name), spec=rounded
    )


def _gpu_ref(gpu: GpuSpec) -> GpuRef:
    return GpuRef(
        name=gpu.name,
        min_megahertz=gpu.min_clock_mhz,
        max_megahertz=gpu.default_clock_mhz,
        step_megahertz=gpu.clock_step_mhz,
    )


def _step_spec(step: StepCoefficients) -> StepSpec:
    return StepSpec(
        reference_clock_megahertz=round(step.reference_clock_mhz),
        overlap_norm=step.overlap_norm,
        tokens=step.tokens,
        memory_seconds=step.memory_s,
        compute_seconds=step.compute_s,
        communication_seconds=step.communication_s,
        requests=step.requests,
        attention_seconds=step.attention_s,
        attention_seconds_per_context_token=step.attention_context_s,
        attention_compute_share=step.attention_compute_share,
        seconds_per_pair=step.pair_s,
        iteration_overhead_seconds=step.iteration_overhead_s,
        request_overhead_seconds=step.request_overhead_s,
    )


def _work_spec(work: WorkCoefficients) -> WorkSpec:
    return WorkSpec(
        flops=work.flops,
        bytes=work.bytes,
        link_bytes=work.link_bytes,
        bytes_per_context_token=work.context_bytes,
        flops_per_context_token=work.context_flops,
        flops_per_pair=work.pair_flops,
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_SIGNIFICANT_DIGITS - 1}e}")
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return tuple(_rounded(entry) for entry in value)
    return value
