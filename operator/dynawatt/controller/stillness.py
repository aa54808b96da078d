"""Which replicas of a service did the same thing for long enough that a window of their metrics tells of the model."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.api.conditions import Reason
from dynawatt.api.group import CLAIM_ANNOTATION
from dynawatt.controller.target import ShapedWorkload, ready_since

WINDOW_S: Final = 60
"""Of one comparison, and the least time between two."""
LONGEST_WINDOW_S: Final = 240
"""Where pods are scraped so seldom that shorter ones hold too few samples."""


@dataclass(slots=True)
class _Still:
    """A shape that is as it was."""

    as_it_is: Hashable
    since_s: float


@dataclass(slots=True)
class Watch:
    """Of one service; all times on a monotonic clock. Nothing of it is needed to restart."""

    window_s: int = WINDOW_S
    asked_s: float = float("-inf")
    counted: set[str] = field(default_factory=set)
    """Uids of pods whose start was counted."""
    told: tuple[Reason, str, float] | None = None
    """Reason and text of the condition, and when it was written."""
    problem: str = ""
    """Why the last window told nothing."""
    _still: dict[str, _Still] = field(default_factory=dict)

    def observe(self, now_s: float, shapes: dict[str, Hashable]) -> None:
        """Note how each shape is now; those that are left out are not to be compared."""
        known = self._still
        self._still = {
            name: known[name] if name in known and known[name].as_it_is == as_it_is else _Still(as_it_is, now_s)
            for name, as_it_is in shapes.items()
        }

    def due(self, now_s: float) -> list[str]:
        """Shapes whose last window may be asked for now."""
        if now_s - self.asked_s < self.window_s:
            return []
        return [name for name, still in self._still.items() if now_s - still.since_s >= self.window_s]

    def widen(self) -> None:
        """After a window with too few samples."""
        self.window_s = min(2 * self.window_s, LONGEST_WINDOW_S)


def as_it_is(workload: ShapedWorkload, *, clock_off: bool) -> Hashable | None:
    """All of a shape that must stay the same during a window; None while its replicas come and go, or are none.

    ``clock_off`` tells whether its GPUs run at their default clock for the sake of measuring.
    """
    serving = workload.serving_pods
    if not serving or not len(serving) == len(workload.pods) == workload.replicas:
        return None
    pods = frozenset((pod["metadata"]["uid"], ready_since(pod), is_claimed(pod)) for pod in serving)
    return pods, workload.settings, clock_off


def is_claimed(pod: KubernetesObject) -> bool:
    """Whether an agent may move the clocks of its GPUs."""
    return CLAIM_ANNOTATION in (pod["metadata"].get("annotations") or {})
