"""How often the driver may be asked to change a GPU's clock, whatever goes wrong elsewhere."""

from typing import Final

CALLS_PER_S: Final = 3.0
"""A governor needs one, and a hand-over within the same second two more."""
_BURST: Final = 6.0


class CallLimit:
    """A bucket of calls that fills at CALLS_PER_S; one per GPU."""

    def __init__(self) -> None:
        self._calls = _BURST
        self._filled_s: float | None = None

    def take(self, now_s: float, calls: int = 1, *, reserve: float = 0.0) -> bool:
        """Use calls up if ``reserve`` are left then, or none; ``now_s`` is monotonic."""
        if self._filled_s is not None:
            self._calls = min(_BURST, self._calls + CALLS_PER_S * max(0.0, now_s - self._filled_s))
        self._filled_s = now_s
        if self._calls < calls + reserve:
            return False
        self._calls -= calls
        return True
