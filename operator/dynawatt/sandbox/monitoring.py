"""A real Prometheus that scrapes the simulated vLLM pods, the operator and the agents."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from dynawatt.sandbox.launching import Component
from dynawatt.sandbox.state import SandboxState

_TEMPLATE: Final = Path(__file__).parent / "manifests" / "prometheus.yaml"


def prometheus(binary: Path, *, kubeconfig: Path, state: SandboxState, rules: Mapping[str, str]) -> Component:
    """Prometheus with its data in the sandbox's directory; ``rules`` are texts by file name."""
    config, folder = state.directory / "prometheus.yaml", state.directory / "rules"
    folder.mkdir()
    for name, rule in rules.items():
        (folder / name).write_text(rule, encoding="utf-8")
    text = _TEMPLATE.read_text(encoding="utf-8")
    paths = {"KUBECONFIG": kubeconfig, "DYNAWATT_TARGETS": state.dynawatt_targets, "RULES": folder / "*.yaml"}
    for word, path in paths.items():
        text = text.replace(word, json.dumps(str(path)))  # a JSON string is a YAML string whatever the path holds
    config.write_text(text, encoding="utf-8")
    write_targets(state, [], {})

    def command(port: int) -> list[str]:
        return [
            str(binary),
            f"--config.file={config}",
            f"--storage.tsdb.path={state.directory / 'prometheus'}",
            "--storage.tsdb.retention.time=6h",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]

    return Component("prometheus", command, health="/-/ready")


def write_targets(state: SandboxState, operators: Sequence[str], agent_by_node: Mapping[str, str]) -> None:
    """Tell Prometheus by their URLs where the operator and the agents are; it notices by itself."""
    targets = [
        {"targets": [urlsplit(url).netloc for url in operators], "labels": {}},
        *({"targets": [urlsplit(url).netloc], "labels": {"node": node}} for node, url in agent_by_node.items()),
    ]
    draft = state.dynawatt_targets.with_suffix(".new")
    draft.write_text(json.dumps(targets), encoding="utf-8")
    draft.rename(state.dynawatt_targets)
