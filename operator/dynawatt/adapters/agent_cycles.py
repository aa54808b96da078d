"""When the agents last finished a cycle, read from Prometheus."""

from math import isfinite
from typing import Final

from dynawatt.ports import MetricsSource

LAST_CYCLES: Final = "max by (node) (max_over_time(dynawatt_agent_last_cycle_timestamp_seconds[6h]))"
"""PromQL for Unix times by node. The series of an agent that is gone ends within five minutes, so older ones count."""
_LAST_SCRAPE: Final = "scalar(max(timestamp(up)))"
"""NaN where nothing was scraped for five minutes."""


async def cycle_ages_s(metrics: MetricsSource) -> dict[str, float]:
    """By node, how long before Prometheus last scraped anything its agent finished its last cycle.

    So no agent grows older while Prometheus itself is away, and nothing is told of any after five minutes of that. One
    query; agents must be scraped with the name of their node in the label ``node``. Raises MetricsUnavailable.
    """
    found = await metrics.query(f"{_LAST_SCRAPE} - {LAST_CYCLES}")
    ages_s = {sample.labels.get("node", ""): sample.value for sample in found if isfinite(sample.value)}
    return {node: age_s for node, age_s in ages_s.items() if node}
