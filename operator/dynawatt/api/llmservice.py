"""LLMService spec: what a user asks of dynawatt for one vLLM Deployment.

The same rules stand in the CRD; parsing here gives the operator, and commands
that read files, types instead of dictionaries. Docstrings of fields are what
``kubectl explain`` shows.
"""

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, Self

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from dynawatt.api.base import ATOMIC, SET, ClockMHz, DnsLabel, DnsName, Rule, SpecModel, cel_rules, first_problem
from dynawatt.api.change_window import MAX_WINDOWS, ChangeWindow
from dynawatt.errors import InvalidInputError
from dynawatt.quantities import seconds

MAX_TTFT_OBJECTIVES: Final = 16
TENSOR_PARALLEL_SIZES: Final = (1, 2, 4, 8, 16, 32, 64)

_TARGET_IMMUTABLE = Rule(
    "self == oldSelf",
    "must not change; to manage another Deployment delete this LLMService and create a new one",
)
_MIN_AT_MOST_MAX = Rule("self.min <= self.max", "`min` must be at most `max`")
_LAST_UNBOUNDED = Rule(
    "size(self) == 0 || !has(self[size(self) - 1].maxInputTokens)",
    "the last entry must be without `maxInputTokens`: it holds for all longer inputs",
)
_OTHERS_BOUNDED = Rule(
    "self.filter(objective, !has(objective.maxInputTokens)).size() <= 1",
    "every entry but the last must have `maxInputTokens`",
)
# Plain CEL has no loop over positions, so the possible ones are written out.
_ASCENDING = Rule(
    f"{list(range(MAX_TTFT_OBJECTIVES - 1))}.all(i, i + 1 >= size(self)"
    " || !has(self[i].maxInputTokens) || !has(self[i + 1].maxInputTokens)"
    " || self[i].maxInputTokens < self[i + 1].maxInputTokens)",
    "`maxInputTokens` must be ascending, each higher than the one before",
)
_POWERS_OF_TWO = Rule(
    f"self.all(size, size in {list(TENSOR_PARALLEL_SIZES)})",
    f"must be powers of two up to {TENSOR_PARALLEL_SIZES[-1]}",
)
_ONE_SCALER = Rule(
    "!('Shape' in self.knobs) || !has(self.replicas) || !has(self.replicas.scaledBy)"
    " || self.replicas.scaledBy != 'External'",
    "`knobs` must not contain Shape while `replicas.scaledBy` is External: an autoscaler knows one Deployment only",
)


class Mode(StrEnum):
    """How far dynawatt goes."""

    OFF = "Off"
    RECOMMEND = "Recommend"
    AUTO = "Auto"


class Knob(StrEnum):
    """Something dynawatt may change."""

    CLOCK = "Clock"
    REPLICAS = "Replicas"
    SHAPE = "Shape"


class Scaler(StrEnum):
    """Who sets the number of replicas."""

    DYNAWATT = "Dynawatt"
    EXTERNAL = "External"


class DeploymentRef(SpecModel):
    """A Deployment in the same namespace."""

    name: DnsName
    """Name of the Deployment."""


class TTFTObjective(SpecModel):
    """Longest time to first token for inputs up to a length."""

    max_input_tokens: Annotated[int, Field(strict=True, ge=1, le=10_000_000)] | None = None
    """Longest input, in tokens, that this objective is for. The last entry has none."""
    milliseconds: Annotated[int, Field(strict=True, ge=1, le=600_000)]
    """Objective in milliseconds, from the arrival of a request to its first token."""


class SLO(SpecModel):
    """Latency objectives and the share of all requests that must meet them."""

    percentile: Annotated[int, Field(strict=True, ge=50, le=99)] = 99
    """Percent of all requests, and of all gaps between tokens, that must be within their objective."""
    inter_token_milliseconds: Annotated[int, Field(strict=True, ge=1, le=60_000)]
    """Objective for the gap between two tokens of a request (TBT), in milliseconds."""
    time_to_first_token: Annotated[
        tuple[TTFTObjective, ...],
        Field(
            min_length=1,
            max_length=MAX_TTFT_OBJECTIVES,
            json_schema_extra=ATOMIC | cel_rules(_LAST_UNBOUNDED, _OTHERS_BOUNDED, _ASCENDING),
        ),
    ]
    """Objectives for the time to first token (TTFT) by input length: entries in ascending order of
    `maxInputTokens`, each for inputs longer than the entry before; the last has no `maxInputTokens` and
    holds for all longer inputs."""

    @field_validator("time_to_first_token")
    @classmethod
    def _check_ttft(cls, objectives: tuple[TTFTObjective, ...]) -> tuple[TTFTObjective, ...]:
        *others, last = objectives
        if last.max_input_tokens is not None:
            raise _LAST_UNBOUNDED.violation()
        bounds = [other.max_input_tokens for other in others if other.max_input_tokens is not None]
        if len(bounds) < len(others):
            raise _OTHERS_BOUNDED.violation()
        if bounds != sorted(set(bounds)):
            raise _ASCENDING.violation()
        return objectives

    @property
    def attainment_target(self) -> float:
        """Fraction of requests, and of gaps, that must be within their objective."""
        return self.percentile / 100

    @property
    def tbt_objective_s(self) -> float:
        """Longest gap between two tokens in seconds."""
        return seconds(self.inter_token_milliseconds)

    @property
    def ttft_objectives_s(self) -> tuple[tuple[float, float], ...]:
        """Pairs of (longest input in tokens, objective in seconds), ascending; the last input length is infinite."""
        return tuple(
            (math.inf if entry.max_input_tokens is None else float(entry.max_input_tokens), seconds(entry.milliseconds))
            for entry in self.time_to_first_token
        )

    def ttft_objective_s(self, input_tokens: int) -> float:
        """Longest time to first token in seconds for an input of this many tokens."""
        return next(objective_s for bound, objective_s in self.ttft_objectives_s if input_tokens <= bound)


class ReplicaRange(SpecModel):
    """Fewest and most vLLM pods, both included."""

    model_config = ConfigDict(json_schema_extra=cel_rules(_MIN_AT_MOST_MAX))

    min: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1
    """Fewest replicas to keep."""
    max: Annotated[int, Field(strict=True, ge=1, le=1000)] = 40
    """Most replicas to scale to."""
    scaled_by: Scaler = Scaler.DYNAWATT
    """Who sets the number of replicas. "Dynawatt": the operator, with the knob "Replicas". "External": a
    HorizontalPodAutoscaler or KEDA, which follows the operator's metric dynawatt_desired_replicas."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.min > self.max:
            raise _MIN_AT_MOST_MAX.violation()
        return self


class GPUClock(SpecModel):
    """Limits on the SM clock of the GPUs that serve the model."""

    min_megahertz: ClockMHz = 800
    """Lowest SM clock in MHz that dynawatt may choose; raised to the lowest clock the GPU supports."""


class Evaluation(SpecModel):
    """How the saving is measured, beside being modelled."""

    switchback_percent: Annotated[int, Field(strict=True, ge=0, le=50)] = 0
    """Share of the time, in percent, in which the knob Clock is off, in short periods chosen at random, so that the
    energy with and without it can be compared. 0 measures nothing."""


class LLMServiceSpec(SpecModel):
    """What dynawatt manages and within which limits."""

    model_config = ConfigDict(json_schema_extra=cel_rules(_ONE_SCALER))

    deployment_ref: Annotated[DeploymentRef, Field(json_schema_extra=cel_rules(_TARGET_IMMUTABLE))]
    """The vLLM Deployment to manage, in the same namespace. It cannot be changed later."""
    container: DnsLabel | None = None
    """Name of the container that runs vLLM. Needed only when the pods have several containers."""
    mode: Mode = Mode.RECOMMEND
    """How far dynawatt goes. "Off": nothing is planned or changed, and what was changed is given back.
    "Recommend": plans and explains, changes nothing. "Auto": carries plans out with the listed `knobs`.
    Write "Off" in quotes: YAML reads it as false without them."""
    knobs: Annotated[tuple[Knob, ...], Field(min_length=1, max_length=len(Knob), json_schema_extra=SET)] = (Knob.CLOCK,)
    """What "Auto" may change. "Clock": the GPUs' SM clock, no pod is touched.
    "Replicas": the replicas of the Deployment. "Shape": the tensor-parallel size, by Deployments of its own beside the
    one that `deploymentRef` names; it includes "Replicas"."""
    slo: SLO
    """The latency objectives to keep while saving energy.

    Two shares of all requests are measured: the requests whose time to first token is within the objective for
    their own input length, and the gaps between tokens that are within `interTokenMilliseconds`. The SLO is met
    when both are at least the percentile."""
    replicas: ReplicaRange = ReplicaRange()
    """Limits on the number of replicas, used with the knob "Replicas"."""
    gpu_clock: GPUClock = GPUClock()
    """Limits on the GPU clock, used with the knob "Clock"."""
    tensor_parallel_sizes: (
        Annotated[
            tuple[Annotated[int, Field(strict=True, ge=1, le=TENSOR_PARALLEL_SIZES[-1])], ...],
            Field(
                min_length=1, max_length=len(TENSOR_PARALLEL_SIZES), json_schema_extra=SET | cel_rules(_POWERS_OF_TWO)
            ),
        ]
        | None
    ) = None
    """Tensor-parallel sizes to choose from, used with the knob "Shape": GPUs that one replica's model is split over.
    The present one is always among them. By default all that the model fits on and that a node can hold."""
    max_gpus: Annotated[int, Field(strict=True, ge=1, le=100_000)] | None = Field(default=None, alias="maxGPUs")
    """Most GPUs to hold at any moment, those of replicas that are being replaced included."""
    change_windows: Annotated[tuple[ChangeWindow, ...], Field(max_length=MAX_WINDOWS, json_schema_extra=ATOMIC)] = ()
    """When replicas and shapes may be changed. Outside of all windows replicas are only added, for load that would
    otherwise miss the SLO; clocks are always governed. Without windows changes may be made at any time."""
    evaluation: Evaluation = Evaluation()
    """How the saving is measured."""
    paused: Annotated[bool, Field(strict=True)] = False
    """Hold everything as it is now: metrics are still observed, nothing is changed or given back."""

    @field_validator("knobs")
    @classmethod
    def _check_knobs(cls, knobs: tuple[Knob, ...]) -> tuple[Knob, ...]:
        if len(set(knobs)) < len(knobs):
            raise ValueError("must not hold a value twice")
        return knobs

    @field_validator("tensor_parallel_sizes")
    @classmethod
    def _check_sizes(cls, sizes: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if sizes is not None and len(set(sizes)) < len(sizes):
            raise ValueError("must not hold a value twice")
        if not set(sizes or ()) <= set(TENSOR_PARALLEL_SIZES):
            raise _POWERS_OF_TWO.violation()
        return sizes

    @model_validator(mode="after")
    def _check_scaler(self) -> Self:
        if Knob.SHAPE in self.knobs and self.replicas.scaled_by is Scaler.EXTERNAL:
            raise _ONE_SCALER.violation()
        return self

    @property
    def scales(self) -> bool:
        """Whether "Auto" may change how many replicas there are: which shapes they have implies it."""
        knobs = {Knob.REPLICAS, Knob.SHAPE} & set(self.knobs)
        return bool(knobs) and self.replicas.scaled_by is Scaler.DYNAWATT

    @classmethod
    def parse(cls, spec: Mapping[str, Any]) -> Self:
        """Read the ``spec`` of an LLMService. Raises InvalidInputError with field, value and remedy."""
        try:
            return cls.model_validate(spec)
        except ValidationError as error:
            raise InvalidInputError(first_problem(error, root="spec")) from error
