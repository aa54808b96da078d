"""Free ports, and a network of loopback addresses for the pods of each sandbox.

Pod addresses are real: any 127.x.y.z can be bound on Linux, and the node
simulator does so. Two sandboxes must therefore not share a network.
"""

import random
import socket
from collections.abc import Collection
from pathlib import Path

from dynawatt.errors import OperationError

# 127.0.0.0/16 holds the addresses other programs use, localhost and resolvers among them.
_SECOND_OCTETS = range(1, 255)


def free_ports(count: int) -> list[int]:
    """Different TCP ports on 127.0.0.1 that nobody listens on at this moment."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def choose_pod_network(taken: Collection[str]) -> str:
    """A /16 inside 127.0.0.0/8 that is not in ``taken`` and on which nobody listens. Raises OperationError."""
    busy = _listening_second_octets()
    free = [f"127.{octet}.0.0/16" for octet in _SECOND_OCTETS if octet not in busy]
    free = [network for network in free if network not in taken]
    if not free:
        raise OperationError("no pod network is left in 127.0.0.0/8; end sandboxes with: dynawatt sandbox down --all")
    # By chance, so that users who cannot see one another's sandboxes rarely meet.
    return random.choice(free)


def _listening_second_octets() -> set[int]:
    """The second number of every 127.x.y.z that any program on this machine has a TCP socket on."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    addresses = (bytes.fromhex(line.split()[1].partition(":")[0])[::-1] for line in lines)
    return {address[1] for address in addresses if address[0] == 127}
