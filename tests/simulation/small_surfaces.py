"""Surfaces of the small replica, coarse enough to be built within a test."""

from dataclasses import dataclass, field, replace

from dynawatt.simulation.surfaces import build_surface


@dataclass
class CoarseSurfaces:
    every: int = 4
    """One in so many clocks is simulated."""
    known: dict = field(default_factory=dict)

    def get_all(self, questions):
        return [self.get(question) for question in questions]

    def get(self, question):
        mark = question.fingerprint()
        if mark not in self.known:
            clocks_mhz = question.clocks_mhz[: -1 : self.every] + question.clocks_mhz[-1:]
            self.known[mark] = build_surface(
                replace(question, clocks_mhz=clocks_mhz, fleet_sizes=(1, 3), requests=3000, attainments=(0.99,))
            )
        return self.known[mark]
