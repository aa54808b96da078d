"""What the kubelet does for one vLLM pod: start its server, tell it to end, and report it gone.

The order of an end is the kubelet's: preStop hook, SIGTERM, and at the end of
the grace period, which counts from the deletion, SIGKILL. The last act is to
delete the Pod object, which frees its GPUs.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.adapters.vllm_args import VllmPodError, VllmSettings, find_vllm_container, vllm_settings
from dynawatt.ports import PodKey
from dynawatt.sandbox.nodesim.gpus import SimulatedGpu
from dynawatt.sandbox.nodesim.lifetimes import grace_left_s, is_deleted
from dynawatt.sandbox.nodesim.server import VllmServer
from dynawatt.sandbox.nodesim.starting import start_replica

_BIND_RETRY_S: Final = 0.5
_DELETE_RETRY_S: Final = 5.0
_SLEEP: Final = re.compile(r"(?:exec\s+)?sleep\s+(\d+(?:\.\d+)?)s?")

_log = logging.getLogger(__name__)


class PodWriter(Protocol):
    """What a kubelet writes to the Kubernetes API about its pods; failures are logged, not raised."""

    async def delete(self, pod: PodKey, uid: str) -> None:
        """Remove the Pod object now, if it is still the same pod."""
        ...

    async def warn(self, pod: PodKey, uid: str, reason: str, message: str) -> None:
        """Post a warning Event on the pod."""
        ...


class PodRunner:
    """One vLLM pod from the time it has its GPUs until its object is gone."""

    def __init__(self, pod: KubernetesObject, *, gpus: Sequence[SimulatedGpu], writer: PodWriter) -> None:
        metadata = pod["metadata"]
        self.key: Final = PodKey(metadata["namespace"], metadata["name"])
        self._uid: Final[str] = metadata["uid"]
        self._gpus = gpus
        self._writer = writer
        self._pod = pod
        self._changed = asyncio.Event()
        self._grace: asyncio.Timeout | None = None
        self._task = asyncio.create_task(self._run(), name=str(self.key))

    def update(self, pod: KubernetesObject) -> None:
        """The object has changed, or may have."""
        self._pod = pod
        self._changed.set()
        if self._grace is not None:
            self._grace.reschedule(asyncio.get_running_loop().time() + grace_left_s(pod))

    async def gone(self) -> None:
        """The object no longer exists: whatever still runs ends at once."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        container, settings, server = await self._start()
        try:
            await self._until(lambda pod: bool(_address(pod)))
            await self._listen(server, settings.port)
            await self._until(_is_ready)
            server.serve()
            await self._until(is_deleted)
            await self._end(server, pre_stop_s(container), settings.shutdown_timeout_s)
        except Exception:
            _log.exception("pod=%s its simulated server failed", self.key)
        finally:
            await server.kill()
        while True:  # until gone() ends this: the deletion may have got lost
            await self._writer.delete(self.key, self._uid)
            await asyncio.sleep(_DELETE_RETRY_S)

    async def _start(self) -> tuple[Mapping[str, Any], VllmSettings, VllmServer]:
        container: Mapping[str, Any] = {}
        settings = VllmSettings(model="", served_model_names=("",))
        try:
            container = find_vllm_container(self._pod["spec"])
            settings = vllm_settings(container)
            return container, settings, VllmServer(start_replica(settings, self._gpus))
        except ValueError as error:
            reason = error.reason if isinstance(error, VllmPodError) else "EngineStartFailed"
            _log.warning("pod=%s reason=%s %s", self.key, reason, error)
            await self._writer.warn(self.key, self._uid, reason, f"vLLM cannot start: {error}")
            return container, settings, VllmServer(str(error))

    async def _listen(self, server: VllmServer, port: int) -> None:
        while not is_deleted(self._pod):
            try:
                await server.listen(_address(self._pod), port)
            except OSError as error:
                _log.warning("pod=%s cannot listen on %s:%d: %s", self.key, _address(self._pod), port, error)
                await asyncio.sleep(_BIND_RETRY_S)
            else:
                return

    async def _end(self, server: VllmServer, pre_stop_delay_s: float, shutdown_timeout_s: float) -> None:
        try:
            async with asyncio.timeout(grace_left_s(self._pod)) as self._grace:
                if server.listening:
                    await asyncio.sleep(pre_stop_delay_s)
                await server.end(shutdown_timeout_s)
        except TimeoutError:
            _log.warning("pod=%s the grace period ended before the server did: killed", self.key)
        finally:
            self._grace = None

    async def _until(self, condition: Callable[[KubernetesObject], bool]) -> None:
        """Wait until the condition holds or the pod is to end."""
        while not condition(self._pod) and not is_deleted(self._pod):
            self._changed.clear()
            await self._changed.wait()


def pre_stop_s(container: Mapping[str, Any]) -> float:
    """How long the preStop hook sleeps, in seconds; other hooks count as done at once."""
    hook = container.get("lifecycle", {}).get("preStop", {})
    if "sleep" in hook:
        return float(hook["sleep"]["seconds"])
    command: list[str] = hook.get("exec", {}).get("command", [])
    text = command[2] if len(command) == 3 and command[1] == "-c" else " ".join(command)
    sleep = _SLEEP.fullmatch(text.strip().removeprefix("/bin/"))
    return float(sleep[1]) if sleep else 0.0


def _address(pod: KubernetesObject) -> str:
    status = pod.get("status", {})
    address: str = status.get("podIP", "") if status.get("phase") == "Running" else ""
    return address


def _is_ready(pod: KubernetesObject) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
