"""Replicas by id: where their records are, and what is known of those that are gone."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.simulation.core.state import GONE, NONE, SERVING, STARTING, Core, with_rows


class ReplicaSlots:
    """Ids count up from 0; a slot is used again when its replica is gone."""

    def __init__(self) -> None:
        """No replicas."""
        self._slots: dict[int, int] = {}
        """By id; may hold some that are gone."""
        self._kinds: list[tuple[int, int]] = []

    def __len__(self) -> int:
        """How many replicas there ever were."""
        return len(self._kinds)

    @property
    def shapes(self) -> NDArray[np.int64]:
        """Of all replicas there ever were, by id."""
        return np.array([shape for shape, _ in self._kinds], dtype=np.int64)

    @property
    def pools(self) -> NDArray[np.int64]:
        """Of all replicas there ever were, by id."""
        return np.array([pool for _, pool in self._kinds], dtype=np.int64)

    def add(self, core: Core, *, shape: int, pool: int, costs: int, now_s: float, starting: bool) -> Core:
        """A new replica without work, which has the last id; the core may have grown."""
        core, slot = self._free_slot(core)
        identity = len(self._kinds)
        self._kinds.append((shape, pool))
        self._slots[identity] = slot
        np.asarray(core.replicas)[slot : slot + 1] = 0
        replica = core.replicas[slot]
        replica.id, replica.kind, replica.pool = identity, shape, pool
        replica.state = STARTING if starting else SERVING
        replica.costs = replica.next_costs = costs
        replica.settled_s, replica.end_s = now_s, math.inf
        replica.free_blocks = core.shapes[shape].kv_blocks
        replica.queue_head = replica.queue_tail = NONE
        return core

    def find(self, core: Core, replica: int) -> int | None:
        """A replica's slot; None when it is gone. Raises InvalidInputError when there never was one."""
        if not 0 <= replica < len(self._kinds):
            raise InvalidInputError(f"replica {replica}: there are only {len(self._kinds)}")
        slot = self._slots.get(replica)
        return None if slot is None or core.replicas[slot].state == GONE else slot

    def living(self, core: Core) -> NDArray[Any]:
        """Copies of the records of the replicas that are not gone, with the columns of Replica."""
        rows: NDArray[Any] = np.asarray(core.replicas)[: core.fleet[0].slots]
        living: NDArray[Any] = rows[rows["state"] != GONE]
        return living

    def _free_slot(self, core: Core) -> tuple[Core, int]:
        for identity, slot in self._slots.items():
            if core.replicas[slot].state == GONE:
                del self._slots[identity]
                return core, slot
        slot = core.fleet[0].slots
        if slot == len(core.replicas):
            core = with_rows(core, ("replicas", "prefills", "ends", "phases", "decoding"), max(8, 2 * slot))
        core.fleet[0].slots = slot + 1
        return core, slot
