"""The kubelet's probes of a container, as far as they are HTTP requests."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe; times in seconds."""

    url: str
    delay_s: float
    period_s: float
    timeout_s: float
    failures: int
    """In a row, until it counts as failed."""

    @classmethod
    def of(cls, container: Mapping[str, Any], kind: str, address: str) -> "Probe | None":
        """A container's ``readinessProbe`` and the like; None when it has none that is an HTTP request."""
        spec = container.get(kind) or {}
        request = spec.get("httpGet")
        if request is None:
            return None
        ports = {port.get("name"): port["containerPort"] for port in container.get("ports") or ()}
        return cls(
            url=f"http://{address}:{ports.get(request['port'], request['port'])}{request.get('path', '/')}",
            delay_s=spec.get("initialDelaySeconds", 0),
            period_s=spec.get("periodSeconds", 10),
            timeout_s=spec.get("timeoutSeconds", 1),
            failures=spec.get("failureThreshold", 3),
        )

    async def follow(self, tell: Callable[[bool], None]) -> None:
        """Ask until cancelled, and tell whether it is well: after a success, and after so many failures."""
        await asyncio.sleep(self.delay_s)
        failed = 0
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self.timeout_s)) as session:
            while True:
                failed = 0 if await self._succeeds(session) else failed + 1
                if not failed or failed >= self.failures:
                    tell(not failed)
                await asyncio.sleep(self.period_s)

    async def _succeeds(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(self.url) as answer:
                return 200 <= answer.status < 400
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False


class Health:
    """What the probes of one running container say."""

    def __init__(self, container: Mapping[str, Any], address: str) -> None:
        """``address`` is the pod's IP."""
        self._probes = {
            kind: Probe.of(container, f"{kind}Probe", address) for kind in ("startup", "liveness", "readiness")
        }
        self._has_started = asyncio.Event()
        self.started = self._probes["startup"] is None
        self.ready = self.started and self._probes["readiness"] is None
        self.dead = asyncio.Event()
        """Set when it is to be restarted."""
        self.changed = asyncio.Event()
        """Set when started or ready changes; whoever waits clears it."""

    async def watch(self) -> None:
        """Ask until cancelled: first whether it has started, then the rest."""
        if startup := self._probes["startup"]:
            asking = asyncio.create_task(startup.follow(self._tell_started))
            try:
                await self._has_started.wait()
            finally:
                asking.cancel()
        tellers = {"liveness": self._tell_alive, "readiness": self._tell_ready}
        if self._probes["readiness"] is None:
            self._tell_ready(True)
        await asyncio.gather(
            *(probe.follow(tellers[kind]) for kind, probe in self._probes.items() if probe and kind in tellers)
        )

    def _tell_started(self, well: bool) -> None:
        if well:
            self.started = True
            self._has_started.set()
            self.changed.set()
        else:
            self.dead.set()

    def _tell_alive(self, well: bool) -> None:
        if not well:
            self.dead.set()

    def _tell_ready(self, well: bool) -> None:
        if well != self.ready:
            self.ready = well
            self.changed.set()
