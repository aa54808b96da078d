"""What the demo does to the system on purpose."""

import asyncio
import signal
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from dynawatt.sandbox.cluster import Sandbox

_AT: Final = 0.4
"""Share of the load's time after which it is done."""
_AWAY_S: Final = 20.0


class Fault(StrEnum):
    """What can be done."""

    OPERATOR_KILL = "operator-kill"
    """The operator is killed without a warning under load, and started again 20 s later."""


@dataclass(slots=True)
class OperatorKill:
    """Kills the operator, and starts it again."""

    sandbox: Sandbox
    killed_s: float | None = None
    """After the beginning of the load."""
    back_s: float | None = None

    async def run(self, duration_s: float) -> None:
        """Do it, at the time for it. Raises OperationError when it cannot be started again."""
        began_s = time.monotonic()
        await asyncio.sleep(_AT * duration_s)
        await asyncio.to_thread(self.sandbox.stop_operator, signal.SIGKILL)
        self.killed_s = time.monotonic() - began_s
        await asyncio.sleep(_AWAY_S)
        await asyncio.to_thread(self.sandbox.start_operator)
        self.back_s = time.monotonic() - began_s

    @property
    def told(self) -> str:
        """In a sentence."""
        if self.killed_s is None or self.back_s is None:
            return "The load ended before the operator was to be killed."
        return f"The operator was killed at {self.killed_s:.0f} s and was back at {self.back_s:.0f} s."

    def to_json(self) -> dict[str, Any]:
        """When it was done; times in s after the beginning of the load."""
        return {"kind": Fault.OPERATOR_KILL.value, "killed_s": self.killed_s, "back_s": self.back_s}
