"""What the agents count of pods, read from Prometheus."""

from collections.abc import Collection
from math import isfinite
from typing import Final

from dynawatt.adapters.promql import equals, one_of
from dynawatt.ports import MetricsSource

_ENERGY: Final = "dynawatt_pod_energy_joules_total"


async def pod_energies_j(metrics: MetricsSource, namespace: str, pods: Collection[str]) -> dict[str, float]:
    """Joules of each of these pods since its agent first saw it; of as many as an agent tells.

    One query, whatever their number. An agent tells a pod that has gone for ten minutes more, and leaves out one that
    shares a GPU with others. Where two series tell the same pod, such as by two Prometheus servers that scrape one
    agent, the newer is the higher one. Agents must be scraped with ``honor_labels: true``. Raises MetricsUnavailable.
    """
    if not pods:
        return {}
    series = f"{_ENERGY}{{{equals('namespace', namespace)},{one_of('pod', sorted(pods))}}}"
    found = await metrics.query(f"max by (pod) ({series})")
    return {sample.labels["pod"]: sample.value for sample in found if "pod" in sample.labels and isfinite(sample.value)}
