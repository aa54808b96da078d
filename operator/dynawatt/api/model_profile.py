"""ModelProfile: what one model architecture costs on one GPU product, as a file and as a resource.

The fields are those of ``perfmodel.profile.ModelProfile``, with their units
spelled out; ``adapters.profile_mapping`` turns one into the other. Every number
has bounds, because a profile that is wrong by a unit would give plans that are
wrong in silence. Floats are allowed here, unlike in the other kinds.

``dynawatt crds`` does not print a definition of this kind: nothing reads
ModelProfiles from a cluster yet, and a resource that has no effect misleads.
"""

import itertools
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from dynawatt.api.base import ApiModel, ClockMHz, DnsName, SpecModel

_MOST_GRID_POINTS = 256


def _no_truth_value(value: Any) -> Any:
    """Refuse true and false, which pydantic takes for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


# Not strict: Go writes 1e-05, which YAML 1.1 takes for a text.
_NUMBER = BeforeValidator(_no_truth_value)
Seconds = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False), _NUMBER]
Amount = Annotated[float, Field(gt=0, le=1e15, allow_inf_nan=False), _NUMBER]
"""Weights of a model, or their bytes."""
Work = Annotated[float, Field(ge=0, le=1e21, allow_inf_nan=False), _NUMBER]
"""FLOP or bytes on one GPU."""
WorkPerToken = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False), _NUMBER]
Joules = Annotated[float, Field(ge=0, le=1e-6, allow_inf_nan=False), _NUMBER]
"""Of one byte, one FLOP or one logit."""
Watts = Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False), _NUMBER]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), _NUMBER]
RelativeError = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False), _NUMBER]
Size = Annotated[int, Field(strict=True, ge=1, le=10_000_000)]
Text = Annotated[str, Field(min_length=1, max_length=1024)]

SecondsList = Annotated[tuple[Seconds, ...], Field(min_length=2, max_length=_MOST_GRID_POINTS)]
WorkList = Annotated[tuple[Work, ...], Field(min_length=2, max_length=_MOST_GRID_POINTS)]
Grid = Annotated[
    tuple[Annotated[int, Field(strict=True, ge=0, le=10_000_000)], ...],
    Field(min_length=2, max_length=_MOST_GRID_POINTS),
]


class ArchitectureSpec(SpecModel):
    """The model, by the values of its Hugging Face config.json."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Short name, such as llama-3.1-70b."""
    parameters: Amount
    """All weights, those of every expert included."""
    layers: Size
    """`num_hidden_layers`."""
    hidden: Size
    """`hidden_size`."""
    intermediate: Size
    """`intermediate_size`; of one expert where there are several."""
    heads: Size
    """`num_attention_heads`."""
    kv_heads: Size
    """`num_key_value_heads`."""
    head_dim: Size
    """`head_dim`."""
    vocabulary: Size
    """`vocab_size`."""
    context_tokens: Size
    """`max_position_embeddings`."""
    experts: Size = 1
    """Experts per layer; 1 for a dense model."""
    experts_per_token: Size = 1
    """Experts that each token goes through."""
    sliding_window_tokens: Annotated[int, Field(strict=True, ge=0, le=10_000_000)] = 0
    """Window of every second layer; 0 where all layers attend to everything."""

    @model_validator(mode="after")
    def _check_divisions(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"`kvHeads` {self.kv_heads} must divide `heads` {self.heads}")
        if self.experts_per_token > self.experts:
            raise ValueError(f"`expertsPerToken` {self.experts_per_token} must be at most `experts` {self.experts}")
        return self


class GpuRef(SpecModel):
    """The GPU product and the clocks it was profiled for."""

    name: Annotated[str, Field(min_length=1, max_length=63)]
    """Short name, as the option --gpu takes it."""
    min_megahertz: ClockMHz
    """Lowest supported SM clock."""
    max_megahertz: ClockMHz
    """Highest supported SM clock, which is also the default one."""
    step_megahertz: Annotated[int, Field(strict=True, ge=1, le=1000)]
    """Distance between supported clocks."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.min_megahertz > self.max_megahertz:
            raise ValueError("`minMegahertz` must be at most `maxMegahertz`")
        return self


class PowerSpec(SpecModel):
    """Energy of work, at the voltage of the highest clock."""

    joules_per_byte: Joules
    """Of weights and activations."""
    joules_per_context_byte: Joules
    """Of keys and values."""
    byte_core_share: Share
    """Part of both, and of logits, that falls with the square of the core's voltage."""
    joules_per_flop: Joules
    joules_per_link_byte: Joules
    joules_per_logit: Joules
    """Of a decoding request's next token, times the vocabulary, on each GPU."""
    active_static_watts: Watts
    """Drawn by running kernels beyond idle, at any clock."""
    active_clocked_watts: Watts
    """The same at the highest clock, falling with the square of the voltage times the clock."""
    clock_band: Share
    """Relative uncertainty of what a lower clock saves, which is derived from the model, not measured."""


class StepSpec(SpecModel):
    """Seconds of one iteration, at the reference clock."""

    reference_clock_megahertz: ClockMHz
    overlap_norm: Annotated[float, Field(ge=1, le=100, allow_inf_nan=False), _NUMBER]
    """p of (memory^p + compute^p)^(1/p): how far both overlap."""
    tokens: Grid
    """Tokens of an iteration, ascending from 1; the profile covers no more than the last."""
    memory_seconds: SecondsList
    """Bound by memory: the same at every clock."""
    compute_seconds: SecondsList
    """Bound by arithmetic: scales with 1/clock."""
    communication_seconds: SecondsList
    """Between the replica's GPUs: the same at every clock."""
    requests: Grid
    """Decoding requests, ascending from 0; the profile covers no more than the last."""
    attention_seconds: SecondsList
    """Of decoding requests, without what their context adds."""
    attention_seconds_per_context_token: SecondsList
    attention_compute_share: Share
    """Part of both attention terms that scales with 1/clock."""
    seconds_per_pair: Seconds
    """Per query-key pair of prefilled chunks."""
    iteration_overhead_seconds: Seconds
    request_overhead_seconds: Seconds
    """Per decoding request."""

    @field_validator("tokens", "requests")
    @classmethod
    def _ascending(cls, grid: tuple[int, ...]) -> tuple[int, ...]:
        for before, after in itertools.pairwise(grid):
            if after <= before:
                raise ValueError(f"must be ascending: {after} follows {before}")
        return grid

    @model_validator(mode="after")
    def _check_grids(self) -> Self:
        if self.tokens[0] != 1:
            raise ValueError(f"`tokens` must begin with 1, not {self.tokens[0]}")
        if self.requests[0] != 0:
            raise ValueError(f"`requests` must begin with 0, not {self.requests[0]}")
        per_token = (self.memory_seconds, self.compute_seconds, self.communication_seconds)
        for name, values in zip(("memorySeconds", "computeSeconds", "communicationSeconds"), per_token, strict=True):
            check_length(name, values, "tokens", self.tokens)
        check_length("attentionSeconds", self.attention_seconds, "requests", self.requests)
        per_context = self.attention_seconds_per_context_token
        check_length("attentionSecondsPerContextToken", per_context, "requests", self.requests)
        if not all(memory + compute > 0 for memory, compute in zip(*per_token[:2], strict=True)):
            raise ValueError("`memorySeconds` and `computeSeconds` must not both be 0: an iteration takes time")
        return self


class WorkSpec(SpecModel):
    """What an iteration does on each GPU; lists stand on the grid `tokens` of `step`."""

    flops: WorkList
    bytes: WorkList
    link_bytes: WorkList
    """Sent to the replica's other GPUs."""
    bytes_per_context_token: WorkPerToken
    """Read per token of the decoding requests' context."""
    flops_per_context_token: WorkPerToken
    flops_per_pair: WorkPerToken
    """Per query-key pair of prefilled chunks."""


class ShapeSpec(SpecModel):
    """All that depends on the tensor-parallel size."""

    tensor_parallel_size: Annotated[int, Field(strict=True, ge=1, le=64)]
    step: StepSpec
    work: WorkSpec

    @model_validator(mode="after")
    def _check_grids(self) -> Self:
        for name, values in (("flops", self.work.flops), ("bytes", self.work.bytes)):
            check_length(f"work.{name}", values, "step.tokens", self.step.tokens)
        check_length("work.linkBytes", self.work.link_bytes, "step.tokens", self.step.tokens)
        return self


class ResidualSpec(SpecModel):
    """How far the profile is from one set of measurements; errors are relative."""

    dataset: Text
    quantity: Literal["decode_step", "prefill_step", "mean_step", "power", "clock_shape"]
    points: Annotated[int, Field(strict=True, ge=1, le=100_000_000)]
    median_abs_error: RelativeError
    p90_abs_error: RelativeError = Field(alias="p90AbsError")
    mean_abs_error: RelativeError
    held_out: bool
    """Whether these points had no part in the fit."""


class ModelProfileSpec(SpecModel):
    """Coefficients of the step-time and power models, with where they come from and how good they are."""

    architecture: ArchitectureSpec
    precision: Literal["bf16", "fp8", "mxfp4"]
    gpu: GpuRef
    weight_bytes: Amount
    """Of the whole model in this precision."""
    start_up_seconds: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False), _NUMBER]
    """From the creation of a pod to Ready, weights on local disk."""
    provenance: Annotated[tuple[Text, ...], Field(min_length=1, max_length=64)]
    residuals: Annotated[tuple[ResidualSpec, ...], Field(max_length=256)] = ()
    power: PowerSpec
    shapes: Annotated[tuple[ShapeSpec, ...], Field(min_length=1, max_length=16)]

    @model_validator(mode="after")
    def _check_shapes(self) -> Self:
        sizes = [shape.tensor_parallel_size for shape in self.shapes]
        if sorted(set(sizes)) != sizes:
            raise ValueError(f"`shapes` must be ascending in `tensorParallelSize`, each once: {sizes}")
        for size in sizes:
            if self.architecture.heads % size:
                raise ValueError(f"`tensorParallelSize` {size} must divide `heads` {self.architecture.heads}")
        for shape in self.shapes:
            reference = shape.step.reference_clock_megahertz
            if not self.gpu.min_megahertz <= reference <= self.gpu.max_megahertz:
                raise ValueError(f"`referenceClockMegahertz` {reference} must be within the clocks of `gpu`")
        return self


class ProfileMetadata(ApiModel):
    """What every Kubernetes object has; only the name matters here."""

    model_config = ConfigDict(frozen=True)

    name: DnsName


class ModelProfileDocument(SpecModel):
    """A whole ModelProfile, as it stands in a file."""

    api_version: Literal["dynawatt.dev/v1alpha1"]
    kind: Literal["ModelProfile"]
    metadata: ProfileMetadata
    spec: ModelProfileSpec


def check_length(name: str, values: Sequence[float], grid_name: str, grid: Sequence[int]) -> None:
    """Raises ValueError unless there is one value for each point of the grid."""
    if len(values) != len(grid):
        raise ValueError(f"`{name}` has {len(values)} values: must have as many as `{grid_name}`, {len(grid)}")
