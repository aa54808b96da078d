"""Pages that are made from the types are up to date, and tell everything."""

import re
import subprocess
import sys

import pytest

from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.crd import crd_documents
from dynawatt.reference.fields import objects
from dynawatt.reference.llmservice_page import llmservice_page
from dynawatt.reference.troubleshooting_page import explained, troubleshooting_page

from .reading import ROOT


def reference(*arguments):
    command = [sys.executable, "-m", "dynawatt.reference", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_committed_pages_are_current():
    done = reference("--check", "--root", ROOT)
    assert done.returncode == 0, done.stderr


def test_drift_is_told_and_mended(tmp_path):
    (tmp_path / "docs").mkdir()
    done = reference("--check", "--root", tmp_path)
    assert done.returncode == 1
    assert "docs/llmservice.md differs" in done.stderr
    assert reference("--write", "--root", tmp_path).returncode == 0
    assert reference("--check", "--root", tmp_path).returncode == 0


def test_every_reason_has_its_entry_and_no_other_has():
    page = troubleshooting_page()
    headings = re.findall(r"^### (\w+)$", page, re.MULTILINE)
    fine = re.findall(r"^\| `(\w+)` \|", page.partition("\n## Reasons that call for nothing\n")[2], re.MULTILINE)
    assert sorted(headings + fine) == sorted(Reason)


@pytest.mark.parametrize("enumeration", [ConditionType, Reason])
def test_every_member_is_explained_in_a_sentence(enumeration):
    sentences = explained(enumeration)
    assert set(sentences) == set(enumeration.__members__)
    assert all(sentence.endswith(".") for sentence in sentences.values())


def test_every_field_has_its_row():
    page = llmservice_page()
    [document] = [one for one in crd_documents() if one["spec"]["names"]["kind"] == "LLMService"]
    properties = document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    for root in ("spec", "status"):
        for found in objects(properties[root], root):
            section = page.partition(f"# {found.path}\n")[2].partition("\n#")[0]
            for name, *_ in found.rows:
                assert f"\n| `{name}` |" in section


def test_bounds_defaults_and_rules_are_told_once():
    page = llmservice_page()
    assert "| `percentile` | integer, 50 to 99 | `99` | Percent of all requests" in page
    assert "| `knobs` | list (1 to 3) of `Clock` or `Replicas` or `Shape` | `[Clock]` |" in page
    assert "| `deploymentRef` | object | **required** |" in page
    assert "From 50 to 99" not in page
    assert page.count("`min` must be at most `max`") == 1
