"""What ``dynawatt simulate`` was asked and what came out, for its table, its JSON and its report."""

from dataclasses import dataclass

from dynawatt.cli.simulate.options import Slo
from dynawatt.quantities import S_PER_HOUR
from dynawatt.simulation.results import PolicyResult
from dynawatt.simulation.static_policies import SINGLE_POOL
from dynawatt.workload.context import FitCount


@dataclass(frozen=True, slots=True)
class Question:
    """All that decides the result, as it is shown to people."""

    load: str
    rate_scale: float
    model: str
    gpu: str
    profile: str
    slo: Slo
    slo_text: str
    queue_order: str
    horizon_s: float
    servers: int
    servers_rule: str
    """Where the inventory comes from."""
    seed: int

    @property
    def hours(self) -> float:
        """Simulated time in which requests arrive."""
        return self.horizon_s / S_PER_HOUR


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same load under one policy after another."""

    question: Question
    results: tuple[PolicyResult, ...]
    """At least one."""
    wall_s: tuple[float, ...]
    """Of each simulation, without compiling, sizing, reading or drawing the load."""
    sizing_wall_s: float
    fit: FitCount
    """Requests that the model's context did not hold."""

    @property
    def baseline(self) -> PolicyResult | None:
        """The tuned static fleet, where it is among the results."""
        return next((result for result in self.results if result.name == SINGLE_POOL), None)

    def saving(self, result: PolicyResult) -> float | None:
        """Part of the tuned static fleet's energy that a policy saves, idling convention; None without that fleet."""
        return None if self.baseline is None else result.saving_against(self.baseline)
