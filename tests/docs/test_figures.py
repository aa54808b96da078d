"""The table in the README holds figures of docs/results.md, and no others."""

import re

from .reading import ROOT

OF_POLICY = {
    "static fleet with vLLM's default settings": "vllm-default",
    "static fleet, tuned (`single-pool`)": "single-pool",
    "its clocks governed (`clock-only-fcfs`)": "clock-only-fcfs",
    "DynamoLLM": "dynamollm",
    "dynawatt on stock vLLM, with a router that packs (`dynawatt-fcfs`)": "dynawatt-fcfs",
    "the bound: knows the future, switches for free": "clairvoyant",
}


def rows(text):
    cells = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {cell[0]: cell[1:] for cell in cells}


def test_they_are_those_of_the_week_of_conversations():
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    [week] = re.findall(r"^## A week of conversations.*?(?=^## )", results, re.MULTILINE | re.DOTALL)
    readme = rows((ROOT / "README.md").read_text(encoding="utf-8").partition("\n## ")[0])
    table, _ = week.split("Against what was wanted", 1)
    measured = {name.split(" ")[0].strip("`"): cells for name, cells in rows(table).items()}
    shown = {name: cells for name, cells in readme.items() if name in OF_POLICY}
    assert shown.keys() == OF_POLICY.keys()
    for name, (energy, ttft, tbt) in shown.items():
        idling, _, _, in_time_ttft, in_time_tbt, *_ = measured[OF_POLICY[name]]
        assert [energy, ttft, tbt] == [idling, in_time_ttft, in_time_tbt], name
