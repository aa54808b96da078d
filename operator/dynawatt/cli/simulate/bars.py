"""The report's first chart: energy by policy as bars, the bound as a line."""

from typing import Any, Final

import plotly.graph_objects as go

from dynawatt.cli.simulate.comparison import Comparison
from dynawatt.cli.simulate.texts import saving_text
from dynawatt.quantities import kwh
from dynawatt.simulation.policies.dynawatt import DYNAWATT
from dynawatt.simulation.results import PolicyResult

_OTHERS: Final = "#7FB2D3"
_OURS: Final = "#00795A"
_MISSED: Final = "#C9C9C9"
_BOUND: Final = "#B00020"
_BAR_HEIGHT: Final = 26


def energy_bars(comparison: Comparison) -> go.Figure:
    """One bar per policy in the order of the table, released GPUs idling; a stroke in it where they are off."""
    results = comparison.results
    names = [result.name for result in results]
    drawn = go.Figure()
    drawn.add_trace(
        go.Bar(
            x=[round(kwh(result.energy_idling_j), 3) for result in results],
            y=names,
            orientation="h",
            marker={
                "color": [_colour(result) for result in results],
                "pattern": {"shape": ["" if result.slo_met else "/" for result in results], "fgcolor": "#888"},
            },
            text=[_label(comparison, result) for result in results],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x} kWh<extra></extra>",
            showlegend=False,
        )
    )
    drawn.add_trace(
        go.Scatter(
            x=[round(kwh(result.energy_off_j), 3) for result in results],
            y=names,
            mode="markers",
            marker={"symbol": "line-ns", "size": 14, "line": {"width": 2, "color": "#222"}},
            hovertemplate="%{y}: %{x} kWh, released GPUs off<extra></extra>",
            showlegend=False,
        )
    )
    if comparison.bound is not None:
        _mark_bound(drawn, kwh(comparison.bound.energy_idling_j), comparison.bound.name)
    drawn.update_xaxes(title_text="kWh", tickformat=",", rangemode="tozero", gridcolor="#e4e4e4", zeroline=False)
    drawn.update_yaxes(autorange="reversed", ticksuffix=" ")
    drawn.update_layout(
        height=_BAR_HEIGHT * len(results) + 90,
        margin={"l": 150, "r": 130, "t": 30, "b": 40},
        bargap=0.25,
        plot_bgcolor="white",
        paper_bgcolor="white",
        font={"family": "system-ui, sans-serif", "size": 12, "color": "#333"},
    )
    return drawn


def _mark_bound(drawn: go.Figure, bound_kwh: float, name: str) -> None:
    line: dict[str, Any] = {"color": _BOUND, "width": 1.5, "dash": "dash"}
    drawn.add_shape(type="line", x0=bound_kwh, x1=bound_kwh, y0=0, y1=1, yref="y domain", line=line)
    drawn.add_annotation(
        text=f"{name}, {bound_kwh:.4g} kWh", x=bound_kwh, y=1, yref="y domain", yanchor="bottom", showarrow=False,
        font={"color": _BOUND, "size": 12},
    )  # fmt: skip


def _colour(result: PolicyResult) -> str:
    if not result.slo_met:
        return _MISSED
    return _OURS if result.name in DYNAWATT else _OTHERS


def _label(comparison: Comparison, result: PolicyResult) -> str:
    if not result.slo_met:
        return " misses the SLO"
    return "" if result is comparison.baseline else f" {saving_text(comparison, result)}"
