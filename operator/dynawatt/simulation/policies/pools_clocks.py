"""DynamoLLM's instance manager: the clock of every replica, from its profile table and the load it sees.

Every five seconds it drops the clocks that do not carry the load within the SLO and
takes the one with the fewest watts of the others. In an emergency, when prompts wait
longer than their objective allows, the clock goes to the highest, and if that was not
enough by the next look, what waits is given to other replicas. The paper's first step,
ordering the queue by deadlines, needs another engine than one that serves in the order
of arrival, and its last one, dropping late requests, gives no user an answer.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from dynawatt.simulation.fleet_core import FleetSnapshot, ReplicaState
from dynawatt.simulation.policies.pools_profile import PoolProfile
from dynawatt.simulation.policy import FleetView, Group

LOOK_S: Final = 5.0
_WINDOW_S: Final = 60.0
"""The load of a replica is the mean over so long: in less there are too few requests to tell."""
_LEAST_S: Final = 30.0
"""A replica that serves for less keeps its clock."""


@dataclass(slots=True, eq=False)
class InstanceManager:
    """Governs the clocks of replicas; one object is for one run."""

    work_per_token: tuple[float, float]
    """Of a prompt token and of a generated one."""
    _seen: dict[int, deque[tuple[float, float, float]]] = field(default_factory=dict)
    """By replica: times, and the prompt and generated tokens that came to it until then."""
    _in_emergency: set[int] = field(default_factory=set)

    def forget(self) -> None:
        """Begin anew."""
        self._seen.clear()
        self._in_emergency.clear()

    def step(
        self,
        now_s: float,
        view: FleetView,
        profile_of: Callable[[Group], PoolProfile | None],
        patience_s: Callable[[int], float],
    ) -> Mapping[int, float]:
        """Clocks by replica id.

        Args:
            now_s: The time.
            view: The fleet.
            profile_of: The profile of a group, under what its pool gets at present.
            patience_s: By pool, how long a prompt may wait.
        """
        found = view.snapshot()
        rows = [row for row, state in enumerate(found.state.tolist()) if state == ReplicaState.SERVING]
        groups = {row: Group(int(found.shape[row]), int(found.pool[row])) for row in rows}
        members: dict[Group, int] = {}
        for group in groups.values():
            members[group] = members.get(group, 0) + 1
        clocks_mhz: dict[int, float] = {}
        for row, group in groups.items():
            identity, profile = int(found.id[row]), profile_of(group)
            tokens_per_s = self._tokens_per_s(identity, now_s, found, row)
            if profile is None or tokens_per_s is None:
                continue
            backlog_s = float(found.queued_prefill_tokens[row]) * self.work_per_token[0]
            if backlog_s > patience_s(group.pool):
                clocks_mhz[identity] = float(profile.fixed.clocks_mhz[-1])
                if identity in self._in_emergency:
                    view.reroute_waiting(identity)
                self._in_emergency.add(identity)
            else:
                self._in_emergency.discard(identity)
                load = members[group] * profile.load_of(tokens_per_s, self.work_per_token)
                clocks_mhz[identity] = float(profile.clock_mhz(members[group], load))
        self._seen = {int(found.id[row]): self._seen[int(found.id[row])] for row in rows}
        return clocks_mhz

    def _tokens_per_s(self, identity: int, now_s: float, found: FleetSnapshot, row: int) -> tuple[float, float] | None:
        """Prompt and generated tokens that came to a replica lately; None while it is too new to tell."""
        prompt = float(found.prompt_tokens[row] + found.queued_prefill_tokens[row])
        generated = float(found.first_tokens[row] + found.gaps[row])
        seen = self._seen.setdefault(identity, deque())
        seen.append((now_s, prompt, generated))
        while len(seen) > 2 and seen[1][0] <= now_s - _WINDOW_S:
            seen.popleft()
        begin_s, prompt_before, generated_before = seen[0]
        passed_s = now_s - begin_s
        if passed_s < _LEAST_S:
            return None
        return (prompt - prompt_before) / passed_s, (generated - generated_before) / passed_s
