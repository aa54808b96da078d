"""How long a replica may load before the kubelet takes it for dead."""

import math
from collections.abc import Mapping
from typing import Any, Final

_MARGIN: Final = 3.0
"""Over the learnt start-up: the first start at a tensor-parallel size compiles, and finds no weights cached."""
_HANDLERS: Final = ("httpGet", "tcpSocket", "exec", "grpc")
_PERIOD_S: Final = 10


def budget_s(probe: Mapping[str, Any]) -> int:
    """Seconds until a probe that never succeeds is given up, with Kubernetes' defaults where nothing is given."""
    tries: int = probe.get("failureThreshold", 3) * probe.get("periodSeconds", 10)
    delay: int = probe.get("initialDelaySeconds", 0)
    return delay + tries


def startup_budget_s(container: Mapping[str, Any]) -> int | None:
    """Seconds a container has to start; None when nothing ends a slow start."""
    probe = container.get("startupProbe") or container.get("livenessProbe")
    return budget_s(probe) if probe else None


def needed_s(startup_s: float | None) -> int:
    """Seconds that a start must be given where so many are usual; 0 when none were learnt."""
    return math.ceil(_MARGIN * (startup_s or 0.0))


def with_startup_budget(container: Mapping[str, Any], startup_s: float | None) -> dict[str, Any]:
    """A container with time for its start, never less than it had.

    Without a startup probe it is the liveness probe that ends slow starts: the same question is then asked as a startup
    probe first.
    """
    budget, needed = startup_budget_s(container), needed_s(startup_s)
    if budget is None or budget >= needed:
        return dict(container)
    probe = container.get("startupProbe")
    if not probe:
        alive = container["livenessProbe"]
        handler = {name: alive[name] for name in _HANDLERS if name in alive}
        timeout_s = alive.get("timeoutSeconds", 1)
        probe = {**handler, "timeoutSeconds": timeout_s, "periodSeconds": _PERIOD_S, "successThreshold": 1}
    tries = math.ceil((needed - probe.get("initialDelaySeconds", 0)) / probe.get("periodSeconds", 10))
    return {**container, "startupProbe": {**probe, "failureThreshold": tries}}
