"""LLMService status: what dynawatt found, decided and changed.

Only coarse values that change with decisions stand here; fast numbers live in
Prometheus. Written by the operator alone.
"""

from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import Field, computed_field

from dynawatt.api.base import ATOMIC, ApiModel, ClockMHz, ClockRange, Count, StatusText, Timestamp, Word, keyed_by
from dynawatt.api.conditions import Conditions
from dynawatt.api.llmservice import Knob

MAX_RUNNERS_UP: Final = 3
MAX_CHANGES: Final = 10
MAX_BACK_OFFS: Final = 8


class Adopted(ApiModel):
    """The Deployment as it was found, to be given back."""

    replicas: Count
    """Replicas of the Deployment before dynawatt first changed them."""
    commanded: Count | None = None
    """Replicas that dynawatt last asked for; another number means that somebody else changed them."""


class ShapeStatus(ApiModel):
    """The replicas of one kind: same GPUs, same tensor-parallel size, same settings of the engine."""

    deployment: Word | None = None
    """The Deployment that runs them: the one that `deploymentRef` names, or a sibling of it."""
    gpu_product: Word
    """GPU product, as the node label nvidia.com/gpu.product gives it."""
    tensor_parallel_size: Annotated[int, Field(ge=1, le=64)]
    """GPUs that one replica's model is split over."""
    desired_replicas: Count
    """Replicas that the Deployment asks for."""
    ready_replicas: Count
    """Replicas that are Ready."""
    clock: ClockRange | None = None
    """SM clocks that the GPUs are claimed for; absent at default clocks."""


class OperatingPoint(ApiModel):
    """A way to run the service, with what the model predicts for it."""

    replicas: Count
    """Number of replicas."""
    tensor_parallel_size: Annotated[int, Field(ge=1, le=64)] | None = None
    """GPUs that one replica's model is split over."""
    clock_megahertz: ClockMHz
    """Highest SM clock of the GPUs in MHz."""
    predicted_watts: Annotated[int, Field(ge=0, le=100_000_000)]
    """Predicted mean power of all GPUs of the service in watts at the load planned for."""


class RunnerUp(OperatingPoint):
    """An operating point that was not chosen."""

    why_not: StatusText
    """Why it lost."""


Percent = Annotated[int, Field(ge=-100, le=100)]


class PredictedSaving(ApiModel):
    """Energy that the model predicts to be saved over the next two hours, in percent; negative when it takes more."""

    to_keeping_percent: Percent
    """Relative to keeping the replicas that were there."""
    to_default_clock_percent: Percent
    """Relative to the chosen replicas at the GPUs' default clock."""


class Decision(ApiModel):
    """What was chosen and why."""

    time: Timestamp
    """When it was made."""
    reason: Word
    """Why, in one word."""
    message: StatusText
    """Why, in a sentence."""
    chosen: OperatingPoint
    """The operating point that was chosen."""
    predicted_saving: PredictedSaving | None = None
    """What it saves by the model; absent when nothing could be planned."""
    runners_up: list[RunnerUp] = Field(default_factory=list, max_length=MAX_RUNNERS_UP, json_schema_extra=ATOMIC)
    """The next best operating points and why they lost."""


class Reshape(ApiModel):
    """A change of shape under way, which takes minutes, or one that failed and is tried again later."""

    to: Word
    """The Deployment whose replicas take over."""
    started_time: Timestamp
    """When it began, or when this attempt did."""
    attempts: Annotated[int, Field(ge=0, le=1000)] = 0
    """How often it failed in a row."""
    retry_time: Timestamp | None = None
    """Not tried again before; absent while it is under way."""
    message: StatusText = ""
    """Where it stands, or why it failed."""


class BackOff(ApiModel):
    """A shape whose replicas did not become Ready."""

    to: Word
    """The Deployment that runs it."""
    attempts: Annotated[int, Field(ge=1, le=1000)]
    """How often they failed in a row."""
    retry_time: Timestamp
    """Not tried again before."""


class EngineAdvice(ApiModel):
    """Flags of vLLM that are worth changing by hand."""

    flags: Annotated[list[Annotated[str, Field(max_length=1024)]], Field(max_length=8, json_schema_extra=ATOMIC)]
    """To be added to vLLM's arguments."""
    saves_percent: Percent | None = None
    """Energy that the model predicts to be saved by them; absent where they only make measuring better."""
    needs_plug_in: bool = False
    """Whether they do nothing before requests carry deadlines, which needs dynawatt's plug-in for vLLM."""
    message: StatusText
    """What they do."""


class Change(ApiModel):
    """One change that was carried out."""

    time: Timestamp
    """When it was made."""
    knob: Knob
    """What was changed."""
    from_: Annotated[Word, Field(alias="from")]
    """Value before."""
    to: Word
    """Value after."""
    reason: StatusText
    """Why it was changed."""


class ServiceSummary(ApiModel):
    """Short texts for the columns of kubectl get."""

    replicas: Word
    """Ready and desired replicas, such as 3/4."""
    tensor_parallel_size: Word
    """Tensor-parallel sizes in use."""
    clock_megahertz: Word
    """Claimed SM clocks in MHz, or "default"."""


class LLMServiceStatus(ApiModel):
    """What dynawatt found, decided and changed."""

    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """Generation of the spec that this status is for."""
    conditions: Conditions = Field(default_factory=list)
    """What is true of the service, since when and why."""
    adopted: Adopted | None = None
    """What is given back when the LLMService is deleted or switched off; absent while nothing was changed."""
    shapes: list[ShapeStatus] = Field(default_factory=list, max_length=16, json_schema_extra=ATOMIC)
    """The replicas by kind."""
    last_decision: Decision | None = None
    """The latest decision."""
    engine_advice: list[EngineAdvice] = Field(default_factory=list, max_length=8, json_schema_extra=ATOMIC)
    """Flags of vLLM worth changing by hand, with what each saves."""
    reshape: Reshape | None = None
    """The change of shape that is under way or failed; absent when there is none."""
    back_offs: list[BackOff] = Field(default_factory=list, max_length=MAX_BACK_OFFS, json_schema_extra=keyed_by("to"))
    """The shapes that failed and did not serve since, each with its own time to be tried again."""
    last_changes: list[Change] = Field(default_factory=list, max_length=MAX_CHANGES, json_schema_extra=ATOMIC)
    """The latest changes, newest first."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def summary(self) -> ServiceSummary | None:
        """Short texts for kubectl get."""
        if not self.shapes:
            return None
        ready = sum(shape.ready_replicas for shape in self.shapes)
        desired = sum(shape.desired_replicas for shape in self.shapes)
        sizes = dict.fromkeys(str(shape.tensor_parallel_size) for shape in self.shapes)
        clocks = dict.fromkeys("default" if shape.clock is None else str(shape.clock) for shape in self.shapes)
        return ServiceSummary(
            replicas=f"{ready}/{desired}", tensor_parallel_size=",".join(sizes), clock_megahertz=",".join(clocks)
        )


def add_change(changes: Sequence[Change], change: Change) -> list[Change]:
    """The latest changes with a new one in front; the oldest are dropped."""
    return [change, *changes][:MAX_CHANGES]
