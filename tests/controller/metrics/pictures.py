"""A service of which everything is known, and what a scrape shows of it."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from dynawatt.accounting.counterfactual import Counterfactual
from dynawatt.accounting.ledger import Source
from dynawatt.accounting.saving import Saving
from dynawatt.accounting.switchback.estimate import SwitchbackSaving
from dynawatt.api.conditions import ConditionStatus, ConditionType
from dynawatt.controller.metrics.exporting import OperatorCollector
from dynawatt.controller.metrics.figures import (
    Attainment,
    Bounds,
    Figures,
    Objective,
    ReplicaState,
    ServiceFigures,
    ServiceKey,
)
from dynawatt.controller.metrics.working import Work

LLAMA = ServiceKey("prod", "llama-70b")
QWEN = ServiceKey("prod", "qwen")


def known(**changes):
    values = {
        "desired_replicas": 5,
        "observed_rps": 12.5,
        "expected_rps": 13.0,
        "high_rps": 17.0,
        "predicted_power_w": 4100.0,
        "measured_power_w": 4000.0,
        "replicas": {("tp4", ReplicaState.DESIRED): 5, ("tp4", ReplicaState.READY): 4},
        "conditions": {ConditionType.READY: ConditionStatus.TRUE, ConditionType.SLO_MET: ConditionStatus.UNKNOWN},
        "attainments": {
            Objective.TTFT: Attainment(0.995, Source.MODELLED),
            Objective.TBT: Attainment(0.999, Source.MEASURED),
        },
        "ttft_bounds": {"all": Bounds(0.97, 0.999), "1-256": Bounds(0.95, 1.0)},
        "slo_target": 0.99,
        "objectives_s": {(Objective.TBT, "all"): 0.1, (Objective.TTFT, "1-256"): 0.25},
        "pods": {"llama-70b-7d9f-abcde": "tp4"},
        "calibration": {("tp4", "time"): 1.05, ("tp4", "power"): 0.97},
        "savings": {
            Counterfactual.AS_FOUND: Saving(600.0, 1000.0, 100.0),
            Counterfactual.TUNED_STATIC: Saving(600.0, 550.0, 80.0),
        },
        "used_j": {Source.MEASURED: 500.0, Source.MODELLED: 100.0},
        "overloaded_s": {Counterfactual.AS_FOUND: 0.0, Counterfactual.TUNED_STATIC: 30.0},
        "clock_saving": 0.22,
        "switchback": SwitchbackSaving(0.2, 0.18, 0.23, 800.0, 40),
        "switchback_pairs": 40,
    }
    return ServiceFigures(**{**values, **changes})


class Scraped:
    """Services and the operator's work; ``now_s`` is the time of a scrape."""

    def __init__(self):
        self.now_s = 1000.0
        self.figures = Figures(clock_s=lambda: self.now_s)
        self.work = Work()
        self._registry = CollectorRegistry()
        self._registry.register(OperatorCollector(self.figures, self.work))

    def text(self):
        return generate_latest(self._registry).decode()

    def samples(self, name):
        """Values by the other labels of a service's metric, or of the operator's own, as sorted pairs."""
        found = {}
        for family in text_string_to_metric_families(self.text()):
            for sample in family.samples:
                if sample.name == name:
                    labels = dict(sample.labels)
                    service = labels.pop("namespace", None), labels.pop("llmservice", None)
                    values = tuple(labels[label] for label in sorted(labels))
                    key = (service[1], *values) if service[1] else values
                    assert key not in found
                    found[key] = sample.value
        return found
