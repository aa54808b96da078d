"""The result of ``dynawatt simulate`` in a terminal."""

from collections.abc import Callable
from math import isfinite, isnan

from rich.console import Group
from rich.table import Table
from rich.text import Text

from dynawatt.cli.simulate.comparison import Comparison
from dynawatt.quantities import MS_PER_S, kwh
from dynawatt.simulation.class_attainment import LEAST_SAMPLES, Attained, ClassAttainment, class_attainments
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.results import PolicyResult
from dynawatt.workload.classes import CLASS_NAMES


def result_view(comparison: Comparison) -> Group:
    """Policies, classes and what to know about them."""
    return Group(
        _policies(comparison),
        Text(),
        _classes(comparison, "TTFT", lambda each: each.ttft),
        Text(),
        _classes(comparison, "TBT", lambda each: each.tbt),
        Text(),
        *map(Text, notes(comparison)),
    )


def notes(comparison: Comparison) -> list[str]:
    """Sentences that figures must not be read without."""
    question = comparison.question
    found = [
        f"{comparison.results[0].requests:,} requests in {question.hours:.4g} h of {question.load}, "
        f"rate x {question.rate_scale:.4g}; {question.profile}.",
        f"Inventory: {_servers(question.servers)} of 8 GPUs, {question.servers_rule}, which all policies pay for. kWh, "
        "saving and J/token (per generated token) are with released GPUs idling; off: released GPUs draw nothing.",
        f"In time: share of all requests (TTFT) and of all gaps (TBT) within {question.slo_text}; by class from "
        f"{LEAST_SAMPLES:,} of them on.",
    ]
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
        f"{result.name} left {result.unfinished_requests} requests unfinished; they count as late."
        for result in comparison.results
        if result.unfinished_requests
    ]
    return found


def _servers(count: int) -> str:
    return "1 server" if count == 1 else f"{count} servers"


def fleet_text(result: PolicyResult) -> str:
    """The fleet at the start, such as ``12 x TP8, chunk 1024``."""
    parts = [
        f"{count} x {shape_text(shape)}"
        for index, shape in enumerate(result.shapes)
        if (count := result.initial_replicas(index))
    ]
    return "; ".join(parts)


def shape_text(shape: ReplicaShape) -> str:
    """Tensor parallelism and prefill chunk."""
    order = shape.settings.queue_order.value
    suffix = "" if order == "fcfs" else f", {order}"
    return f"TP{shape.replica.tensor_parallel}, chunk {shape.settings.max_num_batched_tokens}{suffix}"


def ms(value_s: float) -> str:
    """Milliseconds; "never" for infinity, a dash for what nobody saw."""
    return f"{MS_PER_S * value_s:.0f}" if isfinite(value_s) else "-" if isnan(value_s) else "never"


def percent(share: float) -> str:
    """A share with two digits."""
    return f"{share:.2%}"


def saving_text(comparison: Comparison, result: PolicyResult) -> str:
    """The saving as people read it, in parentheses where it does not count; a dash where there is none to tell."""
    saving = comparison.saving(result)
    if saving is None or result is comparison.baseline:
        return "-"
    return f"{saving:+.1%}" if result.slo_met else f"({saving:+.1%})"


def _policies(comparison: Comparison) -> Table:
    high = f"p{comparison.question.slo.percentile:g}"
    table = Table(box=None, pad_edge=False, title_justify="left")
    table.add_column("policy", style="bold", no_wrap=True)
    table.add_column("fleet at the start", no_wrap=True)
    for heading in (
        "kWh", "off kWh", "saving", "J/token", f"TTFT {high}, ms", f"TBT {high}, ms", "TTFT in time", "TBT in time"
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    for result in comparison.results:
        tally, target = result.tally, comparison.question.slo.fraction
        table.add_row(
            result.name,
            fleet_text(result),
            f"{kwh(result.energy_idling_j):,.2f}",
            f"{kwh(result.energy_off_j):,.2f}",
            saving_text(comparison, result),
            "-" if result.j_per_token is None else f"{result.j_per_token:.2f}",
            ms(result.ttft_quantile_s(target)),
            ms(tally.tbt_quantile_s(target)),
            _judged(tally.ttft_attainment(), target),
            _judged(tally.tbt_attainment(), target),
        )
    return table


def _classes(comparison: Comparison, what: str, kind: Callable[[ClassAttainment], Attained | None]) -> Table:
    title = f"{what} in time by request class, %, with 95 % interval"
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="")
    table.add_column("policy", style="bold", no_wrap=True)
    for name in CLASS_NAMES:
        table.add_column(name, justify="right")
    for result in comparison.results:
        table.add_row(result.name, *(_with_interval(kind(each)) for each in class_attainments(result.tally)))
    return table


def _with_interval(attained: Attained | None) -> str:
    """Two lines; a dash for a class with too few samples."""
    if attained is None:
        return "-"
    low, high = attained.interval
    return f"{100 * attained.share:.2f}\n{100 * low:.2f}-{100 * high:.2f}"


def _judged(share: float, target: float) -> Text:
    return Text(percent(share), style="green" if share >= target else "red")
