"""The result of ``dynawatt simulate`` as one HTML file that opens without a network."""

import html
from collections.abc import Iterable

from plotly.offline import get_plotlyjs

from dynawatt import __version__
from dynawatt.cli.simulate.charts import figure
from dynawatt.cli.simulate.comparison import Comparison
from dynawatt.cli.simulate.table import fleet_text, ms, notes, percent, saving_text
from dynawatt.quantities import kwh
from dynawatt.simulation.class_attainment import LEAST_SAMPLES, Attained, class_attainments
from dynawatt.simulation.results import PolicyResult

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; margin: 2rem auto; max-width: 1280px; padding: 0 1.5rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .5rem; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { font-weight: 600; background: #f6f6f6; vertical-align: bottom; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
.met { color: #00684a; } .missed { color: #b00020; font-weight: 600; } .quiet { color: #666; }
ul { padding-left: 1.2rem; } li { margin: .2rem 0; }
"""
_CONFIG = '{"responsive": true, "displaylogo": false}'


def report_html(comparison: Comparison) -> str:
    """The whole document."""
    question = comparison.question
    title = f"{question.load} on {question.model}, {question.gpu}"
    drawn = figure(comparison).to_json()
    # A script ends at the first "</" that looks like its end tag, wherever it stands.
    data = drawn.replace("</", "<\\/")
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
<h2>Policies</h2>
<div class="scroll">{_policies(comparison)}</div>
<ul>{"".join(f"<li>{html.escape(note)}</li>" for note in [*notes(comparison), _clock_note(comparison)])}</ul>
<h2>Over time</h2>
<p class="quiet">Drag across a panel to zoom all of them, double-click to zoom out; click a policy to hide it.</p>
<div id="charts"></div>
<h2>Attainment by request class</h2>
<div class="scroll">{_classes(comparison)}</div>
<p class="quiet">Classes by actual input and output length: S short, M medium, L long; shown from {LEAST_SAMPLES:,}
samples on, with the binomial 95 % interval. Misses cluster in bursts, so the truth may lie further off.</p>
<script>
const charts = {data};
Plotly.newPlot("charts", charts.data, charts.layout, {_CONFIG});
</script>
</body>
</html>
"""


def _facts(comparison: Comparison) -> str:
    question = comparison.question
    return (
        f"SLO {question.slo_text}; queue order {question.queue_order}; seed {question.seed}; simulated in "
        f"{sum(comparison.wall_s):.1f} s by dynawatt {__version__}."
    )


def _clock_note(comparison: Comparison) -> str:
    band = comparison.results[0].shapes[0].replica.model.power.clock_band
    return (
        "Seconds and watts are modelled from measured tables. How power falls with the SM clock is derived, not "
        f"measured on this GPU: savings from clocks carry an uncertainty of about {band:.0%} of themselves."
    )


def _policies(comparison: Comparison) -> str:
    headings = (
        "policy", "fleet at the start", "kWh<br>idling", "kWh<br>off", "saving<br>idling", "J/token",
        "TTFT ms<br>p50", "<br>p99", "TBT ms<br>p50", "<br>p99", "TTFT<br>in time", "TBT<br>in time",
        "GPU-<br>hours", "replica<br>changes", "un-<br>finished",
    )  # fmt: skip
    return _table(headings, (_policy_row(comparison, result) for result in comparison.results))


def _policy_row(comparison: Comparison, result: PolicyResult) -> list[str]:
    tally, target = result.tally, result.percentile / 100
    return [
        f"<b>{html.escape(result.name)}</b>",
        html.escape(fleet_text(result)).replace("; ", "<br>"),
        f"{kwh(result.energy_idling_j):,.2f}",
        f"{kwh(result.energy_off_j):,.2f}",
        saving_text(comparison, result),
        "-" if result.j_per_token is None else f"{result.j_per_token:.2f}",
        ms(result.ttft_quantile_s(0.5)),
        ms(result.ttft_quantile_s(0.99)),
        ms(tally.tbt_quantile_s(0.5)),
        ms(tally.tbt_quantile_s(0.99)),
        _judged(tally.ttft_attainment(), target),
        _judged(tally.tbt_attainment(), target),
        f"{result.gpu_hours:,.1f}",
        f"{result.reconfigurations}",
        f"{result.unfinished_requests}",
    ]


def _classes(comparison: Comparison) -> str:
    headings = ["class"]
    for result in comparison.results:
        headings += [f"{html.escape(result.name)}<br>TTFT in time", "<br>TBT in time"]
    target = comparison.question.slo.fraction
    columns = [class_attainments(result.tally) for result in comparison.results]
    rows = (
        [of_class[0].name, *(_attained(kind, target) for each in of_class for kind in (each.ttft, each.tbt))]
        for of_class in zip(*columns, strict=True)
    )
    return _table(headings, rows)


def _attained(attained: Attained | None, target: float) -> str:
    if attained is None:
        return "-"
    low, high = attained.interval
    return (
        f"{_judged(attained.share, target)} <span class='quiet'>({100 * low:.2f}-{100 * high:.2f}), "
        f"{attained.samples:,}</span>"
    )


def _judged(share: float, target: float) -> str:
    return f'<span class="{"met" if share >= target else "missed"}">{percent(share)}</span>'


def _table(headings: Iterable[str], rows: Iterable[list[str]]) -> str:
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
