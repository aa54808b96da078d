"""GPUNode: one GPU node as its agent sees it. Status only, written by that agent on change only."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, computed_field

from dynawatt.api.base import ApiModel, ClockMHz, ClockRange, Count, Word, keyed_by
from dynawatt.api.conditions import Conditions


class ClockControl(StrEnum):
    """Whether a GPU lets its clock be set."""

    SUPPORTED = "Supported"
    UNSUPPORTED = "Unsupported"
    UNKNOWN = "Unknown"


class GPUStatus(ApiModel):
    """One GPU."""

    uuid: Annotated[str, Field(max_length=128)]
    """Identity as the driver gives it, such as GPU-2f1c..."""
    product: Word
    """Product name as the driver gives it."""
    clock_control: ClockControl
    """Whether the SM clock can be set."""
    min_clock_megahertz: ClockMHz | None = None
    """Lowest SM clock in MHz that the GPU can be set to."""
    max_clock_megahertz: ClockMHz | None = None
    """Highest SM clock in MHz that the GPU can be set to."""
    allocated_to: Annotated[str, Field(max_length=317)] | None = None
    """Pod that holds the GPU, as namespace/name; absent when none does."""
    claim: ClockRange | None = None
    """SM clocks that the GPU is kept within; absent at default clocks."""


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
        )
