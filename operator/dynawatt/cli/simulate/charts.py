"""The report's charts: one figure whose panels share the time axis, one colour per policy.

A policy's lines in all panels belong to one legend entry, so that a click hides
it everywhere, and zooming into one panel zooms all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite, log10
from typing import Any, Final, NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from dynawatt.cli.simulate.comparison import Comparison
from dynawatt.cli.simulate.table import shape_text
from dynawatt.quantities import J_PER_KWH, MS_PER_S, S_PER_HOUR
from dynawatt.simulation.inventory import GPUS_PER_SERVER
from dynawatt.simulation.results import PolicyResult
from dynawatt.workload.classes import LengthClasses

# Okabe and Ito's colours, told apart with any colour vision; later policies begin again with other strokes.
_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SLO_COLOUR: Final = "#B00020"
_LOAD_COLOUR: Final = "#555555"
_PANEL_HEIGHT: Final = 210
_THIN: Final = 1.0
_THICK: Final = 2.0
_STROKES: Final = ("solid", "dash", "dot", "dashdot")
_LOG_TICKS: Final = [digit * 10.0**power for power in range(-1, 7) for digit in (1, 2, 5)]

Numbers = NDArray[np.float64]


class _TimeUnit(NamedTuple):
    """What the time axis counts in."""

    name: str
    seconds: float
    ticks: float | None
    """Distance of its ticks, where plotly's own choice is unsuitable."""

    def of(self, time_s: Numbers) -> Numbers:
        """Times in this unit."""
        return time_s / self.seconds


def _time_unit(horizon_s: float) -> _TimeUnit:
    if horizon_s <= 3 * S_PER_HOUR:
        return _TimeUnit("minutes", 60.0, None)
    return _TimeUnit("hours", S_PER_HOUR, 24.0 if horizon_s > 48 * S_PER_HOUR else None)


@dataclass(frozen=True, slots=True)
class _Panel:
    title: str
    axis: str
    draw: Callable[["_Charts", int], None]
    logarithmic: bool = False


def figure(comparison: Comparison) -> go.Figure:
    """All charts of a comparison."""
    panels = _panels(comparison)
    drawn = make_subplots(
        rows=len(panels),
        shared_xaxes=True,
        vertical_spacing=0.26 / len(panels),
        subplot_titles=[panel.title for panel in panels],
    )
    unit = _time_unit(comparison.question.horizon_s)
    charts = _Charts(comparison, drawn, unit)
    for row, panel in enumerate(panels, start=1):
        panel.draw(charts, row)
        drawn.update_yaxes(title_text=panel.axis, row=row, col=1)
        if panel.logarithmic:
            drawn.update_yaxes(type="log", tickvals=_LOG_TICKS, row=row, col=1, minor={"showgrid": False})
        else:
            drawn.update_yaxes(rangemode="tozero", row=row, col=1)
    _arrange(drawn, unit, len(panels))
    return drawn


def _panels(comparison: Comparison) -> list[_Panel]:
    high = f"P{comparison.question.slo.percentile:g}"
    short, long = LengthClasses().input_cuts
    inputs = (f"below {short} tokens", f"{short} to {long - 1} tokens", f"{long} tokens and more")
    ttft = [
        _Panel(
            f"Time to first token, inputs {name}: {high} thick, median thin, objective red",
            "ms",
            lambda charts, row, index=index: charts.ttft(row, index),  # type: ignore[misc]
            logarithmic=True,
        )
        for index, name in enumerate(inputs)
    ]
    return [
        _Panel("Load", "requests/s", _Charts.load),
        _Panel("Power of the inventory, released GPUs idling", "kW", _Charts.power),
        _Panel("Energy since the start: released GPUs idling thick, off thin", "kWh", _Charts.energy),
        _Panel("Energy per generated token, released GPUs idling", "J", _Charts.joules_per_token),
        *ttft,
        _Panel(f"Time between tokens: {high} thick, median thin, objective red", "ms", _Charts.tbt, logarithmic=True),
        _Panel("Replicas by shape: all thick, of these starting up or draining thin", "replicas", _Charts.replicas),
        _Panel("Mean SM clock by shape", "MHz", _Charts.clocks),
    ]


@dataclass(slots=True)
class _Charts:
    """Draws lines into the rows of a figure."""

    comparison: Comparison
    figure: go.Figure
    unit: _TimeUnit

    def load(self, row: int) -> None:
        series = self.comparison.results[0].series
        self._line(row, "load", _middles_s(self.comparison.results[0]), series.requests_per_s, color=_LOAD_COLOUR)

    def power(self, row: int) -> None:
        for index, result in enumerate(self.comparison.results):
            # The first panel in which every policy has a line carries the legend.
            self._policy_line(row, index, _middles_s(result), _idling_w(result) / 1000, legend=True)

    def energy(self, row: int) -> None:
        for index, result in enumerate(self.comparison.results):
            width_s = _width_s(result)
            for power_w, width in ((_idling_w(result), _THICK), (result.series.power_w, _THIN)):
                energy_kwh = np.concatenate([[0.0], np.cumsum(power_w * width_s) / J_PER_KWH])
                self._policy_line(row, index, np.concatenate([[0.0], _ends_s(result)]), energy_kwh, width=width)

    def joules_per_token(self, row: int) -> None:
        known = []
        for index, result in enumerate(self.comparison.results):
            tokens = result.series.output_tokens_per_s
            j_per_token = np.divide(_idling_w(result), tokens, out=np.full_like(tokens, np.nan), where=tokens > 0)
            self._policy_line(row, index, _middles_s(result), j_per_token)
            known.append(j_per_token[np.isfinite(j_per_token)])
        # The first seconds generate almost nothing and would flatten all the rest.
        top = np.percentile(np.concatenate(known), 98) if any(map(len, known)) else 1.0
        self.figure.update_yaxes(range=[0, 1.3 * top], row=row, col=1)

    def ttft(self, row: int, input_class: int) -> None:
        for index, result in enumerate(self.comparison.results):
            series = result.series
            self._policy_line(row, index, _middles_s(result), MS_PER_S * series.ttft_high_s[input_class])
            self._policy_line(row, index, _middles_s(result), MS_PER_S * series.ttft_p50_s[input_class], width=_THIN)
        longest = (*LengthClasses().input_cuts, 1 << 30)[input_class] - 1
        self._objective(row, self.comparison.question.slo.objectives.ttft_s(longest))

    def tbt(self, row: int) -> None:
        for index, result in enumerate(self.comparison.results):
            self._policy_line(row, index, _middles_s(result), MS_PER_S * result.series.tbt_high_s)
            self._policy_line(row, index, _middles_s(result), MS_PER_S * result.series.tbt_p50_s, width=_THIN)
        self._objective(row, self.comparison.question.slo.objectives.tbt_s)

    def replicas(self, row: int) -> None:
        for index, result in enumerate(self.comparison.results):
            for shape, counts in enumerate(result.series.replicas):
                name = f"{result.name}, {shape_text(result.shapes[shape])}"
                self._steps(row, index, result, counts.sum(axis=0), shape, name)
                if counts[1:].any():
                    self._steps(row, index, result, counts[1:].sum(axis=0), shape, f"{name}, changing", width=_THIN)

    def clocks(self, row: int) -> None:
        for index, result in enumerate(self.comparison.results):
            for shape, clock_mhz in enumerate(result.series.clock_mhz):
                name = f"{result.name}, {shape_text(result.shapes[shape])}"
                self._steps(row, index, result, clock_mhz, shape, name)

    def _steps(
        self, row: int, index: int, result: PolicyResult, values: Numbers, shape: int, name: str, width: float = _THICK
    ) -> None:
        """States at the ends of intervals; the stroke tells shapes apart."""
        dash = _STROKES[shape % len(_STROKES)]
        self._policy_line(row, index, _ends_s(result), values, width=width, name=name, dash=dash, shape="vh")

    def _policy_line(
        self,
        row: int,
        index: int,
        times_s: Numbers,
        values: Numbers,
        *,
        width: float = _THICK,
        name: str | None = None,
        dash: str | None = None,
        shape: str = "linear",
        legend: bool = False,
    ) -> None:
        policy = self.comparison.results[index].name
        stroke = dash or _STROKES[index // len(_COLOURS) % len(_STROKES)]
        self._line(
            row,
            name or policy,
            times_s,
            values,
            color=_COLOURS[index % len(_COLOURS)],
            width=width,
            dash=stroke,
            shape=shape,
            legendgroup=policy,
            showlegend=legend,
        )

    def _line(
        self,
        row: int,
        name: str,
        times_s: Numbers,
        values: Numbers,
        *,
        color: str,
        width: float = _THICK,
        dash: str = "solid",
        shape: str = "linear",
        **options: Any,
    ) -> None:
        line = {"color": color, "width": width, "dash": dash, "shape": shape}
        options = {"showlegend": False, **options}
        # Rounded: a reader sees four digits, and the file stays small.
        trace = go.Scatter(
            x=_rounded(self.unit.of(times_s)), y=_rounded(values), name=name, mode="lines", line=line, **options
        )
        self.figure.add_trace(trace, row=row, col=1)

    def _objective(self, row: int, objective_s: float) -> None:
        """A line, and its value at the right; plotly's own marker lines do not know logarithmic axes."""
        if not isfinite(objective_s):
            return
        objective_ms = MS_PER_S * objective_s
        ends_s = np.array([0.0, max(result.series.end_s for result in self.comparison.results)])
        self._line(row, "objective", ends_s, np.full(2, objective_ms), color=_SLO_COLOUR, width=1.2, dash="dash")
        self.figure.add_annotation(
            text=f"{objective_ms:g} ms", x=1, xref="x domain", xanchor="left", y=log10(objective_ms), yanchor="middle",
            showarrow=False, font={"color": _SLO_COLOUR, "size": 11}, row=row, col=1,
        )  # fmt: skip


def _arrange(drawn: go.Figure, unit: _TimeUnit, panels: int) -> None:
    drawn.update_xaxes(showticklabels=True, showgrid=True, gridcolor="#eee", zeroline=False, dtick=unit.ticks)
    drawn.update_xaxes(title_text=f"{unit.name} since the start", row=panels, col=1)
    drawn.update_yaxes(showgrid=True, gridcolor="#e4e4e4", zeroline=False, minor={"gridcolor": "#f3f3f3"})
    # Titles stand left above their panels, out of the way of the lines.
    drawn.update_annotations(font_size=13)
    for note in drawn.layout.annotations[:panels]:
        note.update(x=0, xanchor="left", font={"size": 13, "color": "#222"})
    drawn.update_layout(
        height=_PANEL_HEIGHT * panels,
        margin={"l": 70, "r": 70, "t": 80, "b": 50},
        plot_bgcolor="white",
        paper_bgcolor="white",
        font={"family": "system-ui, sans-serif", "size": 12, "color": "#333"},
        hovermode="x",
        legend={
            "orientation": "h",
            "x": 0,
            "y": 1 + 30 / (_PANEL_HEIGHT * panels),
            "yanchor": "bottom",
            "font": {"size": 14},
        },
    )


def _idling_w(result: PolicyResult) -> Numbers:
    """Power of the whole inventory over time, released GPUs idling."""
    released = np.maximum(0.0, result.servers * GPUS_PER_SERVER - result.series.held_gpus)
    return result.series.power_w + released * result.shapes[0].replica.released_w


def _width_s(result: PolicyResult) -> Numbers:
    series = result.series
    return np.diff(series.start_s, append=series.end_s)


def _ends_s(result: PolicyResult) -> Numbers:
    return np.asarray(result.series.start_s + _width_s(result))


def _middles_s(result: PolicyResult) -> Numbers:
    return np.asarray(result.series.start_s + _width_s(result) / 2)


def _rounded(values: Numbers) -> list[float | None]:
    """Five digits; None, a gap in the line, for nan."""
    return [None if np.isnan(value) else float(f"{value:.5g}") for value in values]
