"""Keeping cluster autoscalers from moving pods that are being waited for."""

from collections.abc import Mapping
from typing import Final

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.api.group import GROUP

PROTECTION: Final[Mapping[str, str]] = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
"""What the two common autoscalers leave a pod's node alone for. In the pod template they would stand for good, and no
node would ever be emptied."""
PROTECTED_ANNOTATION: Final = f"{GROUP}/protected"
"""On a pod: which of these dynawatt set, and may remove; those of the user's own template stay."""


def protection_changes(pod: KubernetesObject, *, wanted: bool) -> Mapping[str, str | None]:
    """Annotations to set or (None) to remove so that a pod is protected exactly while it is to be; empty for none.

    ``wanted`` while a pod of a step under way is loading: moved now, it would load once more while the old shape waits.
    """
    present = pod["metadata"].get("annotations") or {}
    marked = PROTECTED_ANNOTATION in present
    if wanted == marked:
        return {}
    if wanted:
        missing = {key: value for key, value in PROTECTION.items() if key not in present}
        return {**missing, PROTECTED_ANNOTATION: " ".join(sorted(missing))} if missing else {}
    ours = [key for key in present[PROTECTED_ANNOTATION].split() if key in PROTECTION]
    return dict.fromkeys([*ours, PROTECTED_ANNOTATION])
