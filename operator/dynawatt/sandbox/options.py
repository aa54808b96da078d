"""What a user may choose about a sandbox, and which choices make sense."""

import re
from dataclasses import dataclass, fields
from typing import Final

from dynawatt.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class GpuClass:
    """A GPU that sandbox nodes can have, as GPU feature discovery would label it."""

    product: str
    memory_mib: int
    max_per_node: int


GPU_CLASSES: Final = {
    "h100-sxm": GpuClass(product="NVIDIA-H100-80GB-HBM3", memory_mib=81559, max_per_node=8),
}
MAX_NODES: Final = 64
"""Bounded by what runs here: with dynawatt each node has an agent process."""

_REAL_PLAN_INTERVAL_S: Final = 300.0

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")


def check_name(name: str) -> None:
    """Raise InvalidInputError unless ``name`` is usable as a directory and in Kubernetes."""
    if not _NAME.fullmatch(name):
        raise InvalidInputError(f"sandbox name {name!r}: use up to 40 lower-case letters, digits and inner hyphens")


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """A sandbox as asked for. Raises InvalidInputError on nonsense."""

    name: str = "default"
    nodes: int = 4
    gpus_per_node: int = 8
    gpu: str = "h100-sxm"
    startup_s: int = 20
    """From a pod's start until it is Ready; plays the loading of the model."""
    dynawatt: bool = True
    """Whether the operator and one agent per node run too."""
    bare: bool = False
    """Whether nothing of dynawatt is installed, so that its Helm chart can be."""
    plan_interval_s: float = 10.0
    observe_interval_s: float = 2.0
    rate_window_s: float = 10.0
    peak_window_s: float = 20.0
    lease_duration_s: float = 30.0

    def __post_init__(self) -> None:
        """Check every field."""
        check_name(self.name)
        if self.gpu not in GPU_CLASSES:
            raise InvalidInputError(f"gpu {self.gpu!r} is unknown: choose one of {', '.join(sorted(GPU_CLASSES))}")
        most = GPU_CLASSES[self.gpu].max_per_node
        _check_range("nodes", self.nodes, 1, MAX_NODES)
        _check_range("gpus-per-node", self.gpus_per_node, 1, most)
        if self.gpus_per_node & (self.gpus_per_node - 1):
            raise InvalidInputError(f"gpus-per-node is {self.gpus_per_node}: use a power of two up to {most}")
        if self.bare and self.dynawatt:
            raise InvalidInputError("bare and dynawatt exclude each other: in a bare cluster the Helm chart starts it")
        _check_range("startup-s", self.startup_s, 0, 3600)
        for name in ("plan_interval_s", "observe_interval_s", "rate_window_s", "peak_window_s", "lease_duration_s"):
            _check_range(name.replace("_", "-"), getattr(self, name), 1, 3600)

    @property
    def time_lapse(self) -> float:
        """Between two plans lie five minutes of the load's day."""
        return max(1.0, _REAL_PLAN_INTERVAL_S / self.plan_interval_s)

    def node_names(self) -> list[str]:
        """The names of its GPU nodes."""
        return [f"gpu-node-{index}" for index in range(self.nodes)]

    def differences(self, other: "SandboxOptions") -> list[str]:
        """Each option that is not the same, as ``nodes is 4, not 2`` with this one's value first."""
        pairs = ((f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return [
            f"{name.replace('_', '-')} is {_show(mine)}, not {_show(theirs)}"
            for name, mine, theirs in pairs
            if mine != theirs
        ]


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also catches NaN
        raise InvalidInputError(f"{name} is {_show(value)}: use {low:g} to {high:g}")


def _show(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
