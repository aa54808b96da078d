import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from dynawatt.dashboards.asking import questions
from dynawatt.dashboards.inventory import agent_metrics, known_series, operator_metrics, series_in, vllm_families

from ..controller.metrics.pictures import LLAMA, Scraped, known

ROOT = Path(__file__).parents[2]
OWN = [*operator_metrics(), *agent_metrics()]
TEXTS = sorted(path for path in (ROOT / "docs").rglob("*.md") if path.name != "metrics.md")


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        (
            'sum by (le, pod) (rate(vllm:a_bucket{le="x and y"}[5m])) / on (namespace) b_total > 1e3',
            {"vllm:a_bucket", "b_total"},
        ),
        ("x:y:z and on () (sum(increase(c[30m])) == 0) unless d offset 5m", {"x:y:z", "c", "d"}),
        ('label_replace(e, "objective", "ttft", "", "") or time() - max_over_time(f[1h]) * $pue / 3600000', {"e", "f"}),
        ('histogram_quantile(0.99, sum by (le) (g{h=~"$i", j!="k"}))', {"g"}),
        ("count(l) or vector(0)", {"l"}),
    ],
)
def test_series_are_found_in_expressions(expression, names):
    assert series_in(expression) == names


def test_what_is_told_of_metrics_is_what_a_scrape_shows():
    scraped = Scraped()
    scraped.figures.put(LLAMA, known(), held="NoLoadYet")
    scraped.work.wrote("patch", "pods")
    shown = {
        sample.name: (family.type, set(sample.labels) - {"le"})
        for family in text_string_to_metric_families(scraped.text())
        for sample in family.samples
    }
    told = {series: (metric.kind, set(metric.labels)) for metric in operator_metrics() for series in metric.series}
    assert told == shown


def test_metrics_have_one_meaning_each():
    names = [metric.name for metric in OWN]
    assert len(names) == len(set(names)) > 50
    assert all(metric.text.endswith(".") for metric in OWN)
    units = {metric.name: metric.unit for metric in OWN}
    assert units["dynawatt_gpu_sm_clock_hertz"] == "Hz"
    assert units["dynawatt_observed_requests_per_second"] == "1/s"
    assert units["dynawatt_node_energy_joules_total"] == "J"
    assert units["dynawatt_replicas"] == ""


def test_panels_and_rules_ask_for_what_there_is(dashboards):
    rules = [
        rule
        for path in (ROOT / "dashboards" / "rules").glob("*.yaml")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]
    panels = [each for one in dashboards.values() for each in questions(one, shown_s=60, rate_s=10)]
    asked = {
        name
        for expression in (*(rule["expr"] for rule in rules), *(each.expression for each in panels))
        for name in series_in(expression)
    }
    assert asked - known_series() == set()
    assert {rule["record"] for rule in rules if "record" in rule} <= known_series()


def test_every_metric_of_ours_is_documented_and_nothing_else():
    page = (ROOT / "docs" / "metrics.md").read_text()
    documented = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert documented == {metric.name for metric in OWN}
    for metric in OWN:
        assert f"| `{metric.name}` | {metric.kind} | " in page
    assert set(re.findall(r"`(vllm:\w+)`", page)) == {name for names in vllm_families().values() for name in names}


@pytest.mark.parametrize("path", [*TEXTS, ROOT / "README.md"], ids=lambda path: path.stem)
def test_texts_name_metrics_that_there_are(path):
    found = set(re.findall(r"\b(?:dynawatt_[a-z_]+|vllm:[a-z_]+)", path.read_text()))
    known = known_series()
    unknown = {
        name
        for name in found
        if not any(each == name or (name.endswith("_") and each.startswith(name)) for each in known)
    }
    assert unknown - {"dynawatt_plan_duration_seconds"} == set()


def test_every_metric_of_ours_is_shown_or_said_not_to_be(dashboards):
    """A metric that nobody looks at is one too many, or one panel too few."""
    shown = {
        name
        for dashboard in dashboards.values()
        for question in questions(dashboard, shown_s=60, rate_s=10)
        for name in series_in(question.expression)
    }
    rules = "".join(path.read_text() for path in (ROOT / "dashboards" / "rules").glob("*.yaml"))
    unseen = {metric.name for metric in OWN if not shown & set(metric.series) and metric.name not in rules}
    assert unseen == {
        "dynawatt_governor_clock_hertz",  # before it is fitted to what GPUs support; asked for is what is shown
        "dynawatt_pod_energy_per_token_joules",  # of single pods, for those who have no recording rules
        "dynawatt_pod_requests_total",  # vLLM counts the same
        "dynawatt_switchback_pairs",
        "dynawatt_gpu_energy_joules_total",  # by GPU; those of pods and nodes are shown
    }
