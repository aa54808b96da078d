import re
import subprocess
from pathlib import Path

import pytest
import yaml

from dynawatt.dashboards.alerts import ALERTS
from dynawatt.sandbox.build import ensure_built

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "dashboards" / "rules").glob("*.yaml"))
TESTS = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
RUNBOOKS = {path.stem: path.read_text() for path in (ROOT / "docs" / "runbooks").glob("*.md")}


def promtool(*arguments):
    done = subprocess.run([ensure_built()["promtool"], *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.integration
def test_prometheus_takes_the_rules():
    told = promtool("check", "rules", "--lint=all", "--lint-fatal", *RULES)
    assert told.count("SUCCESS") == len(RULES) == 2


@pytest.mark.integration
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_rules_do_what_they_are_for(path):
    promtool("test", "rules", path)


def outcomes():
    """Alerts with what is expected of them, in all tests."""
    for path in TESTS:
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test.get("alert_rule_test", ()):
                yield case["alertname"], bool(case["exp_alerts"])


def test_every_alert_is_tested_to_fire_and_to_be_silent():
    assert set(outcomes()) == {(alert.name, fires) for alert in ALERTS for fires in (True, False)}


def test_every_alert_has_its_runbook_and_no_runbook_is_left_over():
    assert RUNBOOKS.keys() == {alert.name for alert in ALERTS}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_runbooks_say_what_it_means_where_to_look_and_what_to_do(alert):
    text = RUNBOOKS[alert.name]
    assert re.findall("^## (.*)$", text, re.MULTILINE) == ["What it means", "Look", "Do"]
    assert text.startswith(f"# {alert.name}\n\n{alert.severity.value.capitalize()}. ")
    linked = re.findall(r"\]\(([^)#]+)\)", text)
    assert all((ROOT / "docs" / "runbooks" / link).is_file() for link in linked), linked
