"""Pods that serve metrics and have nothing to do."""

from .cluster import TOP_ONLY
from .rig import Rig

LOW_MHZ, HIGH_MHZ = 900, 1500
_TABLE = TOP_ONLY.model_copy(update={"rows": ((LOW_MHZ, 1.0, 8000.0, 4),)})
"""The low clock carries hardly anything."""


class IdlePods:
    """One pod for each GPU of a node, with a page of metrics each."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        rig.spawn()
        addresses = [rig.place(f"pod-{gpu}", gpu, ceiling_mhz=HIGH_MHZ, table=_TABLE) for gpu in rig.gpus]
        self.pages = [rig.serve(address) for address in addresses]
        for page in self.pages:
            page.finish(5)
