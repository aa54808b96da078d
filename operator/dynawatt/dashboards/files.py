"""Everything that is generated, by path in the repository."""

from dynawatt.dashboards.energy import ENERGY
from dynawatt.dashboards.itself import ITSELF
from dynawatt.dashboards.metrics_page import metrics_page
from dynawatt.dashboards.nodes import NODES_PAGE
from dynawatt.dashboards.page import render
from dynawatt.dashboards.rule_files import rule_files
from dynawatt.dashboards.service import SERVICE_PAGE

PAGES = (ENERGY, SERVICE_PAGE, NODES_PAGE, ITSELF)


def generated_files() -> dict[str, str]:
    """Texts by path."""
    return {
        **{f"dashboards/{page.file_name}": render(page) for page in PAGES},
        **{f"dashboards/rules/{name}": text for name, text in rule_files().items()},
        "docs/metrics.md": metrics_page(),
    }
