"""Whether the operator's event loop still runs: a process that hangs must be restarted."""

import asyncio
import time
from typing import Final

_BEAT_S: Final = 1.0
_LONGEST_S: Final = 30.0


class Pulse:
    """Beats in the event loop, and is felt from another thread."""

    def __init__(self) -> None:
        self._last_s = time.monotonic()

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            self._last_s = time.monotonic()
            await asyncio.sleep(_BEAT_S)

    def problem(self) -> str:
        """What is wrong; empty while it beats."""
        silent_s = time.monotonic() - self._last_s
        return f"the event loop has not run for {silent_s:.0f} s" if silent_s > _LONGEST_S else ""
