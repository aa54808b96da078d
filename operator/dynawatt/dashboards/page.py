"""One dashboard: rows of panels, the variables above them, and links to the others."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from dynawatt.dashboards.panels import SOURCE, Panel

TAG: Final = "dynawatt"
_RULES: Final = "Needs the recording rules that come with it."


@dataclass(frozen=True, slots=True)
class Choice:
    """A variable that offers the values of a label."""

    name: str
    label: str
    query: str


@dataclass(frozen=True, slots=True)
class Factor:
    """A variable that holds a number or a word of the user's."""

    name: str
    label: str
    value: str
    text: str


Variable = Choice | Factor


@dataclass(frozen=True, slots=True)
class Section:
    """Panels below a title."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Page:
    """A dashboard."""

    uid: str
    title: str
    text: str
    sections: Sequence[Section]
    variables: Sequence[Variable]

    @property
    def file_name(self) -> str:
        """Under dashboards/."""
        return f"{self.uid}.json"


NAMESPACE: Final = Choice("namespace", "Namespace", "label_values(dynawatt_reconcile_age_seconds, namespace)")
LLMSERVICE: Final = Choice(
    "llmservice", "LLMService", 'label_values(dynawatt_reconcile_age_seconds{namespace=~"$namespace"}, llmservice)'
)
NODE: Final = Choice("node", "Node", "label_values(dynawatt_agent_last_cycle_timestamp_seconds, node)")


def render(page: Page) -> str:
    """The JSON that Grafana imports."""
    made = (
        dashboard.Dashboard(page.title)
        .uid(page.uid)
        .description(f"{page.text} {_RULES}")
        .tags([TAG])
        .refresh("30s")
        .time("now-6h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .link(
            dashboard.DashboardLink("dynawatt")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
    )
    for variable in page.variables:
        made.with_variable(_choice(variable) if isinstance(variable, Choice) else _factor(variable))
    number = 0
    for section in page.sections:
        made.with_row(dashboard.Row(section.title).id(number := number + 1))
        for panel in section.panels:
            made.with_panel(panel.id(number := number + 1))
    text = json.dumps(made.build(), cls=JSONEncoder, indent=2)
    found: dict[str, Any] = json.loads(text)
    found["editable"] = False
    return json.dumps(found, indent=2) + "\n"


def _choice(choice: Choice) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(choice.name)
        .label(choice.label)
        .query({"query": choice.query, "refId": choice.name, "qryType": 1})
        .datasource(SOURCE)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def _factor(factor: Factor) -> dashboard.TextBoxVariable:
    option = VariableOption(selected=True, text=factor.value, value=factor.value)
    return (
        dashboard.TextBoxVariable(factor.name)
        .label(factor.label)
        .description(factor.text)
        .default_value(factor.value)
        .current(option)
        .options([option])
    )
