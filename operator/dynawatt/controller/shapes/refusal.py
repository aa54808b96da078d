"""What keeps a Deployment from having a further shape: words for machines and for people."""

from enum import StrEnum
from typing import NamedTuple


class RefusalReason(StrEnum):
    """Why, in one word for machines."""

    UNREADABLE_ARGUMENTS = "UnreadableArguments"
    """vLLM's arguments cannot be read for certain."""
    ARGUMENTS_IN_SHELL = "ArgumentsInShell"
    """They stand in a shell string, where nothing can be added."""
    IS_SIBLING = "IsSibling"
    """The Deployment is itself a further shape of another one."""
    OWNED_BY_CONTROLLER = "OwnedByController"
    """Another controller made the Deployment, and would undo or copy what is done."""
    MULTI_NODE = "MultiNode"
    """One replica spans several pods or nodes."""
    OTHER_PARALLELISM = "OtherParallelism"
    """vLLM runs with pipeline or data parallelism."""
    GPU_COUNT_UNCLEAR = "GPUCountUnclear"
    """The GPUs asked for are not those that vLLM uses."""
    DEVICES_PINNED = "DevicesPinned"
    """vLLM is told which GPUs to use by number."""
    WEIGHTS_PER_SIZE = "WeightsPerSize"
    """The weights are stored for one tensor-parallel size."""
    DRAIN_NOT_CONFIGURED = "DrainNotConfigured"
    """Pods abort their requests when they stop."""
    NO_READINESS_PROBE = "NoReadinessProbe"
    """Pods count as Ready while they load."""
    HOST_PORTS = "HostPorts"
    """Two pods on one node would ask for the same port."""
    KEPT_APART = "KeptApart"
    """Pods of the service refuse to share a node."""
    VOLUME_NOT_SHARED = "VolumeNotShared"
    """A volume can be mounted on one node only."""
    VOLUME_UNKNOWN = "VolumeUnknown"
    """A volume's claim does not exist."""

    LARGER_THAN_ANY_NODE = "LargerThanAnyNode"
    """No node has as many GPUs."""
    GPU_NOT_ADMITTED = "GPUNotAdmitted"
    """The pods may not run on nodes with that GPU."""
    HEADS_NOT_DIVISIBLE = "HeadsNotDivisible"
    """The model's attention heads cannot be split so."""
    CONTEXT_DOES_NOT_FIT = "ContextDoesNotFit"
    """The KV cache does not hold one request of full length."""
    BATCH_TOO_SMALL = "BatchTooSmall"
    """An iteration has fewer tokens than requests."""


class Refusal(NamedTuple):
    """One reason and, for people, what to change."""

    reason: RefusalReason
    message: str
