"""Makes the governor's table of a replica from its surface.

The surface says which load every clock carries and what it draws; the step
times of the profile say how large a decode batch may be, and how fast a queue is
worked off. Clocks that another one beats at all their loads are left out, so that
for the governor the lowest clock that suffices is the best.
"""

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np

from dynawatt.errors import InvalidInputError
from dynawatt.governing.table import MAX_ROWS, ClockRow, GovernorTable
from dynawatt.perfmodel.models import Batch, chunk_pairs
from dynawatt.perfmodel.profile import ReplicaProfile
from dynawatt.perfmodel.surface import Surface
from dynawatt.planning.attainment import planned_attainment
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.objectives import LatencyObjectives

SPARE_BUDGET: Final = 0.1
"""Fraction of the error budget that the table leaves unplanned: about the statistical error of a surface.

More is left where replicas are counted (planning.attainment); the governor sees within seconds when it is used up.
"""
_LOADS: Final = 64
"""Loads at which the watts of all clocks are compared."""


class BatchLimits(Protocol):
    """The engine flags that the table depends on."""

    @property
    def max_num_batched_tokens(self) -> int:
        """Tokens of an iteration."""
        ...

    @property
    def max_num_seqs(self) -> int:
        """Requests in a batch."""
        ...

    @property
    def kv_capacity_tokens(self) -> int:
        """Tokens that the KV cache holds."""
        ...


def governor_table(
    surface: Surface,
    replica: ReplicaProfile,
    limits: BatchLimits,
    mix: LengthMix,
    objectives: LatencyObjectives,
    *,
    attainment: float,
    replicas: int,
    urgent_first: bool,
    judges_ttft: bool = True,
    spare_budget: float = SPARE_BUDGET,
) -> GovernorTable:
    """The table of each of ``replicas`` that share a load.

    Args:
        surface: Of the shape, over the clocks that the governor may use.
        replica: Models of the shape.
        limits: Its engine flags.
        mix: Requests of the service.
        objectives: Latency objectives.
        attainment: Fraction of first tokens and of gaps that must be within them.
        replicas: Size of the fleet.
        urgent_first: Whether the queue order lets urgent requests pass those that can wait.
        judges_ttft: Whether the pods' metrics tell which first tokens are in time.
        spare_budget: Fraction of the error budget that is left unplanned.

    Raises InvalidInputError when no clock carries any load within the SLO.
    """
    planned = planned_attainment(attainment, spare_budget)
    mean_input, mean_output = float(mix.input_tokens.mean()), float(mix.output_tokens.mean())
    mean_context = mean_input + mean_output / 2
    rows = []
    for clock_mhz, load_rps in _cheapest(surface, planned, replicas):
        decoding = round(load_rps * mean_output * surface.at(clock_mhz, load_rps, replicas).tbt_p50_s)
        rows.append(
            ClockRow(
                clock_mhz,
                load_rps,
                _prefill_tokens_per_s(replica, limits, clock_mhz, min(decoding, limits.max_num_seqs), mean_context),
                _decode_requests(replica, limits, clock_mhz, objectives.tbt_s, mean_context),
            )
        )
    return GovernorTable(
        attainment=attainment,
        tbt_s=objectives.tbt_s,
        drain_s=_drain_s(mix, objectives, attainment, urgent_first=urgent_first),
        prompt_tokens=mean_input,
        kv_requests=limits.kv_capacity_tokens / mean_context,
        judges_ttft=judges_ttft,
        rows=_thinned(rows),
    )


def _cheapest(surface: Surface, planned: float, replicas: int) -> list[tuple[int, float]]:
    """Clocks that draw least at some load, ascending, each with the highest load up to which it is to be used."""
    capacities_rps: dict[int, float] = {}
    most_rps = 0.0
    for clock_mhz in surface.clocks_mhz:
        # A higher clock carries what a lower one does, though noise may make it look otherwise.
        most_rps = max(most_rps, surface.capacity_rps(clock_mhz, planned, replicas))
        capacities_rps[clock_mhz] = most_rps
    if most_rps <= 0:
        raise InvalidInputError(
            f"SLO of {planned:.2%}: no clock up to {surface.clocks_mhz[-1]} MHz meets it at any load; "
            "loosen the objectives or choose more GPUs per replica"
        )
    # The capacities themselves are among the loads: up to there a clock may be used.
    loads = sorted({*np.linspace(0.0, most_rps, _LOADS), *(rps for rps in capacities_rps.values() if rps > 0)})
    found: dict[int, float] = {}
    lowest = 0
    for load_rps in loads:
        # Never a lower clock for more load, which noise may make look better.
        able = [clock for clock, most in capacities_rps.items() if most >= load_rps and clock >= lowest]
        lowest = min(able, key=lambda clock: (surface.power_w(clock, load_rps, replicas), clock))
        found[lowest] = load_rps
    return sorted((clock, float(load_rps)) for clock, load_rps in found.items())


def _prefill_tokens_per_s(
    replica: ReplicaProfile, limits: BatchLimits, clock_mhz: float, decoding: int, mean_context: float
) -> float:
    """Of full iterations beside a decoding batch."""
    tokens = max(1, limits.max_num_batched_tokens - decoding)
    return tokens / replica.step_s(_batch(decoding, mean_context, tokens), clock_mhz)


def _decode_requests(
    replica: ReplicaProfile, limits: BatchLimits, clock_mhz: float, tbt_s: float, mean_context: float
) -> int:
    """Most requests of a step without prefills that is within the objective; step times grow with the batch."""
    enough, too_many = 0, limits.max_num_seqs + 1
    while too_many - enough > 1:
        middle = (enough + too_many) // 2
        if replica.step_s(_batch(middle, mean_context, 0), clock_mhz) <= tbt_s:
            enough = middle
        else:
            too_many = middle
    return enough


def _batch(decoding: int, mean_context: float, prefill_tokens: int) -> Batch:
    return Batch(decoding, round(decoding * mean_context), prefill_tokens, chunk_pairs(prefill_tokens, 0))


def _drain_s(mix: LengthMix, objectives: LatencyObjectives, attainment: float, *, urgent_first: bool) -> float:
    """Within what time a queue must be worked off.

    First come, first served, the next request waits for all before it: the shortest objective counts that more requests
    have than may miss it. Where urgent requests pass the others, it is the objective of the mean waiting token.
    """
    objective_s = np.asarray(objectives.ttft_s_of(mix.input_tokens))
    if urgent_first:
        return float(np.average(objective_s, weights=mix.input_tokens))
    return float(np.quantile(objective_s, 1 - attainment, method="inverted_cdf"))


def _thinned(rows: Sequence[ClockRow]) -> tuple[ClockRow, ...]:
    """At most as many rows as a claim holds; each also carries what lower clocks do."""
    keep = sorted({round(index) for index in np.linspace(0, len(rows) - 1, min(len(rows), MAX_ROWS))})
    ascending: list[ClockRow] = []
    for index in keep:
        row, below = rows[index], ascending[-1] if ascending else rows[index]
        ascending.append(
            ClockRow(
                row.clock_mhz,
                max(row.load_rps, below.load_rps),
                max(row.prefill_tokens_per_s, below.prefill_tokens_per_s),
                max(row.decode_requests, below.decode_requests),
            )
        )
    return tuple(ascending)
