"""The report's last chart: the fleet of our own policy over time."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from dynawatt.cli.simulate.charts import COLOURS, TimeUnit, ends_s, rounded, time_unit
from dynawatt.cli.simulate.texts import shape_text
from dynawatt.simulation.inventory import GPUS_PER_SERVER
from dynawatt.simulation.policies.dynawatt import DYNAWATT
from dynawatt.simulation.results import PolicyResult

_PANEL_HEIGHT: Final = 190
_CHANGING: Final = "#BBBBBB"

Numbers = NDArray[np.float64]


def our_policy(results: Sequence[PolicyResult]) -> PolicyResult | None:
    """The one whose fleet is shown: the last of ours."""
    return next((result for result in reversed(results) if result.name in DYNAWATT), None)


def fleet_figure(result: PolicyResult) -> go.Figure:
    """Load, GPUs by shape, and clocks; every change to be seen."""
    unit = time_unit(result.series.end_s)
    titles = ("Load", "GPUs by shape: serving, and starting up or draining", "Mean SM clock by shape")
    drawn = make_subplots(rows=3, shared_xaxes=True, vertical_spacing=0.09, subplot_titles=titles)
    times = rounded(unit.of(ends_s(result)))
    _line(drawn, 1, times, result.series.requests_per_s, "load", "#555555")
    changing = np.zeros(len(times))
    for index, (name, shapes) in enumerate(_by_text(result).items()):
        colour = COLOURS[index % len(COLOURS)]
        gpus = result.shapes[shapes[0]].replica.tensor_parallel
        counts = result.series.replicas[shapes].sum(axis=0)
        changing += gpus * counts[1:].sum(axis=0)
        if not counts.any():
            continue
        _line(drawn, 2, times, gpus * counts[0], name, colour, stacked=True)
        _line(drawn, 3, times, _mean_clock(result, shapes), name, colour)
    _line(drawn, 2, times, changing, "starting up or draining", _CHANGING, stacked=True)
    inventory = np.full(len(times), float(result.servers * GPUS_PER_SERVER))
    _line(drawn, 2, times, inventory, "inventory", "#B00020", dash="dash")
    _arrange(drawn, unit)
    return drawn


def _by_text(result: PolicyResult) -> dict[str, list[int]]:
    """Shapes, those of several pools together."""
    found: dict[str, list[int]] = {}
    for index, shape in enumerate(result.shapes):
        found.setdefault(shape_text(shape), []).append(index)
    return found


def _mean_clock(result: PolicyResult, shapes: list[int]) -> Numbers:
    """Over these shapes' replicas; nan where there are none."""
    counts = result.series.replicas[shapes].sum(axis=1)
    clocks_mhz = np.nan_to_num(result.series.clock_mhz[shapes])
    total = counts.sum(axis=0)
    mean_mhz = np.divide((counts * clocks_mhz).sum(axis=0), total, out=np.full(len(total), np.nan), where=total > 0)
    return np.asarray(mean_mhz)


def _line(
    drawn: go.Figure,
    row: int,
    times: list[float | None],
    values: Numbers,
    name: str,
    colour: str,
    *,
    stacked: bool = False,
    dash: str = "solid",
) -> None:
    drawn.add_trace(
        go.Scatter(
            x=times,
            y=rounded(values),
            name=name,
            mode="lines",
            line={"color": colour, "width": 0.5 if stacked else 1.8, "shape": "vh", "dash": dash},
            stackgroup="gpus" if stacked else None,
            legendgroup=name,
            showlegend=row == 2,
        ),
        row=row,
        col=1,
    )


def _arrange(drawn: go.Figure, unit: TimeUnit) -> None:
    drawn.update_xaxes(showticklabels=True, gridcolor="#eee", zeroline=False, dtick=unit.ticks)
    drawn.update_xaxes(title_text=f"{unit.name} since the start", row=3, col=1)
    drawn.update_yaxes(gridcolor="#e4e4e4", zeroline=False, rangemode="tozero")
    for row, title in enumerate(("requests/s", "GPUs", "MHz"), start=1):
        drawn.update_yaxes(title_text=title, row=row, col=1)
    for note in drawn.layout.annotations:
        note.update(x=0, xanchor="left", font={"size": 13, "color": "#222"})
    drawn.update_layout(
        height=3 * _PANEL_HEIGHT,
        margin={"l": 70, "r": 70, "t": 90, "b": 50},
        plot_bgcolor="white",
        paper_bgcolor="white",
        font={"family": "system-ui, sans-serif", "size": 12, "color": "#333"},
        hovermode="x",
        legend={"orientation": "h", "x": 0, "y": 1.07, "yanchor": "bottom"},
    )
