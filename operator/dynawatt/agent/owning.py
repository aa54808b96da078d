"""Reads from the kubelet which pod holds which GPU, and bridges the moments in which it does not answer."""

import logging
import time
from collections.abc import Callable, Mapping

from dynawatt.agent.ownership import Ownership, OwnershipMemory
from dynawatt.agent.pods import PodFacts
from dynawatt.agent.view import HOLD_S
from dynawatt.ports import AllocationsUnavailable, PodAllocations, PodKey

_log = logging.getLogger(__name__)


class OwnershipReader:
    """Who owns the GPUs of this node. ``clock_s`` is monotonic time in seconds."""

    def __init__(self, allocations: PodAllocations, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._allocations = allocations
        self._clock_s = clock_s
        self._memory = OwnershipMemory()
        self._read_s = clock_s()
        self._problem = ""

    @property
    def problem(self) -> str:
        """Why the last attempt to read failed; empty when it did not."""
        return self._problem

    @property
    def lost(self) -> bool:
        """Whether it has not been known for so long that nothing may stay as it is."""
        return bool(self._problem) and self._clock_s() - self._read_s >= HOLD_S

    def read(self, pods: Mapping[PodKey, PodFacts] | None, *, mig: Mapping[str, bool]) -> Ownership | None:
        """Who owns what now; None when the kubelet does not tell.

        Args:
            pods: The pods of this node in the API; None while they are not known.
            mig: Every GPU of this node by UUID: whether it is in MIG mode.
        """
        try:
            held = self._allocations.held_devices()
        except AllocationsUnavailable as error:
            if not self._problem:
                _log.warning("allocations error=%r action=hold", str(error))
            self._problem = str(error) or "no reason given"
            return None
        if self._problem:
            _log.info("allocations are known again")
        self._problem, self._read_s = "", self._clock_s()
        known = None if pods is None else {pod: (fact.uid, fact.phase) for pod, fact in pods.items()}
        return self._memory.judge(held, mig=mig, pods=known)
