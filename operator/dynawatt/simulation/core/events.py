"""What Python calls: time goes on, requests arrive and are routed, replicas change.

Replicas know nothing of each other. Before each arrival every replica is brought
up to that time; at equal times iterations end before requests arrive.
"""

import math

import numpy as np

from dynawatt.simulation.core.counting import DECODE, PREFILL, count_idle, ended_by, iteration_s, run_energy_j
from dynawatt.simulation.core.jit import compiled, entry_point
from dynawatt.simulation.core.queues import dequeue, enqueue
from dynawatt.simulation.core.routing import REJECTED, other_replica_for, pool_in_turn, replica_for, take_turn
from dynawatt.simulation.core.running import free_request, react, run_until, settle, shorten_run
from dynawatt.simulation.core.state import NONE, REQUESTS, Core, Floats, Integers, Turns


@entry_point
def arrive(  # noqa: PLR0917 (numba takes no keywords)
    core: Core,
    turns: Turns,
    arrival_s: Floats,
    objective_s: Floats,
    input_tokens: Integers,
    output_tokens: Integers,
    length_class: Integers,
    predicted_class: Integers,
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
        request.predicted_class = predicted_class[i]
        request.input_tokens = input_tokens[i]
        request.output_tokens = output_tokens[i]
        request.generated_tokens = 0
        request.prefilled_tokens = 0
        request.admission = 0
        fleet.next_number += 1
        core.counts[request.length_class, REQUESTS] += 1
        # Some may wait already, but for pools in which no replica serves: this one overtakes none.
        _place_or_hold(core, turns, request_slot, now_s)


@compiled
def _place_or_hold(core: Core, turns: Turns, request_slot: int, now_s: float) -> None:
    """Give a request to a replica, or let it wait in the fleet."""
    if _place(core, turns, request_slot, now_s):
        return
    fleet = core.fleet[0]
    core.requests[request_slot].next = NONE
    if fleet.queue_head == NONE:
        fleet.queue_head = request_slot
    else:
        core.requests[fleet.queue_tail].next = request_slot
    fleet.queue_tail = request_slot


@compiled
def _place(core: Core, turns: Turns, request_slot: int, now_s: float) -> bool:
    """Give a request to a replica, or reject it; False while no replica that may take it serves."""
    request = core.requests[request_slot]
    pool = pool_in_turn(turns, request.predicted_class)
    slot = replica_for(core, request, pool)
    if slot == NONE:
        return False
    if slot == REJECTED:
        core.fleet[0].rejected += 1
        free_request(core, request_slot)
        return True
    if pool != NONE:
        take_turn(turns, request.predicted_class, pool)
    _give(core, slot, request_slot, now_s)
    return True


@compiled
def _give(core: Core, slot: int, request_slot: int, now_s: float) -> None:
    """Let a request wait at a replica, which may take it on at once."""
    replica = core.replicas[slot]
    replica.outstanding += 1
    replica.arrived += 1
    replica.queued_tokens += core.requests[request_slot].input_tokens
    enqueue(core.requests, replica, request_slot, core.shapes[replica.kind].queue_order, False)
    react(core, slot, request_slot, now_s)


@entry_point
def reroute_waiting(core: Core, source: int, now_s: float) -> int:
    """Move requests that no iteration has worked on to replicas with shorter queues; returns how many.

    All must be settled.
    """
    replica = core.replicas[source]
    order = core.shapes[replica.kind].queue_order
    waiting: int = replica.waiting
    head: int = NONE
    tail: int = NONE
    for _ in range(waiting):
        request_slot = replica.queue_head
        dequeue(core.requests, replica, order)
        core.requests[request_slot].next = NONE
        if head == NONE:
            head = request_slot
        else:
            core.requests[tail].next = request_slot
        tail = request_slot
    moved = 0
    while head != NONE:
        request_slot = head
        request = core.requests[request_slot]
        head = request.next
        slot = NONE
        if request.admission == 0:
            slot = other_replica_for(core, request, source, waiting - moved)
        if slot == NONE:
            enqueue(core.requests, replica, request_slot, order, False)
        else:
            moved += 1
            replica.outstanding -= 1
            replica.queued_tokens -= request.input_tokens
            _give(core, slot, request_slot, now_s)
    if moved and replica.waiting:
        shorten_run(core, source, now_s)
    return moved


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
def place_waiting(core: Core, turns: Turns, now_s: float) -> None:
    """Give requests that wait in the fleet to replicas that serve by now, in order of arrival."""
    fleet = core.fleet[0]
    request_slot = fleet.queue_head
    fleet.queue_head = NONE
    fleet.queue_tail = NONE
    while request_slot != NONE:
        following = core.requests[request_slot].next
        _place_or_hold(core, turns, request_slot, now_s)
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
