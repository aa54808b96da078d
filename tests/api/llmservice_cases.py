"""Reads llmservice_cases.yaml for the tests in Python and those against the API server (through runpy)."""

import copy
from pathlib import Path

import pytest
import yaml

_TABLE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())

BASE = _TABLE["base"]


def with_changes(changes, removed=()):
    spec = copy.deepcopy(BASE)
    for path in removed:
        parent, leaf = _parent(spec, path)
        del parent[leaf]
    for path, value in changes.items():
        parent, leaf = _parent(spec, path)
        parent[leaf] = copy.deepcopy(value)
    return spec


def _parent(spec, path):
    *parents, leaf = path.split(".")
    for name in parents:
        spec = spec[name]
    return spec, leaf


def _spec(case):
    return with_changes(case.get("set", {}), case.get("remove", []))


ACCEPTED = [pytest.param(_spec(case), id=case["name"]) for case in _TABLE["accepted"]]
REFUSED = [
    pytest.param(_spec(case), case["at"], case["says"], case.get("rule", False), id=case["name"])
    for case in _TABLE["refused"]
]
