"""What the id of a held device says: which GPU of this node it is, and whether it is all of it.

Ids are whatever a device plug-in calls its devices. NVIDIA's gives the UUID of a
GPU (``GPU-...``), of a MIG device (``MIG-...``, with drivers before R470
``MIG-GPU-.../gi/ci``) or, when told so, an index; replicas for time slices or MPS
have ``::n`` behind it. GKE's gives ``nvidia0``, ``nvidia0/vgpu1`` for a share and
``nvidia0/gi3`` for a MIG device. Resource claims (DRA) have names of their own.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from dynawatt.agent.refusal import Refusal
from dynawatt.api.conditions import Reason
from dynawatt.ports import HeldDevice

_SHOWN_CHARS: Final = 80


class Placement(NamedTuple):
    """Where a held device is."""

    uuid: str | None
    """The GPU of this node that it is, or is a part of; None when that cannot be told."""
    refusal: Refusal | None
    """Why it cannot be governed; None for a whole GPU of this node."""
    stray: bool = False
    """It may be any whole GPU of this node, also one that another pod holds by its UUID."""


def place(device: HeldDevice, mig: Mapping[str, bool]) -> Placement:
    """Find a device among the GPUs of this node, given by UUID with whether they are in MIG mode. Raises nothing."""
    if device.dynamic:
        why = f"it holds {shown(device)} by a resource claim (DRA), which does not tell the GPU's UUID"
        return Placement(None, Refusal(Reason.DRA_UNSUPPORTED, why), stray=True)
    base, replica, _ = device.device_id.partition("::")
    uuid = _known(base, mig)
    if _is_mig(device.resource, base):
        return Placement(uuid, Refusal(Reason.MIG_ENABLED, f"it holds {shown(device)}, a partition of a GPU (MIG)"))
    if uuid is not None and mig[uuid]:
        return Placement(uuid, Refusal(Reason.MIG_ENABLED, f"{uuid} is in MIG mode"))
    stray = uuid is None and not base.startswith("GPU-")
    if replica or "/vgpu" in base or device.resource == "nvidia.com/gpu.shared":
        why = f"it holds {shown(device)}, a share of a GPU (time slices or MPS)"
        return Placement(uuid, Refusal(Reason.GPU_SHARED, why), stray)
    if uuid is None:
        why = f"it holds {shown(device)}, which is no GPU of this node by UUID"
        return Placement(None, Refusal(Reason.UNKNOWN_DEVICE_ID, why), stray)
    return Placement(uuid, None)


def shown(device: HeldDevice) -> str:
    """A device's id fit for one line of text, whatever it contains."""
    return ascii(device.device_id[:_SHOWN_CHARS])


def _known(base: str, mig: Mapping[str, bool]) -> str | None:
    # Old MIG ids begin with the UUID of their GPU.
    return next((uuid for uuid in (base, base.removeprefix("MIG-").partition("/")[0]) if uuid in mig), None)


def _is_mig(resource: str, base: str) -> bool:
    return base.startswith("MIG-") or "/gi" in base or resource.startswith("nvidia.com/mig-")
