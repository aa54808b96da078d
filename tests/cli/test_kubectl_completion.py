"""`kubectl dynawatt <TAB>`, asked of kubectl as its own completion scripts do."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dynawatt.sandbox.build import ensure_built

pytestmark = pytest.mark.integration  # kubectl is built for it

ROOT = Path(__file__).parents[2]
OFFER_FILES, OFFER_NO_FILES = ":0", ":4"


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """What kubectl offers in the place of the last word, with descriptions, and its directive to the shell."""
    folder = tmp_path_factory.mktemp("bin")
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for name, place in scripts.items():
        module, function = place.split(":")
        (folder / name).write_text(f"#!{sys.executable}\nfrom {module} import {function}\n{function}()\n")
        (folder / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{folder}:/usr/bin:/bin", "PYTHONPATH": str(ROOT / "operator")}

    def asked(*words):
        command = [ensure_built()["kubectl"], "__complete", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=True)
        *lines, directive = done.stdout.splitlines()
        return dict(line.partition("\t")[::2] for line in lines), directive

    return asked


def test_commands_are_offered_with_what_they_do(complete):
    offered, directive = complete("dynawatt", "")
    assert offered["explain"].startswith("Why an LLMService is as it is")
    assert {"advise", "doctor", "sandbox", "uninstall"} <= offered.keys()
    assert directive == OFFER_NO_FILES


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["ex"], {"explain"}),
        (["sandbox", "kube"], {"kubeconfig", "kubectl"}),
        (["crds", "--ch"], {"--check"}),
        (["demo", "--fault", ""], {"operator-kill"}),
    ],
)
def test_only_what_begins_like_the_word_is_offered(complete, words, wanted):
    offered, directive = complete("dynawatt", *words)
    assert offered.keys() == wanted
    assert directive == OFFER_NO_FILES


@pytest.mark.parametrize("words", [["simulate", "--trace", ""], ["explain", 'default/it\'s $HOME "here"']])
def test_where_nothing_is_known_the_shell_offers_files(complete, words):
    assert complete("dynawatt", *words) == ({}, OFFER_FILES)
