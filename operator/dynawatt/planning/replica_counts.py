"""The replicas of one shape as they are found: what its Deployment asks for, and the pods that are there."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ShapeCount:
    """One Deployment and its pods, which need not agree yet, or any more.

    A Deployment that asks for fewer takes away pods without a node first, then those that are not Ready.
    """

    gpus: int
    """Of one replica."""
    capacity_rps: float
    """What one replica carries within the objectives. Without a model any measure will do that is the same for all."""
    desired: int
    """What the Deployment asks for; 0 where it does not exist yet."""
    ready: int = 0
    """Pods that are Ready and not stopping."""
    starting: int = 0
    """Pods that are not Ready yet, and not overdue."""
    overdue: int = 0
    """Pods that are not Ready long after they usually are; and those that cannot be created, such as for a quota."""
    stopping: int = 0
    """Pods that finish their requests: they hold their GPUs until they are gone."""
    unscheduled: int = 0
    """How many of the starting and overdue ones have no node yet: GPUs that they will take still count as free."""
    drainable: int = 1_000_000
    """How many Ready pods may be drained now, as PodDisruptionBudgets and drain settings allow."""

    @property
    def serving(self) -> int:
        """Ready pods that stay."""
        return min(self.ready, self.desired)

    @property
    def coming(self) -> int:
        """Replicas that will be Ready in time, as far as is known; with those whose pods are still to be created."""
        missing = self.desired - self.serving
        return min(missing, max(self.starting, missing - self.overdue))

    @property
    def stuck(self) -> int:
        """Replicas that are asked for and overdue."""
        return self.desired - self.serving - self.coming

    @property
    def unplaced(self) -> int:
        """Replicas that are asked for and have no node yet."""
        return max(0, self.unscheduled - self._surplus)

    @property
    def leaving(self) -> int:
        """Pods that stop, or are about to."""
        return self.stopping + max(0, self._surplus)

    @property
    def pods(self) -> int:
        """All pods that are there or will be, those that stop included."""
        return self.desired + self.leaving

    @property
    def _surplus(self) -> int:
        """Pods that are there beyond what is asked for; negative for those still to be created."""
        return self.ready + self.starting + self.overdue - self.desired
