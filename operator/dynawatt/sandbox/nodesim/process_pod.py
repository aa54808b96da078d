"""What the kubelet does for one pod of dynawatt's own: run its container as a process of this machine.

With its command line, environment, volumes and a token of its ServiceAccount
that is bound to the pod. Probes decide about Ready and about restarts, the exit
code about the pod's phase. What a container runtime would do beyond that
(images, users, capabilities, limits, a file system of its own) is not played.
"""

import asyncio
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from dynawatt.adapters.kubernetes.client import API_ERRORS, KubernetesObject, describe_error
from dynawatt.ports import PodKey
from dynawatt.sandbox.driver.layout import STATE_VARIABLE
from dynawatt.sandbox.nodesim import pod_status
from dynawatt.sandbox.nodesim.addresses import PodAddresses
from dynawatt.sandbox.nodesim.container import ContainerError, ContainerProcess, container_process
from dynawatt.sandbox.nodesim.driver_bridge import driver_state_path
from dynawatt.sandbox.nodesim.kubelet import PodWriter
from dynawatt.sandbox.nodesim.lifetimes import grace_left_s, is_deleted
from dynawatt.sandbox.nodesim.orphans import end_orphan, note_process
from dynawatt.sandbox.nodesim.probing import Health
from dynawatt.sandbox.nodesim.volumes import Volumes
from dynawatt.sandbox.processes import MARKER, last_lines

_RETRY_S: Final = 2.0
_RESTART_S: Final = (1.0, 2.0, 5.0, 10.0)
"""Before each restart; a kubelet begins with 10 s and goes up to 5 minutes."""
_UNHEALTHY_GRACE_S: Final = 30.0
_MESSAGE_LINES: Final = 20
_INHERITED: Final = ("PATH", "LANG", "LC_ALL", "TZ", "VIRTUAL_ENV", MARKER)
_GPUS: Final = "NVIDIA_VISIBLE_DEVICES"

_log = logging.getLogger(__name__)


class PodApi(PodWriter, Protocol):
    """What running a pod needs of the Kubernetes API."""

    async def put_status(self, pod: PodKey, uid: str, status: Mapping[str, Any]) -> None:
        """Merge this into the pod's status; failures are logged, not raised."""
        ...

    async def read(self, plural: str, namespace: str, name: str) -> KubernetesObject:
        """A core object. Raises API_ERRORS."""
        ...

    async def pod_kubeconfig(self, pod: KubernetesObject) -> str:
        """A kubeconfig with a new token of the pod's ServiceAccount, bound to the pod. Raises API_ERRORS."""
        ...


@dataclass(frozen=True, slots=True)
class Machine:
    """Where processes of pods run."""

    api: PodApi
    state_dir: Path
    addresses: PodAddresses
    driver_dir: Path
    """Of the simulated NVML library, which containers that ask for GPUs get."""


class ProcessPod:
    """One pod from its assignment to a node until its object is gone."""

    def __init__(self, pod: KubernetesObject, machine: Machine) -> None:
        metadata = pod["metadata"]
        self.key: Final = PodKey(metadata["namespace"], metadata["name"])
        self._uid: Final[str] = metadata["uid"]
        self._pod = pod
        self._machine = machine
        self._directory = machine.state_dir / "pods" / self._uid
        self._log_file = machine.state_dir / "pod-logs" / f"{self.key.namespace}_{self.key.name}.log"
        self._deleted = asyncio.Event()
        self._address = ""
        self._task = asyncio.create_task(self._run(), name=str(self.key))
        self.update(pod)

    def update(self, pod: KubernetesObject) -> None:
        """The object has changed, or may have."""
        self._pod = pod
        if is_deleted(pod):
            self._deleted.set()

    async def gone(self) -> None:
        """The object no longer exists: whatever still runs ends at once."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._machine.addresses.give_back(self._uid)
        shutil.rmtree(self._directory, ignore_errors=True)

    async def _run(self) -> None:
        try:
            await self._run_container()
        except ContainerError as error:
            container = self._pod["spec"]["containers"][0]
            await self._machine.api.warn(self.key, self._uid, "FailedCreate", str(error))
            await self._tell(
                pod_status.waiting(container, restarts=0, reason="CreateContainerError", message=str(error))
            )
        except Exception:
            _log.exception("pod=%s its process could not be run", self.key)
        await self._deleted.wait()
        while True:  # until gone() ends this: the deletion may have got lost
            await self._machine.api.delete(self.key, self._uid)
            await asyncio.sleep(_RETRY_S)

    async def _run_container(self) -> None:
        """Start the container again and again as its pod asks for. Raises ContainerError."""
        spec = self._pod["spec"]
        container, policy = _only_container(spec), spec.get("restartPolicy", "Always")
        end_orphan(self._directory)
        known = self._pod.get("status", {}).get("podIP", "")
        self._address = self._machine.addresses.take(self._uid, known=known)
        restarts = 0
        while not self._deleted.is_set():
            since = pod_status.now()
            code = await self._run_once(container, await self._prepared(container), since=since, restarts=restarts)
            if self._deleted.is_set():
                return
            message = "\n".join(last_lines(self._log_file, lines=_MESSAGE_LINES))
            _log.info("pod=%s exit_code=%d restarts=%d", self.key, code, restarts)
            if policy == "Never" or (policy == "OnFailure" and code == 0):
                status = pod_status.ended(container, since=since, restarts=restarts, code=code, message=message)
                await self._tell(status)
                return
            restarts += 1
            await self._tell(
                pod_status.waiting(container, restarts=restarts, reason="CrashLoopBackOff", message=message)
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(_RESTART_S[min(restarts, len(_RESTART_S)) - 1]):
                    await self._deleted.wait()

    async def _prepared(self, container: Mapping[str, Any]) -> ContainerProcess:
        """Volumes, token and command line, as soon as the API gives what they need. Raises ContainerError."""
        api, node = self._machine.api, self._pod["spec"]["nodeName"]
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                volumes = Volumes(self._machine.state_dir, node=node, read=api.read)
                paths = await volumes.mounted(self._pod, container, self._directory)
                process = container_process(container, pod=self._pod, address=self._address, paths=paths)
                environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
                environment |= {"HOME": str(self._directory), **process.environment, **self._driver(process, node)}
                if "/tmp" in paths:
                    environment["TMPDIR"] = str(paths["/tmp"])
                environment |= await self._identity()
                return ContainerProcess(process.arguments, environment)
            except API_ERRORS as error:
                await api.warn(self.key, self._uid, "FailedMount", describe_error(error))
                await asyncio.sleep(_RETRY_S)

    async def _identity(self) -> dict[str, str]:
        """How the process reaches the API server: nothing can be mounted where Kubernetes has its token."""
        kubeconfig = self._directory / "kubeconfig"
        content = await self._machine.api.pod_kubeconfig(self._pod)
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(content, encoding="utf-8")
        return {"KUBECONFIG": str(kubeconfig), "DYNAWATT_KUBECONFIG": str(kubeconfig)}

    def _driver(self, process: ContainerProcess, node: str) -> dict[str, str]:
        """The driver of the node's GPUs, as NVIDIA's container runtime puts it into containers that ask for it."""
        if process.environment.get(_GPUS, "void") in ("", "void", "none"):
            return {}
        state = driver_state_path(self._machine.state_dir, node)
        return {"LD_LIBRARY_PATH": str(self._machine.driver_dir), STATE_VARIABLE: str(state)}

    async def _run_once(
        self, container: Mapping[str, Any], prepared: ContainerProcess, *, since: str, restarts: int
    ) -> int:
        """Run it until it ends, is found dead, or the pod is deleted; its exit code, negative for a signal."""
        with self._log_file.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                # -P: a file in the current directory must not shadow a module; -u: logs are complete when it is killed.
                *(sys.executable, "-P", "-u", "-m", "dynawatt", *prepared.arguments),
                env=dict(prepared.environment),
                cwd=self._directory,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        note_process(self._directory, process.pid)
        health = Health(container, self._address)
        watching, ending = asyncio.create_task(health.watch()), asyncio.create_task(process.wait())
        try:
            while not ending.done():
                started, ready = health.started, health.ready
                await self._tell(
                    pod_status.running(
                        container, address=self._address, since=since, restarts=restarts, started=started, ready=ready
                    )
                )
                await _first(ending, self._deleted.wait, health.dead.wait, health.changed.wait)
                health.changed.clear()
                if self._deleted.is_set():
                    await _end(process, ending, lambda: grace_left_s(self._pod))
                elif health.dead.is_set():
                    await self._machine.api.warn(self.key, self._uid, "Unhealthy", "a probe failed: restarting it")
                    await _end(process, ending, lambda: _UNHEALTHY_GRACE_S)
            return await ending
        finally:
            watching.cancel()
            with suppress(ProcessLookupError):  # whatever it started ends with it
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.gather(watching, ending, return_exceptions=True)

    async def _tell(self, status: Mapping[str, Any]) -> None:
        await self._machine.api.put_status(self.key, self._uid, status)


def _only_container(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    if len(spec["containers"]) != 1 or spec.get("initContainers"):
        raise ContainerError("only pods with a single container can be run here")
    container: Mapping[str, Any] = spec["containers"][0]
    return container


async def _end(process: asyncio.subprocess.Process, ending: asyncio.Task[int], grace_s: Callable[[], float]) -> None:
    """SIGTERM, and SIGKILL at the end of the grace period."""
    with suppress(ProcessLookupError):
        process.terminate()
    await asyncio.wait([ending], timeout=grace_s())
    if not ending.done():
        with suppress(ProcessLookupError):
            process.kill()
        await ending


async def _first(ending: asyncio.Task[int], *events: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Wait for the first of them."""
    waiting = [asyncio.create_task(event()) for event in events]
    try:
        await asyncio.wait([ending, *waiting], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
