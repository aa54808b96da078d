"""Which series the variables of a dashboard choose."""

from typing import Final

from dynawatt.dashboards.expressions import by_service

SERVICES: Final = 'namespace=~"$namespace", llmservice=~"$llmservice"'
NODES: Final = 'node=~"$node"'


def chosen(metric: str, matchers: str = "", *, by: str = SERVICES) -> str:
    """A metric of the chosen services, or nodes."""
    return f"{metric}{{{', '.join(filter(None, [matchers, by]))}}}"


def said(metric: str, matchers: str = "", *labels: str) -> str:
    """What the operator says of the chosen services, once each."""
    return by_service(chosen(metric, matchers), *labels)
