"""How the agent itself is doing."""

from collections.abc import Iterator
from math import isfinite
from typing import Final

from prometheus_client.core import Metric

from dynawatt.agent.families.making import Families
from dynawatt.agent.view import ClockCommand, NodeView
from dynawatt.ports import GpuError

_ERRORS: Final[tuple[type[GpuError], ...]] = (GpuError, *GpuError.__subclasses__())
_FAILURES: Final = tuple((command, error.reason) for command in ClockCommand for error in _ERRORS)


def agent_families(make: Families, view: NodeView) -> Iterator[Metric]:
    """All families about the agent."""
    failures = make.counter(
        "dynawatt_clock_set_failures", "Clock commands that the driver refused.", "command", "reason"
    )
    # Told before they happen: to Prometheus, a counter that appears has not risen.
    for (command, reason), count in (dict.fromkeys(_FAILURES, 0) | dict(view.command_failures)).items():
        failures.add(count, command.value, reason)
    yield failures.family
    for name, text, count in (
        ("clock_commands", "Lock and reset calls made.", view.commands),
        ("claims_snapped", "Claims that asked for clocks which their GPUs do not have.", view.snapped),
        ("agent_cycle_failures", "Cycles that ended in an error.", view.cycle_failures),
        ("agent_scrape_failures", "Times that the metrics of a serving pod could not be read.", view.scrape_failures),
    ):
        yield make.counter(f"dynawatt_{name}", text).add(count).family
    for name, text, value in (
        ("claims", "Pods with a claim, valid or not.", view.claims),
        ("claims_refused", "Pods whose claim has no effect.", len(view.refusals)),
        ("cycle_seconds", "How long the last cycle took.", view.cycle_s),
        ("last_cycle_timestamp_seconds", "When the last cycle ended.", view.finished_unix_s),
        ("lease_fresh", "1 while the operator renews its lease; claims hold only then.", view.lease.fresh),
        (
            "lease_age_seconds",
            "Since the operator's lease was last seen renewed; absent before the first time.",
            view.lease.age_s if isfinite(view.lease.age_s) else None,
        ),
        ("switched_off", "1 while the cluster-wide switch keeps all clocks at default.", bool(view.switched_off)),
        ("journal_failing", "1 while the journal cannot be written, and no GPU is locked.", bool(view.journal_problem)),
        (
            "allocations_failing",
            "1 while it is not known which pod holds which GPU.",
            bool(view.allocations_problem),
        ),
    ):
        yield make.gauge(f"dynawatt_agent_{name}", text).add(value).family
