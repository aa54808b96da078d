"""The result of ``dynawatt simulate`` as one HTML file that opens without a network."""

import html
from collections.abc import Callable, Iterable

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from dynawatt import __version__
from dynawatt.cli.simulate.bars import energy_bars
from dynawatt.cli.simulate.charts import FEW, figure
from dynawatt.cli.simulate.comparison import Comparison, PolicyRun
from dynawatt.cli.simulate.fleet_chart import fleet_figure, our_policy
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
from dynawatt.simulation.class_attainment import LEAST_SAMPLES, Attained, ClassAttainment, class_attainments
from dynawatt.simulation.policies.clairvoyant import Bound
from dynawatt.workload.classes import CLASS_NAMES

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; margin: 2rem auto; max-width: 1480px; padding: 0 1.5rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.scroll { overflow-x: auto; margin-bottom: 1rem; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .4rem; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { font-weight: 600; background: #f6f6f6; vertical-align: bottom; }
th:first-child, td:first-child, table.policies td:nth-child(2), table.policies th:nth-child(2) { text-align: left; }
.met { color: #00684a; } .missed { color: #b00020; font-weight: 600; } .quiet { color: #666; }
.small { font-size: 12px; }
ul { padding-left: 1.2rem; } li { margin: .2rem 0; }
"""
_CONFIG = '{"responsive": true, "displaylogo": false}'


def report_html(comparison: Comparison) -> str:
    """The whole document."""
    question = comparison.question
    title = f"{question.load} on {question.model}, {question.gpu}"
    ours = our_policy(comparison.results)
    charts = {"energy": energy_bars(comparison), "charts": figure(comparison)}
    if ours is not None:
        charts["fleet"] = fleet_figure(ours)
    many = "Only some policies are shown at first. " if len(comparison.results) > FEW else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>dynawatt: {html.escape(title)}</title>
<style>{_STYLE}</style>
<script>{get_plotlyjs()}</script>
</head>
<body>
<h1>{html.escape(title)}</h1>
<p class="quiet">{html.escape(_facts(comparison))}</p>
<h2>Energy, released GPUs idling; strokes: released GPUs off</h2>
<div id="energy"></div>
<h2>Policies</h2>
<div class="scroll">{_policies(comparison)}</div>
<ul>{"".join(f"<li>{html.escape(note)}</li>" for note in [*notes(comparison), _clock_note(comparison)])}</ul>
{"" if ours is None else f'<h2>The fleet of {html.escape(ours.name)}</h2><div id="fleet"></div>'}
{_ablations(comparison)}
<h2>Over time</h2>
<p class="quiet">{many}Click a policy to hide or show it, double-click it to see it alone. Drag across a panel to zoom
all of them, double-click to zoom out.</p>
<div id="charts"></div>
<h2>Attainment by request class</h2>
<div class="scroll">{_classes(comparison, "TTFT", lambda each: each.ttft)}</div>
<div class="scroll">{_classes(comparison, "TBT", lambda each: each.tbt)}</div>
<p class="quiet">Classes by actual input and output length: S short, M medium, L long; shown from {LEAST_SAMPLES:,}
samples on, with the binomial 95 % interval. Misses cluster in bursts, so the truth may lie further off.</p>
<script>
{"".join(_plot(name, each) for name, each in charts.items())}</script>
</body>
</html>
"""


def _plot(name: str, chart: go.Figure) -> str:
    # A script ends at the first "</" that looks like its end tag, wherever it stands.
    data = str(chart.to_json()).replace("</", "<\\/")
    return f'{{const chart = {data}; Plotly.newPlot("{name}", chart.data, chart.layout, {_CONFIG});}}\n'


def _facts(comparison: Comparison) -> str:
    question = comparison.question
    return (
        f"SLO {question.slo_text}; queue order {question.queue_order}; seed {question.seed}; simulated in "
        f"{sum(run.wall_s for run in comparison.runs):.1f} s by dynawatt {__version__}."
    )


def _clock_note(comparison: Comparison) -> str:
    band = comparison.results[0].shapes[0].replica.model.power.clock_band
    return (
        "Seconds and watts are modelled from measured tables. How power falls with the SM clock is derived, not "
        f"measured on this GPU: savings from clocks carry an uncertainty of about {band:.0%} of themselves."
    )


def _policies(comparison: Comparison) -> str:
    cost = [f"{comparison.tariff.currency}<br>idling", "kg CO2e<br>idling"] if comparison.tariff else []
    bound = ["above<br>bound", "above that of<br>its own order"] if comparison.bounds else []
    headings = (
        "policy", "fleet at the start", "kWh<br>idling", "kWh<br>off", "saving<br>idling", *bound, *cost, "J/token",
        "TTFT ms<br>p50", "<br>p99", "TBT ms<br>p50", "<br>p99", "TTFT<br>in time", "TBT<br>in time",
        "GPU-<br>hours", "replica<br>changes", "un-<br>finished", "wall<br>s",
    )  # fmt: skip
    rows = [_policy_row(comparison, run) for run in comparison.runs]
    return _table(
        headings, rows + [_bound_row(comparison, bound) for bound in comparison.bounds.values()], kind="policies"
    )


def _policy_row(comparison: Comparison, run: PolicyRun) -> list[str]:
    result = run.result
    tally, target = result.tally, result.percentile / 100
    bound = [above_text(comparison.above_bound(result)), above_text(comparison.above_own_bound(result))]
    return [
        f"<b>{html.escape(result.name)}</b>",
        html.escape(fleet_text(result)).replace("; ", "<br>"),
        f"{kwh(result.energy_idling_j):,.2f}",
        f"{kwh(result.energy_off_j):,.2f}",
        saving_text(comparison, result),
        *(bound if comparison.bounds else []),
        *_costs(comparison, result.energy_idling_j),
        per_token_text(result.j_per_token),
        ms(result.ttft_quantile_s(0.5)),
        ms(result.ttft_quantile_s(0.99)),
        ms(tally.tbt_quantile_s(0.5)),
        ms(tally.tbt_quantile_s(0.99)),
        _judged(tally.ttft_attainment(), target),
        _judged(tally.tbt_attainment(), target),
        f"{result.gpu_hours:,.1f}",
        f"{result.reconfigurations:,}",
        f"{result.unfinished_requests:,}",
        f"{run.wall_s:.1f}",
    ]


def _bound_row(comparison: Comparison, bound: Bound) -> list[str]:
    saving = comparison.bound_saving(bound)
    return [
        html.escape(bound.name),
        f"bound, {bound.order.value}",
        f"{kwh(bound.energy_idling_j):,.2f}",
        f"{kwh(bound.energy_off_j):,.2f}",
        NOTHING if saving is None else f"{saving:+.1%}",
        NOTHING,
        NOTHING,
        *_costs(comparison, bound.energy_idling_j),
    ]


def _ablations(comparison: Comparison) -> str:
    if not comparison.ablations:
        return ""
    ours = next((each.result.name for each in comparison.ablations if each.result), "")
    cells = ([html.escape(cell) for cell in (f"{each.group}: {each.name}".removeprefix(": "), *ablation_cells(each))]
             for each in comparison.ablations)  # fmt: skip
    table = _table(("condition", *ABLATION_HEADINGS), cells)
    return f'<h2>{html.escape(ours)} under other conditions, released GPUs idling</h2><div class="scroll">{table}</div>'


def _costs(comparison: Comparison, energy_j: float) -> list[str]:
    tariff = comparison.tariff
    return [] if tariff is None else [f"{tariff.cost(energy_j):,.2f}", f"{tariff.carbon_g(energy_j) / 1000:,.1f}"]


def _classes(comparison: Comparison, what: str, kind: Callable[[ClassAttainment], Attained | None]) -> str:
    target = comparison.question.slo.fraction
    headings = [f"{what} in time", *CLASS_NAMES]
    rows = (
        [html.escape(result.name), *(_attained(kind(each), target) for each in class_attainments(result.tally))]
        for result in comparison.results
    )
    return _table(headings, rows)


def _attained(attained: Attained | None, target: float) -> str:
    if attained is None:
        return NOTHING
    low, high = attained.interval
    spread = f"{100 * low:.2f}-{100 * high:.2f}"
    return (
        f'<span title="{attained.samples:,} samples">{_judged(attained.share, target)}</span><br>'
        f'<span class="quiet small">{spread}</span>'
    )


def _judged(share: float, target: float) -> str:
    return f'<span class="{"met" if share >= target else "missed"}">{percent(share)}</span>'


def _table(headings: Iterable[str], rows: Iterable[list[str]], kind: str = "classes") -> str:
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
