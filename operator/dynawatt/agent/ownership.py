"""Which pod holds which GPU, and whose clock may be governed.

The kubelet knows who holds what, but names pods without their uid, lists some
after their end (kubernetes#119423), and is ahead of or behind the API by a
moment. The API knows which pods there are. A GPU is governed only where both
leave no doubt: one running pod holds all of it by its UUID, and has held the same
devices for as long as it runs. All GPUs of a pod stand or fall together. Energy
is accounted for in every case.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from dynawatt.agent.device_ids import Placement, place, shown
from dynawatt.agent.refusal import Refusal
from dynawatt.api.conditions import Reason
from dynawatt.ports import HeldDevice, PodKey

_RUNNING: Final = "Running"
_OVER: Final = frozenset({"Succeeded", "Failed"})

ApiPods: TypeAlias = Mapping[PodKey, tuple[str, str]]
"""The pods of this node that the API has: uid and phase."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who holds the GPUs of this node. GPUs that nobody uses are in none of it, unless they are in MIG mode."""

    holders: Mapping[str, tuple[PodKey, ...]] = field(default_factory=dict)
    """Every pod that uses a GPU or a part of it, by UUID; sorted."""
    gpus: Mapping[PodKey, tuple[str, ...]] = field(default_factory=dict)
    """The GPUs whose clocks may be governed, by the one pod that holds them; sorted."""
    refusals: Mapping[PodKey, Refusal] = field(default_factory=dict)
    """Why the GPUs of all other pods may not."""
    energy_only: Mapping[str, Refusal] = field(default_factory=dict)
    """Why a GPU's clock is left alone; not of pods that are only about to start."""


class OwnershipMemory:
    """Notices that a pod has given its name to another, by its devices.

    A pod keeps its devices for as long as it runs. When the kubelet lists others for a pod that the API still calls by
    the same uid, it speaks of a successor (of a StatefulSet, say) that the API has not told us of. A successor with the
    same devices is not noticed, and governed by its predecessor's claim for that moment.
    """

    def __init__(self) -> None:
        self._first: dict[tuple[PodKey, str], frozenset[str]] = {}

    def judge(self, held: Iterable[HeldDevice], *, mig: Mapping[str, bool], pods: ApiPods | None) -> Ownership:
        """Find out who owns what, in the light of what was seen before; see ``find_owners``."""
        held = tuple(held)
        return find_owners(held, mig=mig, pods=pods, replaced=self._replaced(held, pods or {}))

    def _replaced(self, held: Iterable[HeldDevice], pods: ApiPods) -> set[PodKey]:
        alive = {(pod, uid) for pod, (uid, _) in pods.items()}
        self._first = {pod_and_uid: ids for pod_and_uid, ids in self._first.items() if pod_and_uid in alive}
        now: dict[PodKey, set[str]] = {}
        for device in held:
            now.setdefault(device.pod, set()).add(device.device_id)
        replaced = set()
        for pod, ids in now.items():
            uid, phase = pods.get(pod, ("", ""))
            if phase == _RUNNING:  # before, the kubelet may still be handing out devices, or list a predecessor
                self._first.setdefault((pod, uid), frozenset(ids))
            if self._first.get((pod, uid), ids) != ids:
                replaced.add(pod)
        return replaced


def find_owners(
    held: Iterable[HeldDevice],
    *,
    mig: Mapping[str, bool],
    pods: ApiPods | None,
    replaced: Set[PodKey] = frozenset(),
) -> Ownership:
    """Who owns what.

    Args:
        held: What the kubelet lists, in any order.
        mig: Every GPU of this node by UUID: whether it is in MIG mode.
        pods: The pods of this node in the API; None while they are not known, when nothing may be governed.
        replaced: Pods that are not those the API knows by that name.
    """
    placements, stray = _place_all(held, mig, pods)
    holders: dict[str, list[PodKey]] = {}
    used = {pod: sorted({found.uuid for found in places if found.uuid}) for pod, places in placements.items()}
    for pod, uuids in used.items():
        for uuid in uuids:
            holders.setdefault(uuid, []).append(pod)

    refusals: dict[PodKey, Refusal] = {}
    for pod, places in placements.items():
        refusal = (
            next((found.refusal for found in places if found.refusal), None)
            or _shared(used[pod], holders, pods)
            or stray  # of another pod, as its own is among its places
            or _doubted(pod, pods, replaced)
        )
        if refusal:
            refusals[pod] = refusal
    return Ownership(
        holders={uuid: tuple(sorted(users)) for uuid, users in holders.items()},
        gpus={pod: tuple(uuids) for pod, uuids in used.items() if pod not in refusals},
        refusals=refusals,
        energy_only=_energy_only(mig, holders, refusals),
    )


def _place_all(
    held: Iterable[HeldDevice], mig: Mapping[str, bool], pods: ApiPods | None
) -> tuple[dict[PodKey, list[Placement]], Refusal | None]:
    """Where the devices of each pod are; and why no other pod may be governed, when one has a stray device."""
    placements: dict[PodKey, list[Placement]] = {}
    stray: Refusal | None = None
    for device in sorted(set(held)):
        if pods is not None and pods.get(device.pod, ("", ""))[1] in _OVER:
            continue  # its containers have ended, and its GPUs may have been given to others
        found = place(device, mig)
        placements.setdefault(device.pod, []).append(found)
        if found.stray and found.refusal and stray is None:
            why = f"{device.pod} holds {shown(device)}, which may be any GPU of this node"
            stray = Refusal(found.refusal.reason, why)
    return placements, stray


def _shared(uuids: Sequence[str], holders: Mapping[str, Sequence[PodKey]], pods: ApiPods | None) -> Refusal | None:
    for uuid in uuids:
        users = sorted(holders[uuid])
        if len(users) > 1:
            certain = pods is not None and all(user in pods and pods[user][1] == _RUNNING for user in users)
            why = f"{uuid} is held by {len(users)} pods: {', '.join(map(str, users[:3]))}"
            return Refusal(Reason.GPU_SHARED if certain else Reason.AMBIGUOUS_POD, why)
    return None


def _doubted(pod: PodKey, pods: ApiPods | None, replaced: Set[PodKey]) -> Refusal | None:
    if pods is None:
        return Refusal(Reason.AMBIGUOUS_POD, "the API has not told yet which pods there are")
    if pod not in pods:
        return Refusal(Reason.AMBIGUOUS_POD, "the kubelet lists it, but the API does not have it on this node")
    if pod in replaced:
        why = "it holds other devices than at first: the kubelet speaks of another pod of that name than the API"
        return Refusal(Reason.AMBIGUOUS_POD, why)
    if pods[pod][1] != _RUNNING:
        return Refusal(Reason.CLAIMS_PENDING, f"it does not run: its phase is {pods[pod][1] or 'not known'}")
    return None


def _energy_only(
    mig: Mapping[str, bool], holders: Mapping[str, Sequence[PodKey]], refusals: Mapping[PodKey, Refusal]
) -> dict[str, Refusal]:
    reasons = {uuid: Refusal(Reason.MIG_ENABLED, f"{uuid} is in MIG mode") for uuid, enabled in mig.items() if enabled}
    for uuid, users in holders.items():
        lasting = [
            refusals[user]
            for user in sorted(users)
            if user in refusals and refusals[user].reason is not Reason.CLAIMS_PENDING
        ]
        if lasting:
            reasons.setdefault(uuid, lasting[0])
    return reasons
