"""The highest of the latest values."""

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class HighWater:
    """The highest value of the last ``window_s`` seconds."""

    window_s: float
    _falling: deque[tuple[float, float]] = field(default_factory=deque)
    """Values that nothing later has exceeded."""

    def add(self, now_s: float, value: float) -> float:
        """Take a value and return the highest one that is remembered."""
        while self._falling and self._falling[-1][1] <= value:
            self._falling.pop()
        self._falling.append((now_s, value))
        while self._falling[0][0] < now_s - self.window_s:
            self._falling.popleft()
        return self._falling[0][1]
