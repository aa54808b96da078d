"""GPUNode: one GPU node as its agent sees it. Status only, written by that agent on change only."""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, computed_field

from dynawatt.api.base import SET, ApiModel, ClockMHz, ClockRange, Count, StatusText, Word, keyed_by
from dynawatt.api.conditions import Conditions

MAX_XIDS: Final = 32
"""More different ones do not tell more."""


class ClockControl(StrEnum):
    """Whether a GPU lets its clock be set."""

    SUPPORTED = "Supported"
    UNSUPPORTED = "Unsupported"
    UNKNOWN = "Unknown"


class ClockMethod(StrEnum):
    """How the SM clock is set."""

    LOCKED_CLOCKS = "LockedClocks"
    APPLICATIONS_CLOCKS = "ApplicationsClocks"


class EnergySource(StrEnum):
    """Where joules come from."""

    COUNTER = "Counter"
    INTEGRATED = "Integrated"


class Health(StrEnum):
    """Whether a GPU can be relied on."""

    HEALTHY = "Healthy"
    UNHEALTHY = "Unhealthy"
    UNKNOWN = "Unknown"


class PersistenceMode(StrEnum):
    """Whether the driver stays loaded without clients."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"


class EnergyOnly(ApiModel):
    """Why the clock of a GPU is left alone."""

    reason: Word
    """Why, in one word for machines."""
    message: StatusText
    """Why, in a sentence for people."""


class GPUStatus(ApiModel):
    """One GPU. Nothing here moves by the second: numbers that do are in the agent's metrics."""

    uuid: Annotated[str, Field(max_length=128)]
    """Identity as the driver gives it, such as GPU-2f1c..."""
    product: Word
    """Product name as the driver gives it."""
    clock_control: ClockControl
    """Whether the SM clock can be set."""
    clock_method: ClockMethod | None = None
    """How the SM clock is set: to a range, or to a single clock where the driver offers no other way; absent when it
    cannot be set."""
    min_clock_megahertz: ClockMHz | None = None
    """Lowest SM clock in MHz that the GPU can be set to."""
    max_clock_megahertz: ClockMHz | None = None
    """Highest SM clock in MHz that the GPU can be set to."""
    energy_source: EnergySource | None = None
    """Where the joules in the metrics come from: the GPU's own counter, or its power integrated over time."""
    allocated_to: Annotated[str, Field(max_length=317)] | None = None
    """Pod that holds the GPU, as namespace/name, the first of several; absent when none does."""
    claim: ClockRange | None = None
    """SM clocks that the GPU is kept within; absent at default clocks."""
    energy_only: EnergyOnly | None = None
    """Why only the energy of the GPU is reported and its clock left alone; absent when it can be governed."""
    health: Health = Health.UNKNOWN
    """Unhealthy when the GPU does not answer, or has shown an error that calls for a reset or a replacement."""
    health_message: StatusText | None = None
    """What is wrong with the GPU; absent when nothing is."""
    xids: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=MAX_XIDS, json_schema_extra=SET)] = Field(
        default_factory=list
    )
    """Numbers of the critical XID errors since the agent started, those that applications cause included."""
    persistence_mode: PersistenceMode | None = None
    """When Disabled, the driver forgets clocks and counters with its last client; absent when not known."""
    compute_mode: Word | None = None
    """Who may use the GPU at once, such as Default or ExclusiveProcess; absent when not known."""


class NodeSummary(ApiModel):
    """Short values for the columns of kubectl get."""

    product: Word
    """Product of the GPUs; several are joined by commas."""
    gpu_count: Count
    """GPUs on the node."""
    allocated: Count
    """GPUs that a pod holds."""
    claimed: Count
    """GPUs that are kept within a claim."""
    energy_only: Count = 0
    """GPUs whose clock is left alone because of how they are used."""


class GPUNodeStatus(ApiModel):
    """The GPUs of the node, who holds them, and which clocks they are kept within."""

    gpus: list[GPUStatus] = Field(default_factory=list, max_length=128, json_schema_extra=keyed_by("uuid"))
    """All GPUs of the node."""
    conditions: Conditions = Field(default_factory=list)
    """What is true of the node, since when and why."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def summary(self) -> NodeSummary:
        """Short values for kubectl get."""
        return NodeSummary(
            product=",".join(dict.fromkeys(gpu.product for gpu in self.gpus)),
            gpu_count=len(self.gpus),
            allocated=sum(gpu.allocated_to is not None for gpu in self.gpus),
            claimed=sum(gpu.claim is not None for gpu in self.gpus),
            energy_only=sum(gpu.energy_only is not None for gpu in self.gpus),
        )
