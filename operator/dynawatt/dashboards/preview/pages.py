"""One static page for each dashboard."""

import html
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Final

import plotly.graph_objects as go

from dynawatt.dashboards.asking import filled
from dynawatt.dashboards.preview.charts import state_timeline, time_series
from dynawatt.dashboards.preview.reading import Answers, Row, Span
from dynawatt.dashboards.preview.styling import colour_at, defaults, overrides
from dynawatt.dashboards.preview.units import text_of

SCRIPT: Final = "plotly.min.js"
"""Beside the pages."""
_UNIT_PX: Final = 30
"""Of the height of a panel, as in Grafana."""
_TITLE_PX: Final = 34
_STYLE: Final = """
body { font: 13px/1.45 system-ui, sans-serif; color: #212529; background: #f4f5f7; margin: 0; padding: 1.2rem 1.5rem; }
h1 { font-size: 1.35rem; margin: 0 0 .15rem; } h2 { font-size: 1rem; margin: 1.1rem 0 .45rem; color: #495057; }
p.quiet { color: #6c757d; margin: .1rem 0 .6rem; } a { color: #2f6fde; margin-right: .8rem; }
.grid { display: grid; grid-template-columns: repeat(24, minmax(0, 1fr)); gap: 8px; }
.panel { background: #fff; border: 1px solid #dee2e6; border-radius: 3px; padding: 6px 8px; overflow: hidden;
  box-sizing: border-box; }
.panel h3 { font-size: 12.5px; font-weight: 600; margin: 0 0 2px; white-space: nowrap; overflow: hidden;
  text-overflow: ellipsis; }
.number { font-size: 27px; font-weight: 600; text-align: center; padding-top: 16px; }
.none { color: #868e96; text-align: center; padding-top: 18px; }
.scroll { overflow: auto; max-height: calc(100% - 26px); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 12px; }
th, td { text-align: left; padding: .2rem .45rem; border-bottom: 1px solid #e9ecef; white-space: nowrap; }
th { color: #495057; font-weight: 600; }
"""


def page_html(
    dashboard: Mapping[str, Any],
    answers: Mapping[int, Answers],
    span: Span,
    *,
    values: Mapping[str, str],
    others: Mapping[str, str],
) -> str:
    """The document.

    Args:
        dashboard: As in the JSON.
        answers: By panel id.
        span: That is shown.
        values: Of the dashboard's variables, for titles that name them.
        others: Titles of all dashboards by file name, to link them.
    """
    charts: dict[str, go.Figure] = {}
    body = []
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            body.append(f"</div><h2>{html.escape(panel['title'])}</h2><div class='grid'>")
            continue
        body.append(_panel(panel, answers[panel["id"]], span, values, charts))
    title = html.escape(dashboard["title"])
    links = "".join(f'<a href="{name}">{html.escape(other)}</a>' for name, other in others.items())
    shown = " to ".join(f"{datetime.fromtimestamp(end, UTC):%Y-%m-%d %H:%M:%S}" for end in (span.start_s, span.end_s))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>{_STYLE}</style>
<script src="{SCRIPT}"></script>
</head>
<body>
<h1>{title}</h1>
<p class="quiet">{html.escape(dashboard["description"])}<br>{shown} UTC. {links}</p>
<div class="grid">{"".join(body)}</div>
<script>
{"".join(_plot(name, chart) for name, chart in charts.items())}</script>
</body>
</html>
"""


def _panel(
    panel: Mapping[str, Any],
    answers: Answers,
    span: Span,
    values: Mapping[str, str],
    charts: dict[str, go.Figure],
) -> str:
    place, height_px = panel["gridPos"], panel["gridPos"]["h"] * _UNIT_PX
    if panel["type"] == "stat":
        inside = _number(panel, answers)
    elif panel["type"] == "table":
        inside = _table(panel, answers.rows)
    elif not answers.lines:
        inside = "<div class='none'>no data</div>"
    else:
        draw = state_timeline if panel["type"] == "state-timeline" else time_series
        chart = draw(panel, answers.lines, (span.start_s, span.end_s))
        chart.update_layout(height=height_px - _TITLE_PX)
        name = f"panel-{panel['id']}"
        charts[name], inside = chart, f"<div id='{name}'></div>"
    title, text = (html.escape(filled(panel[each], values), quote=True) for each in ("title", "description"))
    return (
        f"<div class='panel' style='grid-column: span {place['w']}; height: {height_px}px' title='{text}'>"
        f"<h3>{title}</h3>{inside}</div>"
    )


def _number(panel: Mapping[str, Any], answers: Answers) -> str:
    config = defaults(panel)
    latest = [line.values[-1] for line in answers.lines if line.values and isfinite(line.values[-1])]
    if not latest:
        return "<div class='none'>no data</div>"
    return "".join(
        f"<div class='number' style='color: {colour_at(value, config)}'>"
        f"{html.escape(text_of(value, config['unit'], config.get('decimals')))}</div>"
        for value in latest
    )


def _table(panel: Mapping[str, Any], columns: Sequence[Sequence[Row]]) -> str:
    names = next(each["options"] for each in panel["transformations"] if each["id"] == "organize")["renameByName"]
    keys = {label: title for label, title in names.items() if not label.startswith("Value")}
    titles = [title for label, title in names.items() if label.startswith("Value")]
    cells: dict[tuple[str, ...], dict[str, float]] = {}
    for title, rows in zip(titles, columns, strict=True):
        for row in rows:
            cells.setdefault(tuple(row.labels.get(label, "") for label in keys), {})[title] = row.value
    if not cells:
        return "<div class='none'>no data</div>"
    heads = "".join(f"<th>{html.escape(title)}</th>" for title in [*keys.values(), *titles])
    lines = (
        f"<tr>{''.join(f'<td>{html.escape(label)}</td>' for label in key)}"
        f"{''.join(_cell(panel, title, found.get(title)) for title in titles)}</tr>"
        for key, found in sorted(cells.items())
    )
    return f"<div class='scroll'><table><tr>{heads}</tr>{''.join(lines)}</table></div>"


def _cell(panel: Mapping[str, Any], title: str, value: float | None) -> str:
    if value is None:
        return "<td></td>"
    look = overrides(panel, title)
    coloured = "custom.cellOptions" in look
    style = f" style='color: {colour_at(value, look)}; font-weight: 600'" if coloured else ""
    return f"<td{style}>{html.escape(text_of(value, look['unit']))}</td>"


def _plot(name: str, chart: go.Figure) -> str:
    # A script ends at the first "</" that looks like its end tag, wherever it stands.
    data = str(chart.to_json()).replace("</", "<\\/")
    return (
        f'{{const chart = {data}; Plotly.newPlot("{name}", chart.data, chart.layout, '
        '{"responsive": true, "displayModeBar": false});}\n'
    )
