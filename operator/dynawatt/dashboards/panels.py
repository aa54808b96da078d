"""The few kinds of panel that the dashboards are made of.

Every panel has a title, a description and a unit. Thresholds are given where a value
is good or bad in itself, and the description says what lies beyond them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphDrawStyle,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    LineInterpolation,
    LineStyle,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColor,
    FieldColorModeId,
    GridPos,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

Panel: TypeAlias = timeseries.Panel | stat.Panel | statetimeline.Panel | table.Panel

SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
GOOD, FAIR, BAD, PLAIN, QUIET = "green", "orange", "red", "blue", "text"
_STROKE: Final = [10, 6]
_HEIGHT: Final = 8
_STAT_HEIGHT: Final = 4


class Query(NamedTuple):
    """One query of a panel."""

    expression: str
    legend: str
    """Template of the names of its series."""
    at_end: bool = False
    """Evaluated once, at the end of the time that is shown."""


class Steps(NamedTuple):
    """Colours of values: ``base`` up to the first bound, then those of the bounds."""

    base: str
    bounds: tuple[tuple[float, str], ...] = ()

    def config(self) -> dashboard.ThresholdsConfig:
        """As Grafana wants them."""
        steps = [Threshold(None, self.base), *(Threshold(bound, colour) for bound, colour in self.bounds)]
        return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


NEUTRAL: Final = Steps(PLAIN)
"""No value is good or bad in itself."""


@dataclass(frozen=True, slots=True)
class Look:
    """How series whose name matches a regular expression differ from the others of their panel."""

    series: str
    colour: str = ""
    dashed: bool = False
    filled_to: str = ""
    """Name of the series down to which the area is filled, which makes a band of the two."""
    thin: bool = False

    def properties(self) -> list[DynamicConfigValue]:
        """As Grafana wants them."""
        found = []
        if self.colour:
            fixed = FieldColor(mode=FieldColorModeId.FIXED, fixed_color=self.colour)
            found.append(DynamicConfigValue("color", fixed))
        if self.dashed:
            found.append(DynamicConfigValue("custom.lineStyle", LineStyle(fill="dash", dash=list(_STROKE))))
        if self.dashed or self.filled_to:
            found.append(DynamicConfigValue("custom.fillOpacity", 20 if self.filled_to else 0))
        if self.filled_to:
            found.append(DynamicConfigValue("custom.fillBelowTo", self.filled_to))
        if self.thin:
            found.append(DynamicConfigValue("custom.lineWidth", 0))
        return found


def number(
    title: str,
    text: str,
    *queries: Query,
    unit: str,
    steps: Steps = NEUTRAL,
    width: int = 4,
    decimals: int | None = None,
) -> stat.Panel:
    """The latest value, large."""
    panel = (
        stat.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .unit(unit)
        .thresholds(steps.config())
        .grid_pos(GridPos(h=_STAT_HEIGHT, w=width))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.NONE if all(query.at_end for query in queries) else BigValueGraphMode.AREA)
        .no_value("no data")
    )
    if decimals is not None:
        panel.decimals(decimals)
    for target in _targets(queries):
        panel.with_target(target)
    return panel


def lines(
    title: str,
    text: str,
    *queries: Query,
    unit: str,
    steps: Steps = NEUTRAL,
    width: int = 12,
    looks: Sequence[Look] = (),
    stacked: bool = False,
    stepped: bool = False,
    bars: bool = False,
    from_zero: bool = True,
    most: float | None = None,
) -> timeseries.Panel:
    """Values over time; bounds of ``steps`` are drawn as dashed lines."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .unit(unit)
        .thresholds(steps.config())
        .grid_pos(GridPos(h=_HEIGHT, w=width))
        .draw_style(GraphDrawStyle.BARS if bars else GraphDrawStyle.LINE)
        .line_width(1)
        .fill_opacity(60 if bars else 30 if stacked else 8)
        .show_points(VisibilityMode.NEVER)
        .legend(_legend())
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if steps.bounds:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    if stacked or bars:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if stepped:
        panel.line_interpolation(LineInterpolation.STEP_AFTER)
    if from_zero:
        panel.min(0)
    if most is not None:
        panel.max(most)
    for look in looks:
        panel.override_by_regexp(f"/{look.series}/", look.properties())
    for target in _targets(queries):
        panel.with_target(target)
    return panel


def states(
    title: str, text: str, *queries: Query, names: Mapping[int, tuple[str, str]], width: int = 12, height: int = _HEIGHT
) -> statetimeline.Panel:
    """What things are, over time; ``names`` has text and colour of each value."""
    known = {str(value): ValueMappingResult(text=name, color=colour) for value, (name, colour) in names.items()}
    least, *others = sorted(names)
    steps = Steps(names[least][1], tuple((float(value), names[value][1]) for value in others))
    panel = (
        statetimeline.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .unit("none")
        .mappings([ValueMap(options=known)])
        .thresholds(steps.config())
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .grid_pos(GridPos(h=height, w=width))
        .show_value(VisibilityMode.NEVER)
        .row_height(0.8)
        .line_width(0)
        .fill_opacity(80)
        .legend(_legend())
    )
    for target in _targets(queries):
        panel.with_target(target)
    return panel


class Column(NamedTuple):
    """One query of a table; rows are joined by the labels that the queries keep."""

    title: str
    expression: str
    unit: str
    steps: Steps = Steps(QUIET)


def rows(
    title: str, text: str, keys: Mapping[str, str], *columns: Column, width: int = 24, height: int = _HEIGHT
) -> table.Panel:
    """A table with one row for each combination of labels; ``keys`` are the titles of those labels."""
    panel = (
        table.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .unit("none")
        .thresholds(NEUTRAL.config())
        .grid_pos(GridPos(h=height, w=width))
    )
    letters = [chr(ord("A") + position) for position in range(len(columns))]
    for letter, column in zip(letters, columns, strict=True):
        target = _target(letter, Query(column.expression, column.title, at_end=True))
        panel.with_target(target.format(PromQueryFormat.TABLE))
        coloured = [
            DynamicConfigValue("unit", column.unit),
            DynamicConfigValue("thresholds", column.steps.config().build()),
        ]
        if column.steps.bounds:
            coloured.append(DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
        panel.override_by_name(column.title, coloured)
    names = {f"Value #{letter}": column.title for letter, column in zip(letters, columns, strict=True)} | dict(keys)
    if len(columns) == 1:
        names = {"Value": columns[0].title} | dict(keys)
    panel.with_transformation(DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(
        DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {"Time": True},
                "indexByName": {name: position for position, name in enumerate([*keys, *names])},
                "renameByName": names,
            },
        )
    )
    return panel


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs([])
    )


def _targets(queries: Sequence[Query]) -> list[prometheus.Dataquery]:
    return [_target(chr(ord("A") + position), query) for position, query in enumerate(queries)]


def _target(letter: str, query: Query) -> prometheus.Dataquery:
    target = prometheus.Dataquery().ref_id(letter).expr(query.expression).legend_format(query.legend).datasource(SOURCE)
    return target.instant() if query.at_end else target.range()
