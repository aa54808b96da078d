"""The custom resource definitions that other projects publish, from their Go modules.

The modules are pinned by the go.mod beside this file and verified against its go.sum. Go keeps them in its own cache;
the first time it downloads 8 MB.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from dynawatt.sandbox.paths import binaries_root
from dynawatt.sandbox.progress import Silent
from dynawatt.sandbox.toolchain import build_environment, find_go

from ..sandboxes import Program

_PROMETHEUS_OPERATOR: Final = "github.com/prometheus-operator/prometheus-operator"
_MONITORING: Final = "example/prometheus-operator-crd/monitoring.coreos.com"
_FILES: Final = {
    "PodMonitor": (_PROMETHEUS_OPERATOR, f"{_MONITORING}_podmonitors.yaml"),
    "PrometheusRule": (_PROMETHEUS_OPERATOR, f"{_MONITORING}_prometheusrules.yaml"),
    "ServiceMonitor": (_PROMETHEUS_OPERATOR, f"{_MONITORING}_servicemonitors.yaml"),
    "ScaledObject": ("github.com/kedacore/keda/v2", "config/crd/bases/keda.sh_scaledobjects.yaml"),
    "VerticalPodAutoscaler": ("k8s.io/autoscaler/vertical-pod-autoscaler", "deploy/vpa-v1-crd-gen.yaml"),
}
"""Module, and file in it, by the kind that the file defines."""


@cache
def _module_folders() -> dict[str, Path]:
    go = find_go(install_root=binaries_root(), progress=Silent())
    done = subprocess.run(
        [go, "mod", "download", "-json"],
        cwd=Path(__file__).parent,
        env=build_environment(dict(os.environ)),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    modules = json.loads("[" + done.stdout.replace("}\n{", "},{") + "]")
    return {module["Path"]: Path(module["Dir"]) for module in modules}


def definition_of(kind: str) -> dict[str, Any]:
    """As its project publishes it."""
    module, file = _FILES[kind]
    documents = yaml.safe_load_all((_module_folders()[module] / file).read_text(encoding="utf-8"))
    [found] = [one for one in documents if one["spec"]["names"]["kind"] == kind]
    return found


@contextmanager
def served(kubectl: Program, *kinds: str) -> Iterator[None]:
    """While it lasts the API server knows these kinds. It takes their objects along when it forgets them."""
    definitions = [definition_of(kind) for kind in kinds]
    names = [f"crd/{definition['metadata']['name']}" for definition in definitions]
    try:
        kubectl("create", "--filename=-", stdin=yaml.safe_dump_all(definitions))
        kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)
        yield
    finally:
        kubectl("delete", "--ignore-not-found", *names)
