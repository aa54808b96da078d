"""Every metric that dynawatt has, from the objects that make them, and those that queries use."""

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, cast

from prometheus_client.core import Metric

from dynawatt.adapters import vllm_names
from dynawatt.agent.exporting import NodeCollector
from dynawatt.agent.lease import LeaseState
from dynawatt.agent.view import NodeView
from dynawatt.controller.metrics.exporting import OperatorCollector, operator_registry
from dynawatt.controller.metrics.figures import Figures
from dynawatt.controller.metrics.working import Work
from dynawatt.dashboards.recording import GROUPS

_UNITS: Final = {
    "joules": "J",
    "watts": "W",
    "hertz": "Hz",
    "celsius": "°C",
    "seconds": "s",
    "per_second": "1/s",
    "ratio": "0 to 1",
    "bytes": "B",
}
"""By the end of a name, as Prometheus wants base units there."""
_HISTOGRAM: Final = ("_bucket", "_sum", "_count")
_ALERTS: Final = "ALERTS"
"""Prometheus writes it itself."""


class Described(NamedTuple):
    """One metric."""

    name: str
    """As it is queried: of a counter with ``_total``."""
    kind: str
    labels: tuple[str, ...]
    unit: str
    text: str

    @property
    def series(self) -> tuple[str, ...]:
        """Names of its series."""
        return tuple(self.name + end for end in _HISTOGRAM) if self.kind == "histogram" else (self.name,)


def operator_metrics() -> list[Described]:
    """Those of the operator."""
    return _described(OperatorCollector(Figures(), Work()).collect())


def agent_metrics() -> list[Described]:
    """Those of an agent."""
    collector = NodeCollector("")
    collector.view = _EMPTY_NODE
    return _described(collector.collect())


def process_series() -> set[str]:
    """Series that the operator's process tells of itself."""
    registry = operator_registry(Figures(), Work())
    return {
        sample.name for family in registry.collect() for sample in family.samples if family.name.startswith("process")
    }


def vllm_families() -> dict[str, tuple[str, ...]]:
    """Families of vLLM that dynawatt reads, all their names, newest first."""
    found = {name: value for name, value in vars(vllm_names).items() if name.isupper() and isinstance(value, tuple)}
    return {name: vllm_names.series_names(family) for name, family in found.items()}


def known_series() -> set[str]:
    """All names that a query may use."""
    own = {series for metric in (*operator_metrics(), *agent_metrics()) for series in metric.series}
    recorded = {rule.name for rules in GROUPS.values() for rule in rules}
    told = {name for names in vllm_families().values() for name in names}
    vllm = {name + end for name in told for end in ("", "_total", *_HISTOGRAM)}
    return own | recorded | vllm | process_series() | {_ALERTS}


_NO_NAME: Final = re.compile(
    r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)', re.DOTALL
)
_WORD: Final = re.compile(r"(?<![\w:$.])[a-zA-Z_:][\w:]*(?!\s*\()(?![\w:])")
_KEYWORDS: Final = frozenset({"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "inf", "nan"})


def series_in(expression: str) -> set[str]:
    """Names of all series that a PromQL expression asks for."""
    words: list[str] = _WORD.findall(_NO_NAME.sub(" ", expression))
    return {word for word in words if word.lower() not in _KEYWORDS}


def _described(families: Iterable[Metric]) -> list[Described]:
    return [
        Described(
            name=family.name + ("_total" if family.type == "counter" else ""),
            kind=family.type,
            labels=tuple(cast(Any, family)._labelnames),  # nothing public tells them of a family without samples
            unit=next((unit for end, unit in _UNITS.items() if family.name.endswith(end)), ""),
            text=family.documentation,
        )
        for family in families
    ]


_EMPTY_NODE: Final = NodeView(
    gpus=(),
    energy_j={},
    serving={},
    command_failures={},
    commands=0,
    snapped=0,
    cycle_failures=0,
    lease=LeaseState(fresh=False, age_s=0.0, reason=""),
    switched_off="",
    claims=0,
    refusals={},
    governed={},
    scrape_failures=0,
    allocations_problem="",
    journal_problem="",
    cycle_s=0.0,
    finished_unix_s=0.0,
)
