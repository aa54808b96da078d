"""What Python calls: time goes on, requests arrive and are routed, replicas change.

Replicas know nothing of each other. Before each arrival every replica is brought
up to that time; at equal times iterations end before requests arrive.
"""

import math

import numpy as np

from dynawatt.simulation.core.batching import blocks_of
from dynawatt.simulation.core.counting import DECODE, PREFILL, count_idle, ended_by, iteration_s, run_energy_j
from dynawatt.simulation.core.jit import compiled, entry_point
from dynawatt.simulation.core.queues import enqueue
from dynawatt.simulation.core.running import free_request, react, run_until, settle
from dynawatt.simulation.core.state import NONE, REQUESTS, SERVING, Core, Floats, Integers

_REJECTED = -2


@entry_point
def arrive(  # noqa: PLR0917 (numba takes no keywords)
    core: Core,
    arrival_s: Floats,
    objective_s: Floats,
    input_tokens: Integers,
    output_tokens: Integers,
    length_class: Integers,
) -> None:
    """Simulate up to the last of these arrivals. The pool must have a free slot for each."""
    fleet = core.fleet[0]
    for i in range(len(arrival_s)):
        now_s = arrival_s[i]
        for slot in range(fleet.slots):
            if core.replicas[slot].end_s <= now_s:
                run_until(core, slot, now_s)
        request_slot = fleet.free_requests
        request = core.requests[request_slot]
        fleet.free_requests = request.next
        fleet.outstanding += 1
        request.arrival_s = now_s
        request.objective_s = objective_s[i]
        request.number = fleet.next_number
        request.length_class = length_class[i]
        request.input_tokens = input_tokens[i]
        request.output_tokens = output_tokens[i]
        request.generated_tokens = 0
        request.prefilled_tokens = 0
        fleet.next_number += 1
        core.counts[request.length_class, REQUESTS] += 1
        # Some may wait already, but for pools in which no replica serves: this one overtakes none.
        _place_or_hold(core, request_slot, now_s)


@compiled
def _place_or_hold(core: Core, request_slot: int, now_s: float) -> None:
    """Give a request to a replica, or let it wait in the fleet."""
    if _place(core, request_slot, now_s):
        return
    fleet = core.fleet[0]
    core.requests[request_slot].next = NONE
    if fleet.queue_head == NONE:
        fleet.queue_head = request_slot
    else:
        core.requests[fleet.queue_tail].next = request_slot
    fleet.queue_tail = request_slot


@compiled
def _place(core: Core, request_slot: int, now_s: float) -> bool:
    """Give a request to a replica, or reject it; False while no replica that may take it serves."""
    request = core.requests[request_slot]
    slot = _route(core, request_slot)
    if slot == NONE:
        return False
    if slot == _REJECTED:
        core.fleet[0].rejected += 1
        free_request(core, request_slot)
        return True
    replica = core.replicas[slot]
    replica.outstanding += 1
    replica.queued_tokens += request.input_tokens
    enqueue(core.requests, replica, request_slot, core.shapes[replica.kind].queue_order, False)
    react(core, slot, request_slot, now_s)
    return True


@compiled
def _route(core: Core, request_slot: int) -> int:
    """The serving replica with the fewest outstanding requests, of those that may take the request and can hold it."""
    request = core.requests[request_slot]
    best = NONE
    for slot in range(core.fleet[0].slots):
        replica = core.replicas[slot]
        if replica.state != SERVING or not core.eligible[replica.pool, request.length_class]:
            continue
        shape = core.shapes[replica.kind]
        if blocks_of(request.input_tokens + request.output_tokens, shape.block_tokens) > shape.kv_blocks:
            if best == NONE:
                best = _REJECTED
        elif best < 0:
            best = slot
        else:
            chosen = core.replicas[best]
            if replica.outstanding < chosen.outstanding or (
                replica.outstanding == chosen.outstanding and replica.id < chosen.id
            ):
                best = slot
    return best


@entry_point
def run_all(core: Core, limit_s: float) -> None:
    """End all runs of iterations that end by a time."""
    for slot in range(core.fleet[0].slots):
        run_until(core, slot, limit_s)


@entry_point
def settle_all(core: Core, now_s: float) -> None:
    """Count everything up to a time that ``run_all`` has reached, but for the iterations under way."""
    for slot in range(core.fleet[0].slots):
        replica = core.replicas[slot]
        if replica.run == 0:
            count_idle(core, replica, now_s)
        else:
            # One that ends at this very time is still under way: what follows it may start at another clock.
            ended = ended_by(replica, np.nextafter(now_s, -math.inf))
            if ended > 0:
                settle(core, slot, ended)


@entry_point
def change_costs(core: Core, slot: int, costs: int) -> None:
    """Other costs from the next iteration on. All must be settled."""
    replica = core.replicas[slot]
    replica.next_costs = costs
    if replica.run == 0:
        replica.costs = costs
    elif replica.run > 1:
        replica.run = 1
        replica.end_s = replica.settled_s + iteration_s(replica, 0)


@entry_point
def place_waiting(core: Core, now_s: float) -> None:
    """Give requests that wait in the fleet to replicas that serve by now, in order of arrival."""
    fleet = core.fleet[0]
    request_slot = fleet.queue_head
    fleet.queue_head = NONE
    fleet.queue_tail = NONE
    while request_slot != NONE:
        following = core.requests[request_slot].next
        _place_or_hold(core, request_slot, now_s)
        request_slot = following


@entry_point
def add_under_way(core: Core, now_s: float, energy_j: Floats) -> float:
    """Add the energy by cause that iterations under way have used up to now; returns GPU-seconds."""
    gpu_s = 0.0
    for slot in range(core.fleet[0].slots):
        replica = core.replicas[slot]
        if replica.run > 0:
            share = (now_s - replica.settled_s) / iteration_s(replica, 0)
            prefill_j, decode_j = run_energy_j(core, replica, 1)
            energy_j[PREFILL] += share * prefill_j
            energy_j[DECODE] += share * decode_j
            gpu_s += core.shapes[replica.kind].gpus * (now_s - replica.settled_s)
    return gpu_s
