"""Governs clocks in the simulator as the agents on the nodes do: one governor per replica, one step per second."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from dynawatt.governing.governor import ClockGovernor
from dynawatt.governing.reading import PodReading
from dynawatt.simulation.fleet_core import FleetSnapshot, ReplicaState
from dynawatt.simulation.policy import Governed

STEP_S: Final = 1.0
_ACTIVE: Final = (ReplicaState.SERVING, ReplicaState.DRAINING)


@dataclass(slots=True)
class Agents:
    """The governors of one run."""

    _governors: dict[int, tuple[Governed, ClockGovernor]] = field(default_factory=dict)

    def step(self, now_s: float, claims: Mapping[int, Governed], snapshot: FleetSnapshot) -> dict[int, float]:
        """The clocks of claimed replicas that serve or drain, in MHz by replica id.

        A governor is new, and begins at the ceiling, where a claim is; it adopts a claim that has changed.
        """
        clocks_mhz: dict[int, float] = {}
        governors: dict[int, tuple[Governed, ClockGovernor]] = {}
        for identity, reading in pod_readings(snapshot).items():
            claim = claims.get(identity)
            if claim is None:
                continue
            before, governor = self._governors.get(identity, (claim, None))
            if governor is None:
                governor = ClockGovernor(claim.table, claim.floor_mhz, claim.ceiling_mhz)
            elif before != claim:
                governor.adopt(claim.table, claim.floor_mhz, claim.ceiling_mhz)
            governors[identity] = (claim, governor)
            clocks_mhz[identity] = float(governor.step(now_s, reading))
        self._governors = governors
        return clocks_mhz


def pod_readings(snapshot: FleetSnapshot) -> dict[int, PodReading]:
    """What the metrics of every replica that serves or drains say, by replica id.

    First tokens are judged by the objective of their own input length, which live only the plug-in can.
    """
    columns = (
        snapshot.running,
        snapshot.waiting,
        snapshot.kv_usage,
        snapshot.finished,
        snapshot.first_tokens,
        snapshot.first_tokens_met,
        snapshot.gaps,
        snapshot.gaps_met,
        snapshot.prompt_tokens,
        snapshot.first_tokens + snapshot.gaps,
    )
    # Lists first: taking single elements out of arrays is slow, and this runs for every simulated second.
    rows = zip(*(column.tolist() for column in columns), strict=True)
    found = zip(snapshot.id.tolist(), snapshot.state.tolist(), rows, strict=True)
    return {identity: PodReading(*row) for identity, state, row in found if state in _ACTIVE}
