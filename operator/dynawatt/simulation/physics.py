"""How far simulated replicas are from the profiles that policies plan with."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from dynawatt.simulation.fleet_core import ReplicaShape


class Physics(NamedTuple):
    """Factors of what every profile says."""

    time_factor: float = 1.0
    """Of the seconds of every iteration."""
    power_factor: float = 1.0
    """Of the watts of every GPU that a replica holds."""

    def of(self, shapes: Sequence[ReplicaShape]) -> list[ReplicaShape]:
        """What policies take for these shapes, as it really is."""
        return [
            replace(
                shape,
                replica=shape.replica.calibrated(
                    time_factor=self.time_factor * shape.replica.time_factor,
                    power_factor=self.power_factor * shape.replica.power_factor,
                ),
            )
            for shape in shapes
        ]
