"""Brings all GPUs of a node back to their default clocks, once, without an agent."""

import time
from collections.abc import Callable
from typing import Final

from dynawatt.agent.actuating import Actuator
from dynawatt.agent.enforcing import Setting

_TRIES: Final = 3
_PAUSE_S: Final = 1.0


def reset_all(actuator: Actuator, *, sleep: Callable[[float], None] = time.sleep) -> list[str]:
    """Reset every GPU, whatever the journal says; the UUIDs of those that could not be."""
    for uuid in actuator.devices:
        actuator.suspect(uuid)
    for attempt in range(_TRIES):
        if attempt:
            sleep(_PAUSE_S)
        actuator.reset_all("reset-all was asked for")
        failed = [uuid for uuid in actuator.devices if actuator.commanded(uuid) is not Setting.DEFAULT]
        if not failed:
            break
    return failed
