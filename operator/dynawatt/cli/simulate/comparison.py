"""What ``dynawatt simulate`` was asked and what came out, for its table, its JSON and its report."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from dynawatt.accounting.tariff import Tariff
from dynawatt.cli.simulate.loads import BURSTY_CV
from dynawatt.cli.simulate.options import Slo
from dynawatt.quantities import S_PER_HOUR
from dynawatt.simulation.policies.catalog import BOUND
from dynawatt.simulation.policies.clairvoyant import CLAIRVOYANT, Bound
from dynawatt.simulation.results import PolicyResult
from dynawatt.simulation.settings import QueueOrder
from dynawatt.simulation.static_policies import SINGLE_POOL
from dynawatt.workload.context import FitCount


class Fidelity(StrEnum):
    """How finely fleets are simulated."""

    EVENTS = "events"
    """Every iteration of every replica."""
    SLOTS = "slots"
    """Five minutes at a time, from surfaces."""


@dataclass(frozen=True, slots=True)
class Question:
    """All that decides the result, as it is shown to people."""

    load: str
    rate_scale: float
    interarrival_cv: float
    """Coefficient of variation of the gaps between requests, by which surfaces were simulated."""
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
    fidelity: Fidelity
    cold_start: bool
    predictor_accuracy: float
    startup_s: float | None
    """None: each profile's."""
    released_w: float
    """Of a GPU that no replica holds, under the idling convention."""
    class_cuts: tuple[tuple[int, int], tuple[int, int]]
    """Of inputs and of outputs, tokens."""

    @property
    def is_bursty(self) -> bool:
        """Whether bursts move the load of minutes more than its rate does."""
        return self.interarrival_cv > BURSTY_CV

    @property
    def hours(self) -> float:
        """Simulated time in which requests arrive."""
        return self.horizon_s / S_PER_HOUR


@dataclass(frozen=True, slots=True)
class PolicyRun:
    """One policy's result and what it took."""

    result: PolicyResult
    build_s: float
    """Wall time of building the policy: surfaces, tables, sizing."""
    wall_s: float
    """Of the simulation, without compiling, reading or drawing the load; surfaces that were not kept yet included."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A policy that there is no result of."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ablated:
    """Our policy under one changed condition."""

    group: str
    """Conditions of one kind; empty for the policy as it is."""
    name: str
    result: PolicyResult | None
    """None where there is none."""
    to_single_pool: float | None
    """Energy relative to the tuned static fleet's under the same condition, idling convention."""
    to_unablated: float | None
    """Energy per generated token relative to the policy's as it is, idling convention."""
    reason: str | None
    """Why there is no result."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same load under one policy after another."""

    question: Question
    runs: tuple[PolicyRun, ...]
    """At least one."""
    bounds: Mapping[str, Bound]
    """By name; empty where nobody asked for them."""
    refusals: tuple[Refusal, ...]
    sizing_wall_s: float
    tariff: Tariff | None
    """What energy costs, where somebody said so."""
    fit: FitCount
    """Requests that the model's context did not hold."""
    ablations: tuple[Ablated, ...] = ()

    @property
    def results(self) -> list[PolicyResult]:
        """In order of the runs."""
        return [run.result for run in self.runs]

    @property
    def baseline(self) -> PolicyResult | None:
        """The tuned static fleet, where it is among the results."""
        return next((result for result in self.results if result.name == SINGLE_POOL), None)

    @property
    def bound(self) -> Bound | None:
        """The least of all."""
        return self.bounds.get(BOUND)

    def saving(self, result: PolicyResult) -> float | None:
        """Part of the tuned static fleet's energy that a policy saves, idling convention; None without that fleet."""
        return None if self.baseline is None else result.saving_against(self.baseline)

    def bound_saving(self, bound: Bound) -> float | None:
        """The same for a bound."""
        return None if self.baseline is None else 1 - bound.energy_idling_j / self.baseline.energy_idling_j

    def above_bound(self, result: PolicyResult) -> float | None:
        """Energy beyond the bound, as a part of the bound, idling convention; None without one."""
        return None if self.bound is None else result.energy_idling_j / self.bound.energy_idling_j - 1

    def above_own_bound(self, result: PolicyResult) -> float | None:
        """The same beyond the bound of the queue order that the policy's replicas have."""
        order = order_of(result)
        own = next((bound for bound in self.bounds.values() if bound.order is order), None)
        return None if own is None else result.energy_idling_j / own.energy_idling_j - 1


def order_of(result: PolicyResult) -> QueueOrder:
    """In which a policy's replicas serve requests; all have the same."""
    return result.shapes[0].settings.queue_order


def bound_names(results: list[PolicyResult]) -> list[str]:
    """Names of the bounds that these results are held against, the least first."""
    orders = {order_of(result) for result in results}
    return [name for name, order in CLAIRVOYANT.items() if name == BOUND or order in orders]
