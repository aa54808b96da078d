"""Panels over time as plotly figures."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import isnan
from typing import Any, Final, NamedTuple

import plotly.graph_objects as go

from dynawatt.dashboards.preview.styling import colour_at, colours, defaults, overrides, steps
from dynawatt.dashboards.preview.units import axis_of, text_of

_MOST_NAMED: Final = 12
"""Series of which a legend still helps."""
_GRID: Final = "#e6e8eb"


class Line(NamedTuple):
    """One series by the name it has in the legend."""

    name: str
    times_s: Sequence[float]
    values: Sequence[float]


def time_series(panel: Mapping[str, Any], lines: Sequence[Line], span: tuple[float, float]) -> go.Figure:
    """Lines or bars, stacked or not, with thresholds as dashed lines."""
    config, chart = defaults(panel), go.Figure()
    custom = config.get("custom", {})
    bars, stacked = custom.get("drawStyle") == "bars", custom.get("stacking", {}).get("mode") == "normal"
    chosen = colours(panel, [line.name for line in lines])
    for line in _in_order(panel, lines):
        look = overrides(panel, line.name)
        times = [_utc(time_s) for time_s in line.times_s]
        shown = [text_of(value, config.get("unit", "none")) for value in line.values]
        common: dict[str, Any] = {"name": line.name, "x": times, "y": line.values, "customdata": shown}
        common["hovertemplate"] = "%{customdata}"
        if bars:
            chart.add_bar(**common, marker_color=chosen[line.name], marker_line_width=0)
            continue
        filled_to = look.get("custom.fillBelowTo")
        chart.add_scatter(
            **common,
            mode="lines",
            showlegend=look.get("custom.lineWidth") != 0 or bool(filled_to),
            line={
                "color": chosen[line.name],
                "width": look.get("custom.lineWidth", 1.6),
                "dash": "dash" if "custom.lineStyle" in look else "solid",
                "shape": "hv" if custom.get("lineInterpolation") == "stepAfter" else "linear",
            },
            stackgroup="all" if stacked else None,
            fill="tonexty" if filled_to or stacked else None,
            fillcolor=_faint(chosen[line.name]) if filled_to or stacked else None,
        )
    if custom.get("thresholdsStyle", {}).get("mode") == "dashed":
        _draw_thresholds(chart, config, lines)
    _arrange(chart, config, span, lines)
    chart.update_layout(barmode="stack", showlegend=len(lines) <= _MOST_NAMED)
    return chart


def state_timeline(panel: Mapping[str, Any], lines: Sequence[Line], span: tuple[float, float]) -> go.Figure:
    """One row of colours for each series, latest query last, as in the legend from top to bottom."""
    config = defaults(panel)
    options = config["mappings"][0]["options"]
    values = sorted(float(value) for value in options)
    bands = [colour_at(value, config) for value in values]
    ordered = list(reversed(lines))
    moments = sorted({time_s for line in ordered for time_s in line.times_s})
    rows = [
        [values.index(found) if (found := _at(line, moment)) in values else None for moment in moments]
        for line in ordered
    ]
    shown = [[None if cell is None else options[f"{values[cell]:.0f}"]["text"] for cell in row] for row in rows]
    scale = [(end / len(bands), colour) for index, colour in enumerate(bands) for end in (index, index + 1)]
    chart = go.Figure(
        go.Heatmap(
            x=[_utc(moment) for moment in moments],
            y=[line.name for line in ordered],
            z=rows,
            zmin=-0.5,
            zmax=len(bands) - 0.5,
            colorscale=scale,
            customdata=shown,
            hovertemplate="%{y}: %{customdata}<extra></extra>",
            showscale=False,
            ygap=2,
        )
    )
    _arrange(chart, {}, span)
    chart.update_yaxes(tickfont_size=10, showgrid=False, automargin=True)
    if len(ordered) <= _MOST_NAMED:
        chart.update_yaxes(dtick=1)
    return chart


def _at(line: Line, moment_s: float) -> float | None:
    found = dict(zip(line.times_s, line.values, strict=True))
    return found.get(moment_s)


def _in_order(panel: Mapping[str, Any], lines: Sequence[Line]) -> list[Line]:
    """The lower end of a band right before its upper end, which is filled down to it."""
    by_name = {line.name: line for line in lines}
    bands = [line for line in lines if overrides(panel, line.name).get("custom.fillBelowTo") in by_name]
    first = [each for line in bands for each in (by_name[overrides(panel, line.name)["custom.fillBelowTo"]], line)]
    return first + [line for line in lines if line not in first]


def _draw_thresholds(chart: go.Figure, config: Mapping[str, Any], lines: Sequence[Line]) -> None:
    """Those that are near the values: a bound far away would flatten what is shown."""
    highest = max((value for line in lines for value in line.values if not isnan(value)), default=0.0)
    for bound, colour in steps(config):
        if bound is not None and bound <= max(4 * highest, 0.0):
            chart.add_hline(bound, line={"color": colour, "dash": "dash", "width": 1})


def _arrange(
    chart: go.Figure, config: Mapping[str, Any], span: tuple[float, float], lines: Sequence[Line] = ()
) -> None:
    chart.update_layout(
        template="plotly_white",
        margin={"l": 8, "r": 8, "t": 6, "b": 4},
        font={"family": "system-ui, sans-serif", "size": 11, "color": "#343a40"},
        hovermode="x unified",
        legend={"orientation": "h", "y": -0.12, "yanchor": "top", "x": 0, "font_size": 10},
    )
    chart.update_xaxes(range=[_utc(end) for end in span], gridcolor=_GRID, tickformat="%H:%M:%S", nticks=6)
    limits: dict[str, Any] = {"rangemode": "tozero"} if config.get("min") == 0 else {}
    if config.get("max") is not None:
        limits["autorangeoptions"] = {"maxallowed": config["max"]}
    if config.get("min") == 0 and all(value == 0 for line in lines for value in line.values):
        limits["range"] = [0, 1]  # of a line at 0 plotly makes the middle
    chart.update_yaxes(
        gridcolor=_GRID, zerolinecolor=_GRID, automargin=True, nticks=6, **axis_of(config.get("unit", "")), **limits
    )


def _utc(time_s: float) -> datetime:
    return datetime.fromtimestamp(time_s, UTC)


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.2)"
