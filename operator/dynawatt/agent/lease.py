"""Whether the operator is alive, judged without trusting its clock or ours.

All claims hold only while the operator renews its Lease. Wall clocks of two
machines may differ, so nothing is computed from ``renewTime`` itself: a renewal
is a *change* of the Lease that this process saw happen, and its age is counted
on this process's monotonic clock. The Lease found at start therefore proves
nothing until it is renewed once, and an API server that cannot be reached looks
the same as an operator that does not renew.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LeaseState:
    """The Lease at one moment."""

    fresh: bool
    age_s: float
    """Seconds since the last renewal that was seen; infinite before the first."""
    reason: str
    """Why it is not fresh, in words that stay the same while it lasts; empty when it is."""


class LeaseObserver:
    """Remembers when the Lease was last seen to change."""

    def __init__(self) -> None:
        self._observed = False
        self._renewal: tuple[object, ...] | None = None
        self._renewed_s: float | None = None
        self._duration_s = 0.0
        self._holder = ""

    def observe(self, lease: Mapping[str, Any] | None, now_s: float) -> None:
        """Take note of the Lease object as it is now; None when it is known not to exist."""
        spec = (lease or {}).get("spec") or {}
        renewal = (spec.get("renewTime"), spec.get("holderIdentity")) if lease else None
        if self._observed and renewal is not None and renewal != self._renewal:
            self._renewed_s = now_s
        self._observed = True
        self._renewal = renewal
        if lease:
            duration_s = spec.get("leaseDurationSeconds")
            self._duration_s = float(duration_s) if isinstance(duration_s, int) else 0.0
            self._holder = str(spec.get("holderIdentity") or "")

    def state(self, now_s: float) -> LeaseState:
        """Judge the Lease by what was seen until now."""
        age_s = math.inf if self._renewed_s is None else now_s - self._renewed_s
        if self._renewed_s is None:
            reason = "no renewal of the operator's lease seen yet"
        elif not self._holder:
            reason = "the operator gave its lease up"
        elif age_s >= self._duration_s:
            reason = f"the operator's lease was not renewed for its {self._duration_s:.0f} s"
        else:
            reason = ""
        return LeaseState(fresh=not reason, age_s=age_s, reason=reason)
