"""The result of ``dynawatt simulate`` in a terminal."""

from collections.abc import Callable, Sequence
from typing import Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from dynawatt.cli.simulate.comparison import Ablated, Comparison, PolicyRun
from dynawatt.cli.simulate.texts import (
    ABLATION_HEADINGS,
    NOTHING,
    ablation_cells,
    above_text,
    fleet_text,
    ms,
    notes,
    per_token_text,
    percent,
    saving_text,
)
from dynawatt.quantities import kwh
from dynawatt.simulation.class_attainment import Attained, ClassAttainment, class_attainments
from dynawatt.simulation.policies.clairvoyant import Bound
from dynawatt.workload.classes import CLASS_NAMES

_LONG: Final = ("above bound", "TTFT in time", "TBT in time")
"""Headings on two lines."""
_FEW: Final = 5
"""Policies up to which there is room for intervals."""


def result_view(comparison: Comparison) -> Group:
    """Policies, classes and what to know about them."""
    return Group(
        _policies(comparison),
        Text(),
        _classes(comparison, "TTFT", lambda each: each.ttft),
        Text(),
        _classes(comparison, "TBT", lambda each: each.tbt),
        *map(_ablations, [comparison.ablations] if comparison.ablations else []),
        Text(),
        *map(Text, notes(comparison)),
    )


def _policies(comparison: Comparison) -> Table:
    high = f"p{comparison.question.slo.percentile:g}"
    table = Table(box=None, pad_edge=False, title_justify="left")
    table.add_column("policy", style="bold", no_wrap=True)
    table.add_column("fleet at the start")
    bound = ["above bound"] if comparison.bounds else []
    cost = [comparison.tariff.currency] if comparison.tariff else []
    for heading in (
        "kWh", "off kWh", "saving", *bound, *cost, "J/token", f"TTFT {high}, ms", f"TBT {high}, ms", "TTFT in time",
        "TBT in time", "GPU-hours", "changes", "wall, s",
    ):  # fmt: skip
        table.add_column(heading, justify="right", no_wrap=heading not in _LONG)
    for run in comparison.runs:
        table.add_row(*_policy_cells(comparison, run))
    for each in comparison.bounds.values():
        table.add_row(*_bound_cells(comparison, each), style="dim")
    return table


def _policy_cells(comparison: Comparison, run: PolicyRun) -> list[str | Text]:
    result, target = run.result, comparison.question.slo.fraction
    tally = result.tally
    return [
        result.name,
        fleet_text(result),
        f"{kwh(result.energy_idling_j):,.2f}",
        f"{kwh(result.energy_off_j):,.2f}",
        saving_text(comparison, result),
        *([above_text(comparison.above_bound(result))] if comparison.bounds else []),
        *([f"{comparison.tariff.cost(result.energy_idling_j):,.2f}"] if comparison.tariff else []),
        per_token_text(result.j_per_token),
        ms(result.ttft_quantile_s(target)),
        ms(tally.tbt_quantile_s(target)),
        _judged(tally.ttft_attainment(), target),
        _judged(tally.tbt_attainment(), target),
        f"{result.gpu_hours:,.1f}",
        f"{result.reconfigurations:,}",
        f"{run.wall_s:.1f}",
    ]


def _bound_cells(comparison: Comparison, bound: Bound) -> list[str]:
    saving = comparison.bound_saving(bound)
    return [
        bound.name,
        f"bound, {bound.order.value}",
        f"{kwh(bound.energy_idling_j):,.2f}",
        f"{kwh(bound.energy_off_j):,.2f}",
        NOTHING if saving is None else f"{saving:+.1%}",
    ]


def _classes(comparison: Comparison, what: str, kind: Callable[[ClassAttainment], Attained | None]) -> Table:
    intervals = len(comparison.runs) <= _FEW
    title = f"{what} in time by request class, %" + (", with 95 % interval" if intervals else "")
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="")
    table.add_column("policy", style="bold", no_wrap=True)
    for name in CLASS_NAMES:
        table.add_column(name, justify="right")
    target = comparison.question.slo.fraction
    for result in comparison.results:
        cells = (_attained(kind(each), target, intervals) for each in class_attainments(result.tally))
        table.add_row(result.name, *cells)
    return table


def _attained(attained: Attained | None, target: float, intervals: bool) -> Text:
    """Two lines with an interval; a dash for a class with too few samples."""
    if attained is None:
        return Text(NOTHING)
    low, high = attained.interval
    text = f"{100 * attained.share:.2f}" + (f"\n{100 * low:.2f}-{100 * high:.2f}" if intervals else "")
    return Text(text, style="" if attained.share >= target else "yellow")


def _ablations(ablations: Sequence[Ablated]) -> Table:
    ours = next((each.result.name for each in ablations if each.result), "")
    title = f"\n{ours} under other conditions, released GPUs idling"
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="")
    for heading in ("", "condition"):
        table.add_column(heading, no_wrap=True)
    for heading in ABLATION_HEADINGS:
        table.add_column(heading, justify="right")
    for each in ablations:
        table.add_row(each.group, each.name, *ablation_cells(each))
    return table


def _judged(share: float, target: float) -> Text:
    return Text(percent(share), style="green" if share >= target else "red")
