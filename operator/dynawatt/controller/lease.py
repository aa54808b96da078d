"""The operator's one Lease: it decides which operator acts, and all clock claims hang on it.

Another holder's Lease is taken over only when this process has seen no renewal
for the whole duration by its own clock; timestamps of other machines are never
compared. Losing the API means not renewing: the agents then return the clocks.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from dynawatt.adapters.kubernetes.client import API_ERRORS, KubernetesObject, describe_error
from dynawatt.adapters.kubernetes.cluster import Cluster
from dynawatt.api.group import LEASE_NAME

_WAITING_S: Final = 2.0
"""Time between looks at a Lease that another one holds: whoever comes next should not lose more than its duration."""

_log = logging.getLogger(__name__)


class LeaseHolder:
    """Acquires and renews the Lease in the background."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        namespace: str,
        identity: str,
        duration_s: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is requested before ``run``."""
        self._cluster = cluster
        self._namespace = namespace
        self._identity = identity
        self._duration_s = duration_s
        self._clock = clock
        self._renewed_s: float | None = None
        self._seen: tuple[str, str] | None = None
        self._seen_s = 0.0
        self.holder = ""
        """Who holds the Lease, as last seen."""

    @property
    def name(self) -> str:
        """``namespace/name`` as claims carry it."""
        return f"{self._namespace}/{LEASE_NAME}"

    @property
    def held(self) -> bool:
        """Whether this process may act: it renewed the Lease within its duration."""
        return self._renewed_s is not None and self._clock() - self._renewed_s < self._duration_s

    async def run(self, interval_s: float) -> None:
        """Renew at this interval until cancelled; while another one holds it, look more often."""
        while True:
            started_s = self._clock()
            try:
                await asyncio.to_thread(self.attempt)
            except API_ERRORS as error:
                _log.warning("lease=%s error=%r", self.name, describe_error(error))
            except Exception:  # an operator whose renewals end unseen would look alive and never act again
                _log.exception("lease=%s attempt failed", self.name)
            pause_s = interval_s if self.held else min(interval_s, _WAITING_S)
            await asyncio.sleep(max(0.5, pause_s - (self._clock() - started_s)))

    def attempt(self) -> None:
        """Renew, acquire or wait, with at most two requests. Raises API_ERRORS."""
        lease = self._cluster.lease(self._namespace, LEASE_NAME)
        started_s = self._clock()
        if lease is not None and not self._may_write(lease, started_s):
            self._renewed_s = None
            return
        written = self._cluster.write_lease(self._renewed(lease))
        if written is None:
            return
        if self._renewed_s is None:
            _log.info("lease=%s acquired identity=%s", self.name, self._identity)
        self._renewed_s = started_s
        self.holder = self._identity

    def release(self) -> None:
        """Let a successor take over at once; claims stay valid until the Lease ages. Raises API_ERRORS."""
        lease = self._cluster.lease(self._namespace, LEASE_NAME)
        if lease is not None and (lease.get("spec") or {}).get("holderIdentity") == self._identity:
            lease["spec"]["holderIdentity"] = ""
            self._cluster.write_lease(lease)
        self._renewed_s = None

    def _may_write(self, lease: KubernetesObject, now_s: float) -> bool:
        spec = lease.get("spec") or {}
        self.holder = spec.get("holderIdentity") or ""
        if self.holder in ("", self._identity):
            return True
        seen = (self.holder, spec.get("renewTime") or "")
        if seen != self._seen:
            self._seen, self._seen_s = seen, now_s
        return now_s - self._seen_s > (spec.get("leaseDurationSeconds") or self._duration_s)

    def _renewed(self, lease: KubernetesObject | None) -> KubernetesObject:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        metadata = (lease or {}).get("metadata") or {"namespace": self._namespace, "name": LEASE_NAME}
        before = (lease or {}).get("spec") or {}
        changed = before.get("holderIdentity") != self._identity
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._duration_s,
            "renewTime": now,
            "acquireTime": now if changed else before.get("acquireTime", now),
            "leaseTransitions": before.get("leaseTransitions", 0) + (1 if changed and lease else 0),
        }
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
