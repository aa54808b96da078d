"""Queues of requests: waiting ones, and the ends of decoding ones.

Waiting requests are linked through the pool. Under fcfs they are a list; in the
other orders a pairing heap by (deadline, arrival, number), which needs no room
beyond two links per request.
"""

from dynawatt.simulation.core.jit import compiled
from dynawatt.simulation.core.state import FCFS, NONE, SLOT_BITS, Integers, Records, Replica, Request


@compiled
def comes_before(first: Request, second: Request) -> bool:
    """Order by (deadline, arrival, number)."""
    first_s, second_s = first.arrival_s + first.objective_s, second.arrival_s + second.objective_s
    if first_s != second_s:
        return first_s < second_s
    if first.arrival_s != second.arrival_s:
        return first.arrival_s < second.arrival_s
    return first.number < second.number


@compiled
def _meld(requests: Records[Request], a: int, b: int) -> int:
    """The heap of two heaps with the roots a and b."""
    if a == NONE:
        return b
    if b == NONE:
        return a
    if comes_before(requests[b], requests[a]):
        a, b = b, a
    requests[b].next = requests[a].child
    requests[a].child = b
    return a


@compiled
def _without_root(requests: Records[Request], root: int) -> int:
    """The heap of a root's children: melded in pairs from the left, then together from the right."""
    child = requests[root].child
    pairs = NONE
    while child != NONE:
        a, b = child, requests[child].next
        if b == NONE:
            child = NONE
        else:
            child = requests[b].next
            requests[b].next = NONE
        requests[a].next = NONE
        pair = _meld(requests, a, b)
        requests[pair].next = pairs
        pairs = pair
    heap = NONE
    while pairs != NONE:
        pair = pairs
        pairs = requests[pair].next
        requests[pair].next = NONE
        heap = _meld(requests, heap, pair)
    return heap


@compiled
def enqueue(requests: Records[Request], replica: Replica, slot: int, order: int, at_head: bool) -> None:
    """Let a request wait; ``at_head`` matters under fcfs only."""
    request = requests[slot]
    request.next = NONE
    request.child = NONE
    replica.waiting += 1
    if order != FCFS:
        replica.queue_head = _meld(requests, replica.queue_head, slot)
    elif replica.queue_head == NONE:
        replica.queue_head = slot
        replica.queue_tail = slot
    elif at_head:
        request.next = replica.queue_head
        replica.queue_head = slot
    else:
        requests[replica.queue_tail].next = slot
        replica.queue_tail = slot


@compiled
def dequeue(requests: Records[Request], replica: Replica, order: int) -> None:
    """Take the first waiting request off the queue."""
    replica.waiting -= 1
    head = replica.queue_head
    replica.queue_head = requests[head].next if order == FCFS else _without_root(requests, head)


@compiled
def push_end(ends: Integers, count: int, last_round: int, slot: int) -> None:
    """Add a decoding request to a heap of ``count``."""
    _sift_up(ends, count, (last_round << SLOT_BITS) | slot)


@compiled
def remove_end(ends: Integers, count: int, index: int) -> None:
    """Take the entry at an index out of a heap of ``count``."""
    last = ends[count - 1]
    count -= 1
    if index == count:
        return
    # Walk the hole down to a leaf, then let the last entry rise from there: it mostly belongs near a leaf.
    child = 2 * index + 1
    while child < count:
        if child + 1 < count and ends[child + 1] < ends[child]:
            child += 1
        ends[index] = ends[child]
        index = child
        child = 2 * index + 1
    _sift_up(ends, index, last)


@compiled
def _sift_up(ends: Integers, index: int, entry: int) -> None:
    while index > 0:
        parent = (index - 1) // 2
        if ends[parent] <= entry:
            break
        ends[index] = ends[parent]
        index = parent
    ends[index] = entry
