"""What a pool of replicas does with the requests of an interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.simulation.slots.books import Books
from dynawatt.simulation.slots.members import Gauges, Member
from dynawatt.simulation.slots.sharing import Taker, taken_parts
from dynawatt.simulation.slots.tables import Operation, SurfaceTable
from dynawatt.simulation.tally import Cause

Numbers = NDArray[np.float64]

NOTHING: Final = 1e-6
"""Requests that are none."""


@dataclass(frozen=True, eq=False)
class Kind:
    """Replicas of a pool that do the same: of one shape, at one clock, with as many requests in the queue."""

    members: Sequence[Member]
    takes: bool
    """Whether new requests go to them."""
    table: SurfaceTable
    weights: Numbers
    """What a request of each class counts, as part of one of the pool's mix; [class]."""

    @property
    def clock_mhz(self) -> float:
        """Of all of them."""
        return self.members[0].clock_mhz

    @property
    def queue(self) -> Numbers:
        """Requests that wait at each of them, by class."""
        return self.members[0].queue

    @cached_property
    def queued(self) -> float:
        """The same in requests of the pool's mix."""
        return float(self.queue @ self.weights)

    @cached_property
    def limit_rps(self) -> float:
        """What each can serve."""
        return self.table.limit_rps(self.clock_mhz)


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What one replica is given for an interval."""

    arrived: Numbers
    """New requests, by class."""
    late: float
    """Part of the new ones that cannot be in time, because others wait before them."""
    offered_rps: float
    """New ones and those in its queue, in requests of the pool's mix."""


@dataclass(frozen=True, eq=False)
class PoolFlow:
    """Requests that come to a pool in an interval."""

    kinds: Sequence[Kind]
    arrived: Numbers
    """By class."""
    waited: Numbers
    """Those of them that waited for any replica to serve, by class."""
    interval_s: float

    @cached_property
    def replicas(self) -> int:
        """That share the requests."""
        return sum(len(kind.members) for kind in self.kinds if kind.takes)

    @cached_property
    def tasks(self) -> list[Task]:
        """Of one replica of each kind."""
        takers = [kind for kind in self.kinds if kind.takes]
        demands_rps = [float(self.arrived @ kind.weights) / self.interval_s for kind in takers]
        parts = iter(taken_parts([self._taker(kind) for kind in takers], demands_rps, self.interval_s))
        spare = _has_spare(takers, demands_rps)
        found = []
        for kind in self.kinds:
            arrived = (next(parts) if kind.takes else 0.0) * self.arrived
            new_rps = float(arrived @ kind.weights) / self.interval_s
            offered_rps = new_rps + kind.queued / self.interval_s
            if offered_rps > kind.limit_rps:
                late = 1.0
            elif spare or kind.queued == 0:
                # Where others have room, new requests come when the queue has gone.
                late = 0.0
            else:
                late = min(1.0, kind.queued / (kind.limit_rps - new_rps) / self.interval_s)
            found.append(Task(arrived, late, offered_rps))
        return found

    def serve(self, books: Books, input_tokens: Numbers, output_tokens: Numbers) -> None:
        """Write down what happens, and what each replica does; tokens are those of a request, by class."""
        # Those that waited for a replica are among the arrivals, and none of them is in time.
        waited = float(self.waited.sum()) / max(NOTHING, float(self.arrived.sum()))
        for kind, task in zip(self.kinds, self.tasks, strict=True):
            part = min(1.0, kind.limit_rps / task.offered_rps) if task.offered_rps > 0 else 1.0
            how = kind.table.at(kind.clock_mhz, part * task.offered_rps, max(1, self.replicas))
            missed = waited + (1 - waited) * task.late
            served, late = part * (kind.queue + task.arrived), part * (kind.queue + missed * task.arrived)
            left = (1 - part) * (kind.queue + task.arrived)
            gaps = served * (output_tokens - 1)
            count = len(kind.members)
            delay_s = (kind.queued + float(left @ kind.weights)) / 2 / kind.limit_rps
            books.serve(count * served, count * late, count * gaps, delay_s, how)
            books.input_tokens += count * float(served @ input_tokens)
            _spend(books, kind, how, part * task.offered_rps, self.interval_s)
            gauges = _gauges(kind, how, part * task.offered_rps, float(left.sum()), max(1, self.replicas))
            met = float((served - late) @ how.ttft_attainment)
            ended = float(served.sum())
            prompts, gaps_met = float(served @ input_tokens), float(gaps @ how.tbt_attainment)
            counted = np.array([task.arrived.sum(), ended, met, prompts, gaps.sum(), gaps_met, ended])
            for member in kind.members:
                member.queue = left if left.sum() > NOTHING else np.zeros_like(left)
                member.gauges = gauges
                member.counts += counted

    def _taker(self, kind: Kind) -> Taker:
        grid = kind.table.outstanding(kind.clock_mhz, self.replicas) if len(self.kinds) > 1 else (_NONE, _NONE)
        return Taker(len(kind.members), kind.limit_rps, kind.queued / self.interval_s, *grid)


_NONE: Final = np.zeros(1)


def _has_spare(takers: Sequence[Kind], demands_rps: Sequence[float]) -> bool:
    """Whether the replicas without a queue can serve all new requests."""
    free = [(kind, demand_rps) for kind, demand_rps in zip(takers, demands_rps, strict=True) if kind.queued == 0]
    return sum(len(kind.members) * kind.limit_rps / max(NOTHING, rps) for kind, rps in free) >= 1


def _spend(books: Books, kind: Kind, how: Operation, rate_rps: float, interval_s: float) -> None:
    """Joules by cause. The surface knows the sum; its parts are an estimate."""
    table, held_s = kind.table, len(kind.members) * interval_s
    busy = table.busy_share(how, rate_rps)
    idle_j = min(how.power_w, (1 - busy) * table.idle_w(kind.clock_mhz)) * held_s
    work_j = how.power_w * held_s - idle_j
    prefill_j = min(work_j, rate_rps * held_s * table.prefill_j(kind.clock_mhz))
    books.energy_j[Cause.IDLE] += idle_j
    books.energy_j[Cause.PREFILL] += prefill_j
    books.energy_j[Cause.DECODE] += work_j - prefill_j
    gpu_s = table.shape.replica.tensor_parallel * held_s
    books.gpu_s += gpu_s
    books.busy_gpu_s += busy * gpu_s


def _gauges(kind: Kind, how: Operation, rate_rps: float, left: float, replicas: int) -> Gauges:
    """By Little's law, and what is left waiting at the end."""
    table = kind.table
    unhurried_s = min(how.ttft_mean_s, table.unhurried_s(kind.clock_mhz, replicas))
    waiting = left + rate_rps * (how.ttft_mean_s - unhurried_s)
    running = rate_rps * (unhurried_s + table.mean_gaps * how.tbt_mean_s)
    running = min(running, float(table.shape.settings.max_num_seqs))
    context_tokens = running * (table.mean_prompt_tokens + table.mean_gaps / 2)
    return Gauges(
        running=running,
        waiting=waiting,
        context_tokens=context_tokens,
        prompt_tokens=waiting * table.mean_prompt_tokens,
        kv_usage=min(1.0, context_tokens / table.shape.settings.kv_capacity_tokens),
        emptying_s=how.ttft_mean_s + table.long_gaps * how.tbt_mean_s if rate_rps > 0 else 0.0,
    )
