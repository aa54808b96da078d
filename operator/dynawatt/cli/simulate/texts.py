"""Figures of ``dynawatt simulate`` as people read them, in a terminal and in the report."""

from collections import Counter
from math import isfinite, isnan
from typing import Final

from dynawatt.cli.simulate.comparison import Ablated, Comparison, Fidelity
from dynawatt.quantities import MS_PER_S, kwh
from dynawatt.simulation.class_attainment import LEAST_SAMPLES
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.results import PolicyResult

NOTHING: Final = "-"
ABLATION_HEADINGS: Final = (
    "kWh", "of single-pool", "J/token against unchanged", "TTFT in time", "TBT in time", "changes"
)  # fmt: skip
_MOST_SHAPES: Final = 2
"""Of a fleet that is told in full."""


def notes(comparison: Comparison) -> list[str]:
    """Sentences that figures must not be read without."""
    question = comparison.question
    found = [
        f"{comparison.results[0].requests:,} requests in {question.hours:.4g} h of {question.load}, "
        f"rate x {question.rate_scale:.4g}; {question.profile}; {_fidelity(question.fidelity)}.",
        f"Inventory: {_servers(question.servers)} of 8 GPUs, {question.servers_rule}, which all policies pay for. kWh, "
        f"saving and J/token (per generated token) are with released GPUs idling at {question.released_w:g} W; off: "
        "released GPUs draw nothing.",
        f"In time: share of all requests (TTFT) and of all gaps (TBT) within {question.slo_text}; by class from "
        f"{LEAST_SAMPLES:,} of them on.",
    ]
    if comparison.bound is not None:
        found.append(
            f"{comparison.bound.name} is no policy but what no plan over these shapes can go below: it knows the load "
            "and switches for free. Above it: energy beyond, as a part of it."
        )
    if question.is_bursty and question.fidelity is Fidelity.SLOTS:
        found.append(
            f"Gaps between requests have a CV of {question.interarrival_cv:.3g}: slots do not see how policies answer "
            "bursts within seconds, and make those that do look late; --fidelity events simulates it."
        )
    if comparison.fit.dropped or comparison.fit.clipped:
        found.append(
            f"Of the load {comparison.fit.dropped} requests were dropped (prompt longer than the context) and "
            f"{comparison.fit.clipped} clipped (answer cut to what fits)."
        )
    found += [
        f"{result.name} needs {_servers(result.servers)} at the peak, and pays for all of them."
        for result in comparison.results
        if result.servers > question.servers
    ]
    if any(not result.slo_met for result in comparison.results):
        found.append("Savings in parentheses do not count: the SLO was missed.")
    found += [
        f"{result.name} left {result.unfinished_requests:,} requests unfinished; they count as late."
        for result in comparison.results
        if result.unfinished_requests
    ]
    found += [f"{refusal.name} was not simulated: {refusal.reason}." for refusal in comparison.refusals]
    return found


def _servers(count: int) -> str:
    return "1 server" if count == 1 else f"{count} servers"


def _fidelity(fidelity: Fidelity) -> str:
    return "every iteration simulated" if fidelity is Fidelity.EVENTS else "simulated slot by slot from surfaces"


def fleet_text(result: PolicyResult) -> str:
    """The fleet at the start, such as ``12 x TP8, chunk 1024``; only degrees where there are many shapes."""
    shapes: Counter[str] = Counter()
    degrees: Counter[int] = Counter()
    for index, shape in enumerate(result.shapes):
        if count := result.initial_replicas(index):
            shapes[shape_text(shape)] += count
            degrees[shape.replica.tensor_parallel] += count
    if len(shapes) <= _MOST_SHAPES:
        return "; ".join(f"{count} x {shape}" for shape, count in shapes.items())
    return ", ".join(f"{count} x TP{degree}" for degree, count in sorted(degrees.items(), reverse=True))


def shape_text(shape: ReplicaShape) -> str:
    """Tensor parallelism and prefill chunk."""
    order = shape.settings.queue_order.value
    suffix = "" if order == "fcfs" else f", {order}"
    return f"TP{shape.replica.tensor_parallel}, chunk {shape.settings.max_num_batched_tokens}{suffix}"


def ms(value_s: float) -> str:
    """Milliseconds; "never" for infinity, a dash for what nobody saw."""
    return f"{MS_PER_S * value_s:.0f}" if isfinite(value_s) else NOTHING if isnan(value_s) else "never"


def percent(share: float) -> str:
    """A share with two digits."""
    return f"{share:.2%}"


def saving_text(comparison: Comparison, result: PolicyResult) -> str:
    """The saving as people read it, in parentheses where it does not count; a dash where there is none to tell."""
    saving = comparison.saving(result)
    if saving is None or result is comparison.baseline:
        return NOTHING
    return f"{saving:+.1%}" if result.slo_met else f"({saving:+.1%})"


def above_text(above: float | None) -> str:
    """Energy beyond a bound; a dash without one."""
    return NOTHING if above is None else f"{above:+.1%}"


def ablation_cells(ablated: Ablated) -> list[str]:
    """Under ABLATION_HEADINGS; the reason in place of figures that there are none of."""
    result = ablated.result
    if result is None:
        return [f"none: {ablated.reason}"]
    relative = "" if ablated.to_single_pool is None else f"{ablated.to_single_pool:.3f}"
    return [
        f"{kwh(result.energy_idling_j):,.2f}",
        relative if result.slo_met else f"({relative})",
        NOTHING if ablated.to_unablated is None else f"{ablated.to_unablated - 1:+.1%}",
        percent(result.tally.ttft_attainment()),
        percent(result.tally.tbt_attainment()),
        f"{result.reconfigurations:,}",
    ]


def per_token_text(j_per_token: float | None) -> str:
    """Joules; a dash where nothing was generated."""
    return NOTHING if j_per_token is None else f"{j_per_token:.2f}"
