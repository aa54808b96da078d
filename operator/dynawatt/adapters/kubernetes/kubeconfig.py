"""Which cluster and namespace a command line means when it names none: as kubectl finds them."""

import os
from pathlib import Path
from typing import Final

from kubernetes import config

_DEFAULT: Final = "default"
_POD_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def find_kubeconfig(given: Path | None) -> Path | None:
    """The file that was given, or the first of $KUBECONFIG that exists, or ~/.kube/config; None to try as a pod does.

    A $KUBECONFIG none of whose files exists is returned as it is, so that connecting names it.
    """
    if given is not None:
        return given
    if listed := os.environ.get("KUBECONFIG", ""):
        paths = [Path(path).expanduser() for path in listed.split(os.pathsep) if path]
        return next((path for path in paths if path.exists()), paths[0] if paths else None)
    usual = Path.home() / ".kube" / "config"
    return usual if usual.exists() else None


def present_namespace(kubeconfig: Path | None) -> str:
    """The namespace of the kubeconfig's current context, or the pod's own; `default` where there is none."""
    if kubeconfig is None:
        return _POD_NAMESPACE.read_text(encoding="utf-8").strip() if _POD_NAMESPACE.exists() else _DEFAULT
    _, context = config.list_kube_config_contexts(str(kubeconfig))  # type: ignore[no-untyped-call]
    return str((context.get("context") or {}).get("namespace") or _DEFAULT)
