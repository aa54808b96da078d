"""Reads results out of the core's arrays."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynawatt.simulation.core import events
from dynawatt.simulation.core.slots import ReplicaSlots
from dynawatt.simulation.core.state import (
    FINISHED,
    GAP_SUM,
    GAPS,
    GAPS_MET,
    REQUESTS,
    TTFT_MET,
    TTFT_SUM,
    Core,
)
from dynawatt.simulation.tally import Tally


@dataclass(frozen=True, slots=True, eq=False)
class FleetSnapshot:
    """All replicas as they are now, by id. Of those that are gone all but the first three arrays are 0."""

    id: NDArray[np.int64]
    shape: NDArray[np.int64]
    pool: NDArray[np.int64]
    state: NDArray[np.int64]
    """ReplicaState."""
    open: NDArray[np.bool_]
    """Whether new requests go to it, once it serves."""
    clock_mhz: NDArray[np.float64]
    """In force for iterations that start now."""
    running: NDArray[np.int64]
    """Requests in the batch, partly prefilled ones included."""
    waiting: NDArray[np.int64]
    decode_requests: NDArray[np.int64]
    decode_context_tokens: NDArray[np.int64]
    queued_prefill_tokens: NDArray[np.int64]
    """Prompt tokens of waiting and partly prefilled requests that no iteration has taken on yet."""
    kv_usage: NDArray[np.float64]
    """Share of KV blocks in use."""
    arrived: NDArray[np.int64]
    """Requests given to it since it was created, as are all counts below; one that was rerouted counts at both."""
    first_tokens: NDArray[np.int64]
    """Requests that got their first token from it."""
    first_tokens_met: NDArray[np.int64]
    """Those of them in time."""
    prompt_tokens: NDArray[np.int64]
    """Of requests that got their first token."""
    gaps: NDArray[np.int64]
    """Gaps between two tokens of a request."""
    gaps_met: NDArray[np.int64]
    finished: NDArray[np.int64]
    """Requests that got their last token."""


@dataclass(frozen=True, slots=True, eq=False)
class RequestRecords:
    """Every request, in order of arrival."""

    ttft_s: NDArray[np.float64]
    """nan where there is no first token yet."""
    end_s: NDArray[np.float64]
    """Time of the last token; nan where there is none yet."""


def snapshot(core: Core, slots: ReplicaSlots, clock_mhz: NDArray[np.float64]) -> FleetSnapshot:
    """All replicas; ``clock_mhz`` is that of each row of costs."""
    living = slots.living(core)
    kv_blocks = np.asarray(core.shapes)["kv_blocks"][living["kind"]]

    def by_id(values: NDArray[Any]) -> NDArray[Any]:
        found = np.zeros(len(slots), values.dtype)
        found[living["id"]] = values
        return found

    return FleetSnapshot(
        id=np.arange(len(slots)),
        shape=slots.shapes,
        pool=slots.pools,
        state=by_id(living["state"]),
        open=by_id(living["closed"] == 0),
        clock_mhz=by_id(clock_mhz[living["next_costs"]]),
        running=by_id(living["decoding"] + living["prefilling"]),
        waiting=by_id(living["waiting"]),
        decode_requests=by_id(living["decoding"]),
        decode_context_tokens=by_id(living["context_tokens"]),
        queued_prefill_tokens=by_id(living["queued_tokens"]),
        kv_usage=by_id(1 - living["free_blocks"] / kv_blocks),
        arrived=by_id(living["arrived"]),
        first_tokens=by_id(living["first_tokens"]),
        first_tokens_met=by_id(living["first_tokens_met"]),
        prompt_tokens=by_id(living["prompt_tokens"]),
        gaps=by_id(living["gaps"]),
        gaps_met=by_id(living["gaps_met"]),
        finished=by_id(living["finished"]),
    )


def tally(core: Core, now_s: float) -> Tally:
    """Sums up to now, to which all must be settled."""
    fleet, counts = core.fleet[0], core.counts
    energy_j = core.energy_j.copy()
    under_way_gpu_s = events.add_under_way(core, now_s, energy_j)
    return Tally(
        requests=counts[:, REQUESTS].copy(),
        finished=counts[:, FINISHED].copy(),
        ttft_met=counts[:, TTFT_MET].copy(),
        gaps=counts[:, GAPS].copy(),
        gaps_met=counts[:, GAPS_MET].copy(),
        ttft_histogram=core.ttft_histogram.copy(),
        gap_histogram=core.gap_histogram.copy(),
        ttft_sum_s=core.sums_s[:, TTFT_SUM].copy(),
        gap_sum_s=core.sums_s[:, GAP_SUM].copy(),
        energy_j=energy_j,
        gpu_s=float(fleet.gpu_s + under_way_gpu_s),
        busy_gpu_s=float(fleet.busy_gpu_s + under_way_gpu_s),
        input_tokens=int(fleet.input_tokens),
        preemptions=int(fleet.preemptions),
        rejected=int(fleet.rejected),
        iterations=int(fleet.iterations),
    )
