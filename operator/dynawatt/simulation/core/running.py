"""Begins, counts and ends runs of iterations of one replica.

A run is a single iteration with prefills, or as many pure decode iterations as
are sure to follow each other with the batch unchanged: up to the next end of a
request, the KV cache permitting. It is cut short when a request arrives that
might join.
"""

import math

from dynawatt.simulation.core.batching import blocks_of, can_admit, fill, leave_batch, make_room, phase_of
from dynawatt.simulation.core.counting import (
    DECODE,
    PREFILL,
    count_gaps,
    count_idle,
    count_late_gap,
    count_ttft,
    ended_by,
    run_energy_j,
    span_s,
)
from dynawatt.simulation.core.jit import compiled
from dynawatt.simulation.core.queues import push_end
from dynawatt.simulation.core.state import DRAINING, FINISHED, GONE, MAX_REQUESTS, SLOT_BITS, Core, Replica


@compiled
def begin(core: Core, slot: int, now_s: float) -> None:
    """Start the next run at a time up to which all is counted; the replica is idle where there is no work."""
    replica = core.replicas[slot]
    replica.costs = replica.next_costs
    replica.run = 0
    replica.end_s = math.inf
    if replica.outstanding == 0:
        if replica.state == DRAINING:
            replica.state = GONE
        return
    preempted = make_room(core, slot, now_s) if replica.decoding else 0
    replica.prefill_tokens = 0
    replica.prefill_pairs = 0.0
    if replica.prefilling or replica.waiting:
        fill(core, slot, preempted == 0)
    row = replica.costs
    costs = core.costs[row]
    replica.base_s = costs.iteration_s + core.tokens_s[row, replica.decoding + replica.prefill_tokens]
    replica.base_s += core.requests_s[row, replica.decoding] + costs.pair_s * replica.prefill_pairs
    replica.context_s = core.context_s[row, replica.decoding]
    replica.run = 1
    if replica.prefill_tokens == 0 and preempted == 0 and replica.context_s >= 0:
        replica.run = _run_length(core, slot)
    replica.end_s = now_s + span_s(replica, replica.run)


@compiled
def _run_length(core: Core, slot: int) -> int:
    """Iterations to the next end of a decoding request, or as many as find KV blocks."""
    replica = core.replicas[slot]
    phases = core.phases[slot]
    block_tokens = core.shapes[replica.kind].block_tokens
    wanted: int = (core.ends[slot, 0] >> SLOT_BITS) - replica.rounds
    if blocks_of(wanted - 1, block_tokens) * replica.decoding <= replica.free_blocks:
        return wanted
    # A block's length of rounds takes one block per request. What then is left does not last for another such cycle.
    cycles = replica.free_blocks // replica.decoding
    left = replica.free_blocks - cycles * replica.decoding
    length = 1 + cycles * block_tokens
    while length < wanted and phases[(replica.rounds + length) % block_tokens] <= left:
        left -= phases[(replica.rounds + length) % block_tokens]
        length += 1
    return min(length, wanted)


@compiled
def settle(core: Core, slot: int, count: int) -> None:
    """Count the first iterations of the run under way; what remains of it goes on."""
    replica = core.replicas[slot]
    shape = core.shapes[replica.kind]
    prefill_j, decode_j = run_energy_j(core, replica, count)
    core.energy_j[PREFILL] += prefill_j
    core.energy_j[DECODE] += decode_j
    if replica.decoding:
        count_gaps(core, slot, count)
    passed_s = span_s(replica, count)
    core.fleet[0].gpu_s += shape.gpus * passed_s
    core.fleet[0].busy_gpu_s += shape.gpus * passed_s
    core.fleet[0].iterations += count
    # The blocks of the first iteration are taken; those of the ones after it follow as they start.
    started = count if count < replica.run else count - 1
    if started:
        phases = core.phases[slot]
        replica.free_blocks -= started // shape.block_tokens * replica.decoding
        for i in range(started % shape.block_tokens):
            replica.free_blocks -= phases[(replica.rounds + 1 + i) % shape.block_tokens]
    replica.settled_s = replica.end_s if count == replica.run else replica.settled_s + passed_s
    replica.rounds += count
    replica.context_tokens += count * replica.decoding
    replica.run -= count


@compiled
def run_until(core: Core, slot: int, limit_s: float) -> None:
    """End every run that ends by a time and begin the next."""
    replica = core.replicas[slot]
    while replica.end_s <= limit_s:
        settle(core, slot, replica.run)
        now_s = replica.settled_s
        while replica.decoding and core.ends[slot, 0] >> SLOT_BITS <= replica.rounds:
            request_slot = core.ends[slot, 0] % MAX_REQUESTS
            leave_batch(core, slot, 0)
            _end(core, replica, request_slot, now_s)
        if replica.prefill_tokens:
            _end_prefills(core, slot, now_s)
        begin(core, slot, now_s)


@compiled
def _end_prefills(core: Core, slot: int, now_s: float) -> None:
    """Give requests whose prompt is done their token, and let them decode."""
    replica = core.replicas[slot]
    prefills = core.prefills[slot]
    block_tokens = core.shapes[replica.kind].block_tokens
    kept = 0
    for position in range(replica.prefilling):
        request_slot = prefills[position]
        request = core.requests[request_slot]
        if request.prefilled_tokens < request.input_tokens + request.generated_tokens:
            prefills[kept] = request_slot
            kept += 1
            continue
        if request.generated_tokens:
            count_late_gap(core, replica, request, now_s)
        else:
            count_ttft(core, replica, request, now_s)
            if len(core.kept_ttft_s):
                core.kept_ttft_s[request.number] = now_s - request.arrival_s
        request.generated_tokens += 1
        if request.generated_tokens == request.output_tokens:
            replica.free_blocks += blocks_of(request.input_tokens + request.generated_tokens - 1, block_tokens)
            _end(core, replica, request_slot, now_s)
            continue
        request.joined_round = replica.rounds
        last_round = replica.rounds + request.output_tokens - request.generated_tokens
        push_end(core.ends[slot], replica.decoding, last_round, request_slot)
        replica.decoding += 1
        core.decoding[slot, request.length_class] += 1
        core.phases[slot, phase_of(request, block_tokens)] += 1
        replica.context_tokens += request.input_tokens + request.generated_tokens
    replica.prefilling = kept


@compiled
def _end(core: Core, replica: Replica, request_slot: int, now_s: float) -> None:
    """A request has all its tokens."""
    request = core.requests[request_slot]
    core.counts[request.length_class, FINISHED] += 1
    if len(core.kept_end_s):
        core.kept_end_s[request.number] = now_s
    core.fleet[0].last_end_s = max(core.fleet[0].last_end_s, now_s)
    replica.outstanding -= 1
    replica.finished += 1
    free_request(core, request_slot)


@compiled
def free_request(core: Core, request_slot: int) -> None:
    """Hand a request's slot back to the pool."""
    fleet = core.fleet[0]
    fleet.outstanding -= 1
    core.requests[request_slot].next = fleet.free_requests
    fleet.free_requests = request_slot


@compiled
def react(core: Core, slot: int, arrived: int, now_s: float) -> None:
    """A request has been queued: begin at once when idle, else cut the run short where the request might join."""
    replica = core.replicas[slot]
    if replica.run == 0:
        count_idle(core, replica, now_s)
        begin(core, slot, now_s)
    elif replica.queue_head == arrived:
        shorten_run(core, slot, now_s)


@compiled
def shorten_run(core: Core, slot: int, now_s: float) -> None:
    """Cut the run short after the iteration under way, where the first waiting request might join the next one."""
    replica = core.replicas[slot]
    if (
        replica.run > 1
        and replica.decoding < core.shapes[replica.kind].max_batched_tokens
        and can_admit(core, slot, replica.queue_head)
    ):
        replica.run = ended_by(replica, now_s) + 1
        replica.end_s = replica.settled_s + span_s(replica, replica.run)
