import re
import subprocess
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dynawatt.api.conditions import ConditionStatus, ConditionType
from dynawatt.controller.metrics.exporting import metrics_server, operator_registry
from dynawatt.controller.metrics.figures import Figures, ServiceFigures
from dynawatt.controller.metrics.working import Scope, Work
from dynawatt.sandbox.build import ensure_built

from .pictures import LLAMA, QWEN, Scraped, known


@pytest.fixture
def scraped():
    return Scraped()


def test_everything_that_is_known_is_told(scraped):
    scraped.figures.put(LLAMA, known())
    for name, values in {
        "desired_replicas": {("llama-70b",): 5},
        "replicas": {("llama-70b", "tp4", "desired"): 5, ("llama-70b", "tp4", "ready"): 4},
        "observed_requests_per_second": {("llama-70b",): 12.5},
        "forecast_requests_per_second": {("llama-70b", "expected"): 13, ("llama-70b", "high"): 17},
        "predicted_power_watts": {("llama-70b",): 4100},
        "measured_power_watts": {("llama-70b",): 4000},
        "slo_attainment_ratio": {("llama-70b", "ttft", "modelled"): 0.995, ("llama-70b", "tbt", "measured"): 0.999},
        "slo_ttft_attainment_bound_ratio": {
            ("llama-70b", "low", "all"): 0.97, ("llama-70b", "high", "all"): 0.999,
            ("llama-70b", "low", "1-256"): 0.95, ("llama-70b", "high", "1-256"): 1.0,
        },
        "slo_target_ratio": {("llama-70b",): 0.99},
        "slo_objective_seconds": {("llama-70b", "all", "tbt"): 0.1, ("llama-70b", "1-256", "ttft"): 0.25},
        "pod_info": {("llama-70b", "llama-70b-7d9f-abcde", "tp4"): 1},
        "calibration_factor": {("llama-70b", "time", "tp4"): 1.05, ("llama-70b", "power", "tp4"): 0.97},
        "charged_energy_joules_total": {("llama-70b", "measured"): 500, ("llama-70b", "modelled"): 100},
        "counterfactual_energy_joules_total": {("llama-70b", "as-found"): 1000, ("llama-70b", "tuned-static"): 550},
        "counterfactual_overloaded_seconds_total": {("llama-70b", "as-found"): 0, ("llama-70b", "tuned-static"): 30},
        "modelled_clock_saving_ratio": {("llama-70b",): 0.22},
        "switchback_saving_ratio": {
            ("llama-70b", "low"): 0.18, ("llama-70b", "expected"): 0.2, ("llama-70b", "high"): 0.23
        },
        "switchback_pairs": {("llama-70b",): 40},
    }.items():  # fmt: skip
        assert scraped.samples(f"dynawatt_{name}") == values, name


def test_a_saving_may_be_below_zero_and_has_its_band(scraped):
    scraped.figures.put(LLAMA, known())
    assert scraped.samples("dynawatt_saved_energy_joules") == {
        ("llama-70b", "low", "as-found"): 300.0,
        ("llama-70b", "expected", "as-found"): 400.0,
        ("llama-70b", "high", "as-found"): 500.0,
        ("llama-70b", "low", "tuned-static"): -130.0,
        ("llama-70b", "expected", "tuned-static"): -50.0,
        ("llama-70b", "high", "tuned-static"): 30.0,
    }


def test_a_condition_has_one_status(scraped):
    for status in (ConditionStatus.FALSE, ConditionStatus.TRUE):
        scraped.figures.put(LLAMA, known(conditions={ConditionType.READY: status}))
    assert scraped.samples("dynawatt_condition") == {("llama-70b", "True", "Ready"): 1}


def test_what_is_not_known_is_left_out_not_zero(scraped):
    scraped.figures.put(LLAMA, ServiceFigures())
    told = {
        sample.name
        for family in text_string_to_metric_families(scraped.text())
        for sample in family.samples
        if "llmservice" in sample.labels
    }
    assert told == {"dynawatt_decisions_total", "dynawatt_reconcile_age_seconds"}


def test_desired_replicas_hold_while_metrics_are_missing(scraped):
    scraped.figures.put(LLAMA, known(desired_replicas=5))
    for _ in range(3):
        scraped.figures.put(LLAMA, ServiceFigures(), held="MetricsQueryFailed")
    assert scraped.samples("dynawatt_desired_replicas") == {("llama-70b",): 5}
    assert scraped.samples("dynawatt_observed_requests_per_second") == {}
    scraped.figures.put(LLAMA, known(desired_replicas=2))
    assert scraped.samples("dynawatt_desired_replicas") == {("llama-70b",): 2}


def test_nobody_is_told_how_many_replicas_to_have_where_nothing_is_decided(scraped):
    scraped.figures.put(LLAMA, ServiceFigures())
    assert scraped.samples("dynawatt_desired_replicas") == {}
    scraped.figures.put(LLAMA, known())
    scraped.figures.put(LLAMA, ServiceFigures(holds_desired=False))
    assert scraped.samples("dynawatt_desired_replicas") == {}
    scraped.figures.put(LLAMA, ServiceFigures())
    assert scraped.samples("dynawatt_desired_replicas") == {}


def test_series_go_with_their_service(scraped):
    for key in (LLAMA, QWEN):
        scraped.figures.put(key, known(), decided="Steady", held="NoLoadYet")
    assert 'llmservice="qwen"' in scraped.text()
    scraped.figures.drop(QWEN)
    scraped.figures.drop(QWEN)
    assert 'llmservice="qwen"' not in scraped.text()
    assert scraped.samples("dynawatt_desired_replicas") == {("llama-70b",): 5}
    scraped.figures.clear()
    assert "llmservice=" not in scraped.text()


def test_a_service_that_is_created_anew_begins_anew(scraped):
    scraped.figures.put(LLAMA, known(), decided="GrowForLoad")
    scraped.figures.drop(LLAMA)
    scraped.figures.put(LLAMA, ServiceFigures())
    assert scraped.samples("dynawatt_desired_replicas") == {}
    assert sum(scraped.samples("dynawatt_decisions_total").values()) == 0


def test_decisions_and_held_ticks_are_counted_by_reason(scraped):
    for decided, held in (("GrowForLoad", None), (None, "NoLoadYet"), ("GrowForLoad", None), (None, "NoLoadYet")):
        scraped.figures.put(LLAMA, known(), decided=decided, held=held)
    scraped.figures.put(QWEN, known(), decided="Steady")
    decisions = scraped.samples("dynawatt_decisions_total")
    assert {labels: value for labels, value in decisions.items() if value} == {
        ("llama-70b", "GrowForLoad"): 2,
        ("qwen", "Steady"): 1,
    }
    # Every reason is told before it happens, so that its first time counts as a rise.
    assert {reason for _, reason in decisions} == {
        *("Steady", "GrowForLoad", "ShrinkToLoad", "ReshapeForEnergy"),
        *("SLOUnreachable", "MinimumUnreachable", "CannotPlan"),
    }
    assert scraped.samples("dynawatt_held_cycles_total") == {("llama-70b", "NoLoadYet"): 2}


def test_a_tick_that_does_not_come_shows(scraped):
    scraped.figures.put(LLAMA, known())
    scraped.now_s += 7
    scraped.figures.put(QWEN, known())
    scraped.now_s += 3
    assert scraped.samples("dynawatt_reconcile_age_seconds") == {("llama-70b",): 10, ("qwen",): 3}


def test_plans_are_timed(scraped):
    for duration_s in (0.005, 0.1, 0.2, 500.0):
        scraped.work.planned(duration_s, Scope.ALL)
    scraped.work.planned(0.02, Scope.SOME)
    buckets = scraped.samples("dynawatt_plan_duration_seconds_bucket")
    assert buckets["0.01", "all"] == 1
    assert buckets["0.1", "all"] == 2  # the end of a bucket belongs to it
    assert buckets["0.3", "all"] == buckets["120.0", "all"] == 3
    assert buckets["+Inf", "all"] == 4
    assert scraped.samples("dynawatt_plan_duration_seconds_count") == {("all",): 4, ("some",): 1}
    assert scraped.samples("dynawatt_plan_duration_seconds_sum")["all",] == pytest.approx(500.305)


def test_writes_to_the_api_are_counted(scraped):
    for verb, resource in (("patch", "pods"), ("patch", "pods"), ("patch", "deployments/scale")):
        scraped.work.wrote(verb, resource)
    assert scraped.samples("dynawatt_api_writes_total") == {("deployments/scale", "patch"): 1, ("pods", "patch"): 2}


def test_every_metric_says_what_it_is(scraped):
    scraped.figures.put(LLAMA, known(), held="NoLoadYet")
    for family in text_string_to_metric_families(scraped.text()):
        assert family.name.startswith("dynawatt_")
        assert len(family.documentation) > 30
        assert family.documentation.endswith(".")


def test_labels_have_few_values(scraped):
    scraped.figures.put(LLAMA, known(), held="NoLoadYet")
    assert sum(len(family.samples) for family in text_string_to_metric_families(scraped.text())) < 75


@pytest.mark.integration
def test_prometheus_has_nothing_to_object(scraped):
    scraped.figures.put(LLAMA, known(), held="NoLoadYet")
    scraped.work.wrote("patch", "pods")
    text = scraped.text()
    assert [family.name for family in text_string_to_metric_families(text) if not family.samples] == []
    done = subprocess.run(
        [ensure_built()["promtool"], "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_process_is_told_as_well():
    names = {family.name for family in operator_registry(Figures(), Work()).collect()}
    assert {"process_resident_memory_bytes", "process_cpu_seconds"} <= names


def test_they_are_served():
    figures = Figures()
    server = metrics_server(figures, Work(), address="127.0.0.1", port=0, health=str)
    server.start()
    try:
        for replicas in (3, 4):
            figures.put(LLAMA, known(desired_replicas=replicas))
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=5) as answer:
                found = re.findall(r"^dynawatt_desired_replicas{(.*)} (.*)$", answer.read().decode(), re.MULTILINE)
            assert found == [('llmservice="llama-70b",namespace="prod"', f"{replicas}.0")]
    finally:
        server.stop()
