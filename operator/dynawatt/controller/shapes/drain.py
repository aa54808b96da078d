"""Whether pods finish their requests before they stop, and what to change where they do not."""

import re
from collections.abc import Mapping
from typing import Any, Final

from dynawatt.adapters.vllm_args import VllmSettings

_DEFAULT_GRACE_S: Final = 30
_MARGIN_S: Final = 15
_SLEEP: Final = re.compile(r"\bsleep\s+(\d+(?:\.\d+)?)s?\b")


def grace_s(pod_spec: Mapping[str, Any]) -> int:
    """Seconds from a pod's deletion until it is killed."""
    given: int | None = pod_spec.get("terminationGracePeriodSeconds")
    return _DEFAULT_GRACE_S if given is None else given


def pre_stop_s(container: Mapping[str, Any]) -> float:
    """Seconds that a container sleeps before it is told to stop; 0 for a hook that cannot be read."""
    hook = (container.get("lifecycle") or {}).get("preStop") or {}
    if "sleep" in hook:
        return float(hook["sleep"].get("seconds", 0))
    match = _SLEEP.search(" ".join((hook.get("exec") or {}).get("command") or ()))
    return float(match[1]) if match else 0.0


def drain_problem(pod_spec: Mapping[str, Any], container: Mapping[str, Any], settings: VllmSettings) -> str | None:
    """What to change so that pods finish their requests before they stop; None when they do.

    The grace period runs from the deletion on, so the sleep before vLLM is told to stop counts as well.
    """
    if settings.shutdown_timeout_s <= 0:
        return (
            "vLLM aborts running requests when a pod stops: add `--shutdown-timeout 60` to its arguments and set "
            "`terminationGracePeriodSeconds: 90`"
        )
    sleep_s = pre_stop_s(container)
    needed_s = sleep_s + settings.shutdown_timeout_s
    if grace_s(pod_spec) <= needed_s:
        before = f"the preStop sleep of {sleep_s:g} s and " if sleep_s else ""
        return (
            f"`terminationGracePeriodSeconds` is {grace_s(pod_spec)}, so the pod is killed before {before}"
            f"`--shutdown-timeout {settings.shutdown_timeout_s:g}` end: set it to at least {needed_s + _MARGIN_S:g}"
        )
    return None
