"""The GPUs of a fleet's servers and which replicas hold them.

A replica never spans servers. It goes on the server with the fewest free GPUs
that still has enough (best fit), so that whole servers stay free for large
replicas; of several to place at once the largest goes first.
"""

from collections.abc import Sequence
from typing import Final

from dynawatt.errors import InvalidInputError

GPUS_PER_SERVER: Final = 8


def servers_for(replicas: int, tensor_parallel: int) -> int:
    """Whole servers that so many equal replicas need."""
    return -(-replicas // (GPUS_PER_SERVER // tensor_parallel))


class Inventory:
    """Equal servers. Raises InvalidInputError without any."""

    def __init__(self, servers: int) -> None:
        """All GPUs are free at first."""
        if servers < 1:
            raise InvalidInputError(f"inventory of {servers} servers: must be at least 1")
        self._free = [GPUS_PER_SERVER] * servers
        self._held: dict[int, tuple[int, int]] = {}

    @property
    def gpus(self) -> int:
        """GPUs of all servers."""
        return GPUS_PER_SERVER * len(self._free)

    @property
    def free(self) -> tuple[int, ...]:
        """Free GPUs by server."""
        return tuple(self._free)

    def places(self, sizes: Sequence[int]) -> list[int] | None:
        """Servers for replicas of these numbers of GPUs, in the same order; None when not all fit together."""
        free = list(self._free)
        servers = [-1] * len(sizes)
        for row in sorted(range(len(sizes)), key=lambda row: -sizes[row]):
            fitting = [server for server, gpus in enumerate(free) if gpus >= sizes[row]]
            if not fitting:
                return None
            servers[row] = min(fitting, key=free.__getitem__)
            free[servers[row]] -= sizes[row]
        return servers

    def hold(self, replica: int, server: int, gpus: int) -> None:
        """A replica takes GPUs of a server."""
        if replica in self._held or self._free[server] < gpus:
            raise ValueError(f"replica {replica} cannot hold {gpus} GPUs of server {server}")
        self._free[server] -= gpus
        self._held[replica] = (server, gpus)

    def release(self, replica: int) -> None:
        """A replica gives its GPUs back."""
        server, gpus = self._held.pop(replica)
        self._free[server] += gpus

    def server_of(self, replica: int) -> int:
        """Where a replica is."""
        return self._held[replica][0]
