"""Gaps between tokens and joules, of single iterations and, in closed form, of runs of equal ones.

In a run the batch stays as it is, so its context grows by the same number of
tokens in every iteration: times and energies are arithmetic progressions.
"""

import math

import numpy as np

from dynawatt.simulation.core.jit import compiled
from dynawatt.simulation.core.state import (
    CLASSES,
    DRAINING,
    GAP_SUM,
    GAPS,
    GAPS_MET,
    GONE,
    STARTING,
    TTFT_MET,
    TTFT_SUM,
    Core,
    Costs,
    Floats,
    Replica,
    Request,
)
from dynawatt.simulation.tally import HISTOGRAM_START_S, HISTOGRAM_STEP, Cause

PREFILL, DECODE, IDLE, STARTUP = int(Cause.PREFILL), int(Cause.DECODE), int(Cause.IDLE), int(Cause.STARTUP)
_BINS_PER_LOG = 1 / math.log(HISTOGRAM_STEP)


@compiled
def iteration_s(replica: Replica, index: int) -> float:
    """Seconds of one iteration of the run under way."""
    return replica.base_s + replica.context_s * (replica.context_tokens + index * replica.decoding)


@compiled
def span_s(replica: Replica, count: int) -> float:
    """Seconds of the first iterations of the run under way."""
    return count * replica.base_s + replica.context_s * _contexts(replica, count)


@compiled
def ended_by(replica: Replica, time_s: float) -> int:
    """How many iterations of the run under way have ended at a time."""
    if replica.end_s <= time_s:
        return replica.run
    passed_s = time_s - replica.settled_s
    # Root of span_s(k) = passed_s, in the form that is exact for a slope of 0; then the neighbour that fits to the bit.
    slope_s = replica.context_s * replica.decoding
    half_s = iteration_s(replica, 0) - slope_s / 2
    count = int(2 * passed_s / (half_s + math.sqrt(max(0.0, half_s * half_s + 2 * slope_s * passed_s))))
    count = min(max(count, 0), replica.run - 1)
    while count > 0 and span_s(replica, count) > passed_s:
        count -= 1
    while count < replica.run - 1 and span_s(replica, count + 1) <= passed_s:
        count += 1
    return count


@compiled
def run_energy_j(core: Core, replica: Replica, count: int) -> tuple[float, float]:
    """Joules of the first iterations of the run under way, by prefill and decode."""
    costs = core.costs[replica.costs]
    gpus = core.shapes[replica.kind].gpus
    batch_j = core.tokens_j[replica.costs, replica.decoding + replica.prefill_tokens]
    batch_j += costs.request_j * replica.decoding
    if replica.prefill_tokens > 0:
        step_s = iteration_s(replica, 0)
        work_j = batch_j + costs.context_j * replica.context_tokens + costs.pair_j * replica.prefill_pairs
        energy_j = gpus * min(costs.tdp_w * step_s, costs.active_w * step_s + work_j)
        decode_j = energy_j * _decode_share(core, replica)
        return energy_j - decode_j, decode_j
    first, last = _excess_j(costs, replica, batch_j, 0), _excess_j(costs, replica, batch_j, count - 1)
    # Those from ``low`` to ``high`` stay below TDP, the others are capped to it.
    low, high = 0, count
    if first > 0 and last > 0:
        low = count
    elif first > 0 or last > 0:
        crossing = _crossing(costs, replica, batch_j, count)
        low, high = (crossing, count) if first > 0 else (0, crossing)
    free_s = span_s(replica, high) - span_s(replica, low)
    contexts = _contexts(replica, high) - _contexts(replica, low)
    energy_j = costs.active_w * free_s + (high - low) * batch_j + costs.context_j * contexts
    energy_j += costs.tdp_w * (span_s(replica, count) - free_s)
    return 0.0, gpus * energy_j


@compiled
def _crossing(costs: Costs, replica: Replica, batch_j: float, count: int) -> int:
    """First iteration on the other side of TDP than the first of the run; the excess is a straight line."""
    first, last = _excess_j(costs, replica, batch_j, 0), _excess_j(costs, replica, batch_j, count - 1)
    found = min(max(int(first / (first - last) * (count - 1)), 0), count - 1)
    while found > 0 and (_excess_j(costs, replica, batch_j, found) > 0) == (last > 0):
        found -= 1
    while (_excess_j(costs, replica, batch_j, found) > 0) == (first > 0):
        found += 1
    return found


@compiled
def _contexts(replica: Replica, count: int) -> int:
    """Sum of the contexts of the first iterations of a run."""
    return count * replica.context_tokens + replica.decoding * (count * (count - 1) // 2)


@compiled
def _excess_j(costs: Costs, replica: Replica, batch_j: float, index: int) -> float:
    """Joules by which an iteration of the run would exceed TDP."""
    work_j = batch_j + costs.context_j * (replica.context_tokens + index * replica.decoding)
    return work_j - (costs.tdp_w - costs.active_w) * iteration_s(replica, index)


@compiled
def _decode_share(core: Core, replica: Replica) -> float:
    """Share of an iteration's energy that decoding gets: the time it would take alone, of the time taken."""
    if replica.decoding == 0:
        return 0.0
    row = replica.costs
    alone_s: float = core.costs[row].iteration_s + core.tokens_s[row, replica.decoding]
    alone_s += core.requests_s[row, replica.decoding] + replica.context_s * replica.context_tokens
    return min(1.0, alone_s / iteration_s(replica, 0))


@compiled
def count_gaps(core: Core, slot: int, count: int) -> None:
    """Every decoding request's gaps over the first iterations of the run under way; each lasts one iteration."""
    replica = core.replicas[slot]
    total_s = span_s(replica, count)
    met = _within(replica, core.fleet[0].tbt_s, count)
    replica.gaps += replica.decoding * count
    replica.gaps_met += replica.decoding * met
    for length_class in range(CLASSES):
        requests = core.decoding[slot, length_class]
        if requests:
            core.counts[length_class, GAPS] += requests * count
            core.counts[length_class, GAPS_MET] += requests * met
            core.sums_s[length_class, GAP_SUM] += requests * total_s
    counted = 0
    while counted < count:
        gap_bin = bin_of(core.edges_s, iteration_s(replica, counted), replica.gap_bin)
        replica.gap_bin = gap_bin
        below = count
        if gap_bin < core.gap_histogram.shape[1] - 1:
            below = _within(replica, np.nextafter(core.edges_s[gap_bin + 1], -math.inf), count)
        for length_class in range(CLASSES):
            requests = core.decoding[slot, length_class]
            if requests:
                core.gap_histogram[length_class, gap_bin] += requests * (below - counted)
        counted = below


@compiled
def _within(replica: Replica, limit_s: float, count: int) -> int:
    """How many of the first iterations of the run take at most this long."""
    if iteration_s(replica, count - 1) <= limit_s:
        return count
    if iteration_s(replica, 0) > limit_s:
        return 0
    # The limit lies within the run, so the slope is not 0.
    guess = (limit_s - iteration_s(replica, 0)) / (replica.context_s * replica.decoding)
    within = min(int(guess), count)
    while within > 0 and iteration_s(replica, within - 1) > limit_s:
        within -= 1
    while within < count and iteration_s(replica, within) <= limit_s:
        within += 1
    return within


@compiled
def bin_of(edges_s: Floats, value_s: float, guess: int) -> int:
    """The histogram bin of a latency; fast where the guess is right."""
    last = len(edges_s) - 2
    if edges_s[guess] <= value_s < edges_s[guess + 1]:
        return guess
    if value_s < edges_s[1]:
        return 0
    if value_s >= edges_s[last]:
        return last
    found = min(max(int(math.log(value_s / HISTOGRAM_START_S) * _BINS_PER_LOG), 0), last)
    while edges_s[found] > value_s:
        found -= 1
    while edges_s[found + 1] <= value_s:
        found += 1
    return found


@compiled
def count_ttft(core: Core, replica: Replica, request: Request, now_s: float) -> None:
    """A request's first token."""
    ttft_s = now_s - request.arrival_s
    core.counts[request.length_class, TTFT_MET] += ttft_s <= request.objective_s
    replica.first_tokens += 1
    replica.first_tokens_met += ttft_s <= request.objective_s
    replica.prompt_tokens += request.input_tokens
    core.sums_s[request.length_class, TTFT_SUM] += ttft_s
    core.ttft_histogram[request.length_class, bin_of(core.edges_s, ttft_s, 0)] += 1
    core.fleet[0].input_tokens += request.input_tokens


@compiled
def count_late_gap(core: Core, replica: Replica, request: Request, now_s: float) -> None:
    """The gap between a request's last token before a preemption and its next one."""
    gap_s = now_s - request.last_token_s
    replica.gaps += 1
    replica.gaps_met += gap_s <= core.fleet[0].tbt_s
    core.counts[request.length_class, GAPS] += 1
    core.counts[request.length_class, GAPS_MET] += gap_s <= core.fleet[0].tbt_s
    core.sums_s[request.length_class, GAP_SUM] += gap_s
    core.gap_histogram[request.length_class, bin_of(core.edges_s, gap_s, 0)] += 1


@compiled
def count_idle(core: Core, replica: Replica, until_s: float) -> None:
    """Joules of a replica without work, up to a time; DRAINING ones without work hold nothing."""
    if replica.state in (GONE, DRAINING) or until_s <= replica.settled_s:
        return
    gpus = core.shapes[replica.kind].gpus
    cause = STARTUP if replica.state == STARTING else IDLE
    idle_s = until_s - replica.settled_s
    core.energy_j[cause] += gpus * core.costs[replica.costs].idle_w * idle_s
    core.fleet[0].gpu_s += gpus * idle_s
    replica.settled_s = until_s
