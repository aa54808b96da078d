"""The agent's view of one simulated node: GpuDevice and PodAllocations over the node simulator's HTTP API.

All GPUs come in one answer, which is kept for a moment, so that reading clock,
power and energy of eight GPUs is one request.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx

from dynawatt.ports import AllocationsUnavailable, GpuError, PodKey

_KEEP_S: Final = 0.1
_TIMEOUT_S: Final = 5.0


class SimulatedNodeClient:
    """One node's GPUs; implements PodAllocations. Not for use by several threads at once.

    Args:
        url: Where the node simulator listens.
        node: Name of the node.
        transport: Replaces the network in tests.
    """

    def __init__(self, url: str, node: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self._http = httpx.Client(base_url=url, timeout=_TIMEOUT_S, transport=transport, trust_env=False)
        self._node = node
        self._gpus: dict[str, dict[str, Any]] = {}
        self._read_s = float("-inf")

    def devices(self) -> "Sequence[SimulatedGpuDevice]":
        """All GPUs in the order of their index. Raises GpuError."""
        return [SimulatedGpuDevice(self, gpu) for gpu in self._read().values()]

    def gpus_by_pod(self) -> Mapping[PodKey, Sequence[str]]:
        """GPU UUIDs of every pod on this node. Raises AllocationsUnavailable."""
        self._read_s = float("-inf")
        try:
            gpus = self._read()
        except GpuError as error:
            raise AllocationsUnavailable(str(error)) from error
        held: dict[PodKey, list[str]] = {}
        for uuid, gpu in gpus.items():
            if gpu["pod"] is not None:
                held.setdefault(PodKey(gpu["pod"]["namespace"], gpu["pod"]["name"]), []).append(uuid)
        return held

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def gpu(self, uuid: str) -> Mapping[str, Any]:
        """The latest values of one GPU. Raises GpuError."""
        try:
            return self._read()[uuid]
        except KeyError:
            raise GpuError(f"{uuid} is no longer on node {self._node}") from None

    def command(self, uuid: str, action: str, body: Mapping[str, int]) -> None:
        """Change one GPU. Raises GpuError."""
        self._read_s = float("-inf")
        self._request("POST", f"/nodes/{self._node}/gpus/{uuid}/{action}", body)

    def _read(self) -> dict[str, dict[str, Any]]:
        if time.monotonic() - self._read_s > _KEEP_S:
            answer = self._request("GET", f"/nodes/{self._node}/gpus")
            self._gpus = {gpu["uuid"]: gpu for gpu in answer["gpus"]}
            self._read_s = time.monotonic()
        return self._gpus

    def _request(self, method: str, path: str, body: Mapping[str, int] | None = None) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, json=body)
            answer: dict[str, Any] = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise GpuError(f"the node simulator did not answer {method} {path}: {error}") from error
        if response.is_error:
            raise GpuError(answer.get("error", f"{method} {path}: HTTP {response.status_code}"))
        return answer


class SimulatedGpuDevice:
    """One simulated GPU; implements GpuDevice."""

    def __init__(self, node: SimulatedNodeClient, description: Mapping[str, Any]) -> None:
        self._node = node
        self.uuid: Final[str] = description["uuid"]
        self.product: Final[str] = description["product"]
        self._supported_clocks_mhz: Final[tuple[int, ...]] = tuple(description["supportedClocksMhz"])

    def supported_clocks_mhz(self) -> Sequence[int]:
        """SM clocks the GPU can be locked to, ascending, in MHz."""
        return self._supported_clocks_mhz

    def lock_clocks(self, min_mhz: int, max_mhz: int) -> None:
        """Keep the SM clock within a range. Raises GpuError."""
        self._node.command(self.uuid, "lock", {"minMhz": min_mhz, "maxMhz": max_mhz})

    def reset_clocks(self) -> None:
        """Return to the default clock. Raises GpuError."""
        self._node.command(self.uuid, "reset", {})

    def sm_clock_mhz(self) -> float:
        """Current SM clock in MHz. Raises GpuError."""
        return float(self._node.gpu(self.uuid)["smClockMhz"])

    def power_w(self) -> float:
        """Current power in W. Raises GpuError."""
        return float(self._node.gpu(self.uuid)["powerW"])

    def energy_j(self) -> float:
        """Energy so far in J. Raises GpuError."""
        return float(self._node.gpu(self.uuid)["energyJ"])
