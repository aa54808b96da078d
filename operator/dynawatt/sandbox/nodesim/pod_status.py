"""What the kubelet writes into the status of a pod with one container, as strategic merge patches."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


def now() -> str:
    """This moment as Kubernetes writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def waiting(container: Mapping[str, Any], *, restarts: int, reason: str, message: str = "") -> dict[str, Any]:
    """Not started, or not started again yet."""
    state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
    phase = "Running" if restarts else "Pending"
    return {"phase": phase, **_containers(container, state, restarts=restarts, started=False, ready=False)}


def running(
    container: Mapping[str, Any], *, address: str, since: str, restarts: int, started: bool, ready: bool
) -> dict[str, Any]:
    """A process runs."""
    return {
        "phase": "Running",
        "startTime": since,
        "hostIP": "127.0.0.1",
        "hostIPs": [{"ip": "127.0.0.1"}],
        "podIP": address,
        "podIPs": [{"ip": address}],
        **_containers(container, {"running": {"startedAt": since}}, restarts=restarts, started=started, ready=ready),
    }


def ended(container: Mapping[str, Any], *, since: str, restarts: int, code: int, message: str) -> dict[str, Any]:
    """It has ended and will not be started again."""
    state = {
        "exitCode": code if code >= 0 else 128 - code,  # a signal, as shells tell it
        "reason": "Completed" if code == 0 else "Error",
        "message": message if code else "",
        "startedAt": since,
        "finishedAt": now(),
    }
    phase = "Failed" if code else "Succeeded"
    return {
        "phase": phase,
        **_containers(container, {"terminated": state}, restarts=restarts, started=False, ready=False),
    }


def _containers(
    container: Mapping[str, Any], state: Mapping[str, Any], *, restarts: int, started: bool, ready: bool
) -> dict[str, Any]:
    status = {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": ready,
        "started": started,
        "restartCount": restarts,
        "state": {"waiting": None, "running": None, "terminated": None, **state},
    }
    conditions = {"Initialized": True, "ContainersReady": ready, "Ready": ready}
    return {
        "conditions": [
            {
                "type": type_,
                "status": str(holds),
                "reason": "" if holds else "ContainersNotReady",
                "lastTransitionTime": now(),
            }
            for type_, holds in conditions.items()
        ],
        "containerStatuses": [status],
    }
