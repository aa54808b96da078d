"""IP addresses for pods that KWOK leaves alone: from the top of the pods' network, as KWOK takes its own from below."""

from ipaddress import IPv4Network


class PodAddresses:
    """Which pod has which address."""

    def __init__(self, network: str) -> None:
        """``network`` such as ``127.64.0.0/16``."""
        self._network = IPv4Network(network)
        self._by_pod: dict[str, str] = {}

    def take(self, uid: str, *, known: str = "") -> str:
        """An address for a pod, the one that it is ``known`` to have if any."""
        taken = set(self._by_pod.values())
        free = (str(self._network[-2 - index]) for index in range(self._network.num_addresses // 2))
        self._by_pod[uid] = known or next(address for address in free if address not in taken)
        return self._by_pod[uid]

    def give_back(self, uid: str) -> None:
        """Its pod is gone."""
        self._by_pod.pop(uid, None)
