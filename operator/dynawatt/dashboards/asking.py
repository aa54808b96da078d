"""The queries of a dashboard as Grafana would ask them, with its variables filled in."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

_EVERYTHING: Final = ".*"
_DURATION: Final = "{:.0f}s"


class Question(NamedTuple):
    """One query of one panel."""

    panel: Mapping[str, Any]
    """As in the JSON."""
    expression: str
    legend: str
    """Template of the names of its series, as in Grafana."""
    at_end: bool
    """Asked once, for the end of the time that is shown."""


def values_of(dashboard: Mapping[str, Any]) -> dict[str, str]:
    """What its variables are while nobody chooses anything: everything, and the factors as they are written."""
    return {
        variable["name"]: _EVERYTHING if variable["type"] == "query" else str(variable["query"])
        for variable in dashboard["templating"]["list"]
    }


def questions(dashboard: Mapping[str, Any], *, shown_s: float, rate_s: float) -> Iterator[Question]:
    """All queries of a dashboard.

    Args:
        dashboard: As in the JSON.
        shown_s: Time that is shown.
        rate_s: What Grafana calls the rate interval: at least four scrapes.
    """
    values = {
        **values_of(dashboard),
        "__range": _DURATION.format(shown_s),
        "__rate_interval": _DURATION.format(rate_s),
    }
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield Question(
                panel, filled(target["expr"], values), target.get("legendFormat", ""), bool(target.get("instant"))
            )


def filled(text: str, values: Mapping[str, str]) -> str:
    """A text with ``$name`` and ``${name}`` replaced. Raises KeyError for a variable that there is not."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: values[found[1] or found[2]], text)


def legend(template: str, labels: Mapping[str, str]) -> str:
    """Name of a series, as Grafana makes it."""
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), template).strip()
