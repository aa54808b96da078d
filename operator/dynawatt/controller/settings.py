"""How the operator was started."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dynawatt.adapters.prometheus_auth import PrometheusAuth

_DWELL_S: Final = 900.0
_RESHAPE_DWELL_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """Options of ``dynawatt operator``; all times in seconds."""

    prometheus_url: str | None
    """Of a Prometheus that scrapes the vLLM pods and the agents; None to scrape the pods of services from here."""
    namespace: str
    """Where the operator's Lease lives."""
    namespaces: tuple[str, ...] = ()
    """Where LLMServices are looked after, as names or patterns such as ``team-*``; everywhere when empty."""
    plan_interval_s: float = 300.0
    """Time between plans when nothing urgent happens."""
    observe_interval_s: float = 10.0
    """Time between looks at each service."""
    rate_window_s: int = 120
    """Window of every rate query; must hold several scrapes."""
    mix_window_s: int = 600
    """Window of the length histograms."""
    max_sample_age_s: float = 60.0
    """What was scraped longer ago says nothing about now."""
    give_back_timeout_s: float = 900.0
    """How long the deletion of an LLMService waits for its original replicas."""
    agent_stale_s: float = 300.0
    """An agent whose last cycle is older is taken for dead; one that is updated is away for less."""
    lease_duration_s: int = 30
    prometheus_auth: PrometheusAuth = field(default_factory=PrometheusAuth)
    metrics_address: str = "127.0.0.1"
    metrics_port: int = 8080
    """Of ``/metrics`` and ``/healthz``."""
    peak_window_s: float = 300.0
    """How long a load is watched before replicas are taken away, and how long its peak is remembered."""
    time_lapse: float = 1.0
    """How many times faster than in reality the load changes: slots of the forecast and dwell times shrink by it."""
    elastic_nodes: bool = False
    """Whether the cluster adds nodes for pods that wait for GPUs."""
    surface_dir: Path | None = None
    """Where surfaces and what was learnt are kept between starts; None keeps both in memory alone."""

    @property
    def lease_renew_s(self) -> float:
        """Time between renewals of the Lease."""
        return self.lease_duration_s / 3

    @property
    def dwell_s(self) -> float:
        """How soon a change of replicas may follow another one while capacity is not short."""
        return _DWELL_S / self.time_lapse

    @property
    def reshape_dwell_s(self) -> float:
        """How soon another change of shape may follow one."""
        return _RESHAPE_DWELL_S / self.time_lapse
