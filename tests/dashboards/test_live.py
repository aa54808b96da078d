"""Every query of every panel, and every rule, asked of the Prometheus of a sandbox in which a service runs."""

import html
import math
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from dynawatt.dashboards.asking import questions
from dynawatt.dashboards.recording import GROUPS

from ..photographing import drawn_charts, photograph

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
SHOWN_S = 60.0
RATE_S = 10.0
NOT_IN_A_GOOD_RUN = {
    "dynawatt_switchback_saving_ratio": "needs pairs of periods of five minutes; tests/controller/metrics",
    "dynawatt_gpu_energy_only": "only of GPUs that are shared, partitioned or unknown; tests/agent/test_exporting.py",
    "dynawatt_gpu_xid_errors_total": "only after an XID; tests/agent/test_exporting.py",
    "ALERTS": "only while something is wrong; every alert is tested by promtool",
}
"""Metrics whose queries may be empty, with the reason and where they are tested."""


class Prometheus:
    def __init__(self, url):
        self._url = url

    def ask(self, expression):
        answer = httpx.post(f"{self._url}/api/v1/query", data={"query": expression}, timeout=30).json()
        assert answer["status"] == "success", (answer.get("error"), expression)
        return answer["data"]["result"]

    def rules(self):
        groups = httpx.get(f"{self._url}/api/v1/rules", timeout=30).json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="module")
def prometheus(dynawatt_sandbox, until):
    """With the rules that the chart brings."""
    asked = Prometheus(dynawatt_sandbox.prometheus_url)
    until(asked.rules)
    return asked


@pytest.fixture(scope="module")
def busy(prometheus, managed, until):
    """Prometheus while a service under load is governed, and has been scaled."""
    service = managed("shown")
    service.deploy(replicas=2)
    load = service.load()
    service.manage(
        slo={
            "interTokenMilliseconds": 500,
            "timeToFirstToken": [{"maxInputTokens": 256, "milliseconds": 2500}, {"milliseconds": 5000}],
        },
        evaluation={"switchbackPercent": 1},
    )
    until(lambda: service.settled(1) and service.claimed(), within_s=120)
    until(service.slowed, within_s=90)
    until(lambda: prometheus.ask("llmservice:dynawatt_saving_band_joules:increase6h"), within_s=60)
    time.sleep(2 * RATE_S)
    yield prometheus
    assert load.stop().failed == 0


def is_exception(expression):
    return any(metric in expression for metric in NOT_IN_A_GOOD_RUN)


def has_numbers(found):
    return any(math.isfinite(float(series["value"][1])) for series in found)


def test_every_query_of_every_panel_has_data(busy, dashboards):
    asked = [
        (f"{name}: {question.panel['title']}", question.expression)
        for name, dashboard in dashboards.items()
        for question in questions(dashboard, shown_s=SHOWN_S, rate_s=RATE_S)
    ]
    assert len(asked) > 100
    empty = [each for each in asked if not has_numbers(busy.ask(each[1])) and not is_exception(each[1])]
    assert not empty, "\n".join(f"{title}\n  {expression}" for title, expression in empty)


def test_no_exception_is_left_that_has_data(busy, dashboards):
    """What always has numbers must not be excused."""
    for metric in NOT_IN_A_GOOD_RUN:
        assert not busy.ask(f'{metric}{{alertstate!="pending"}}'), metric


def test_the_preview_shows_every_panel(busy, dashboards, dynawatt_sandbox, tmp_path):
    options = ["--prometheus-url", dynawatt_sandbox.prometheus_url, "--minutes", "1", "--scrape-s", "2"]
    subprocess.run(
        [sys.executable, "-m", "dynawatt.dashboards.preview", *options, "--output", tmp_path], check=True, cwd=ROOT
    )
    for dashboard in dashboards.values():
        page = (tmp_path / f"{dashboard['uid']}.html").read_text()
        shown = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
        excused = [panel for panel in shown if all(is_exception(target["expr"]) for target in panel["targets"])]
        assert page.count("<h3>") == len(shown)
        # An alert may be pending, and then its panel is not empty.
        assert page.count("<div class='none'>") <= len(excused), dashboard["uid"]
        charts = sum(panel["type"] in {"timeseries", "state-timeline"} for panel in shown if panel not in excused)
        assert page.count("Plotly.newPlot") >= charts
        seen = photograph(tmp_path / f"{dashboard['uid']}.html", tmp_path / f"{dashboard['uid']}.png")
        drawn = drawn_charts(seen.text)
        assert len(drawn) >= charts
        assert [name for name in drawn if not drawn[name]] == []
        titles = [panel["title"].replace("${currency}", "USD") for panel in shown]
        assert [html.unescape(title) for title in re.findall("<h3>(.*?)</h3>", seen.text)] == titles


def test_every_recorded_series_has_data(busy):
    names = [rule.name for rules in GROUPS.values() for rule in rules]
    assert [name for name in names if not has_numbers(busy.ask(name))] == []


def test_no_alert_fires_in_a_good_run(busy):
    rules = busy.rules()
    assert {rule["name"]: rule["lastError"] for rule in rules if rule["health"] != "ok"} == {}
    assert [rule["name"] for rule in rules if rule.get("state") == "firing"] == []
    assert sum(rule["type"] == "alerting" for rule in rules) == 13


def test_variables_offer_what_there_is(busy, dashboards):
    for dashboard in dashboards.values():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                metric, label = variable["query"]["query"].removeprefix("label_values(").removesuffix(")").split(", ")
                metric = metric.replace("$namespace", ".*")
                assert all(series["metric"].get(label) for series in busy.ask(metric)), variable["name"]
                assert busy.ask(metric), variable["name"]
