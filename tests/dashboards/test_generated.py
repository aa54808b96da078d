import re
import subprocess
import sys
from pathlib import Path

import pytest

from dynawatt.dashboards.asking import questions
from dynawatt.dashboards.files import PAGES, generated_files
from dynawatt.dashboards.page import render

ROOT = Path(__file__).parents[2]


def command(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "dynawatt.dashboards", *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )
    return done.returncode, done.stdout, done.stderr


def test_the_repository_has_what_the_code_says():
    assert command("--check") == (0, "", "")


def test_drift_and_strays_are_found_and_mended(tmp_path):
    assert command("--write", "--root", str(tmp_path))[0] == 0
    assert command("--root", str(tmp_path)) == (0, "", "")
    changed, stray = tmp_path / "dashboards" / "dynawatt-nodes.json", tmp_path / "dashboards" / "rules" / "mine.yaml"
    changed.write_text("{}\n")
    stray.write_text("groups: []\n")
    code, _, said = command("--root", str(tmp_path))
    assert code == 1
    assert "dashboards/dynawatt-nodes.json differs from operator/dynawatt/dashboards; run: python -m dynawatt" in said
    assert "mine.yaml is not generated" in said
    assert command("--write", "--root", str(tmp_path))[0] == 1  # what is not ours is not taken away
    stray.unlink()
    assert command("--root", str(tmp_path)) == (0, "", "")


def panels(dashboards):
    for name, dashboard in dashboards.items():
        for panel in dashboard["panels"]:
            if panel["type"] != "row":
                yield f"{name}: {panel['title']}", panel


def test_every_panel_says_what_it_shows(dashboards):
    assert len(list(panels(dashboards))) > 60
    for name, panel in panels(dashboards):
        assert panel["fieldConfig"]["defaults"]["unit"], name
        assert len(panel["description"]) > 10, name
        assert panel["description"].endswith("."), name
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"], name
        assert panel["targets"], name


def test_thresholds_are_explained(dashboards):
    """Whoever sees orange or red must be able to read what it means."""
    for name, panel in panels(dashboards):
        colours = {step["color"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]}
        text = panel["description"]
        assert all(colour in text or "dashed line" in text for colour in colours & {"red", "orange"}), name


def test_titles_and_identifiers_are_unique(dashboards):
    for dashboard in dashboards.values():
        shown = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
        assert len({panel["title"] for panel in shown}) == len(shown)
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert len({dashboard["uid"] for dashboard in dashboards.values()}) == len(PAGES) == len(dashboards)


def test_panels_neither_overlap_nor_leave_the_grid(dashboards):
    for name, dashboard in dashboards.items():
        taken = set()
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24, (name, panel["title"])
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, (name, panel["title"])
            taken |= cells


def test_queries_use_the_source_and_the_variables_that_are_there(dashboards):
    for dashboard in dashboards.values():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        # A variable that there is not raises KeyError.
        assert all("$" not in each.expression for each in questions(dashboard, shown_s=60, rate_s=10))
        named = set(re.findall(r"\$\{?(\w+)", str(dashboard["panels"])))
        offered = {variable["name"] for variable in dashboard["templating"]["list"]}
        assert offered <= named | {"datasource"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.uid)
def test_the_same_code_makes_the_same_file(page):
    assert render(page) == render(page) == generated_files()[f"dashboards/{page.file_name}"]
