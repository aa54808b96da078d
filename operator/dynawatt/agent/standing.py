"""Whether claims hold at all: while the operator renews its Lease and nobody has switched dynawatt off."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from dynawatt.agent.lease import LeaseObserver, LeaseState
from dynawatt.agent.refusal import Refusal
from dynawatt.api.conditions import Reason
from dynawatt.api.switch import switched_off

Known: TypeAlias = tuple[bool, Mapping[str, Any] | None]
"""Whether anything is known of an object, and the object if it exists."""

_SWITCH_UNKNOWN: Final = "it is not known yet whether dynawatt is switched off"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether claims hold, at one moment."""

    lease: LeaseState
    switched_off: str
    """What the cluster-wide switch says when it is off; empty when it is on."""
    barred: Refusal | None
    """Why no claim holds; None when claims hold."""


class Judge:
    """Judges by what was seen of Lease and switch until now, and logs when its judgement changes."""

    def __init__(self) -> None:
        self._lease = LeaseObserver()
        self._barred: Refusal | None = None

    def judge(self, *, lease: Known, switch: Known, now_s: float) -> Standing:
        """Take note of both as they are now; ``now_s`` is monotonic."""
        known, found = lease
        if known:
            self._lease.observe(found, now_s)
        state = self._lease.state(now_s)
        known, found = switch
        off = switched_off(found) if known else _SWITCH_UNKNOWN
        barred = None
        if off:
            barred = Refusal(Reason.CLOCKS_SWITCHED_OFF, off)
        elif not state.fresh:
            barred = Refusal(Reason.LEASE_STALE, state.reason)
        if barred != self._barred:
            told = f"claims hold=no reason={barred.reason} message={barred.message!r}" if barred else "claims hold=yes"
            _log.log(logging.WARNING if barred else logging.INFO, told)
            self._barred = barred
        return Standing(state, off, barred)
