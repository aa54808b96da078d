"""Four pods with two GPUs each, all governed."""

from .ledger import until
from .rig import Rig

GROUPS = ((0, 1), (2, 3), (4, 5), (6, 7))
"""GPUs by pod."""


def place_four_pods(rig: Rig) -> Rig:
    """Start the agent and wait until every pod is at its ceiling, 1200 MHz."""
    rig.spawn()
    for group, gpus in enumerate(GROUPS):
        rig.place(f"pod-{group}", *gpus, ceiling_mhz=1200)
    until(lambda: rig.at(1200, *rig.gpus))
    return rig


def reclaim(rig: Rig, *groups: int, ceiling_mhz: int) -> None:
    """Give these pods another claim."""
    for group in groups:
        rig.reclaim(f"pod-{group}", ceiling_mhz)
