"""What goes into an iteration: rules 1 to 5 of ``simulation.settings``."""

from dynawatt.simulation.core.jit import compiled
from dynawatt.simulation.core.queues import comes_before, dequeue, enqueue, remove_end
from dynawatt.simulation.core.state import DEADLINE, FCFS, MAX_REQUESTS, Core, Integers, Request, Shape


@compiled
def blocks_of(tokens: int, block_tokens: int) -> int:
    """KV blocks that hold this many tokens."""
    return (tokens + block_tokens - 1) // block_tokens


@compiled
def cached_tokens(shape: Shape, prompt_tokens: int) -> int:
    """As EngineSettings.cached_tokens."""
    blocks = int(shape.prefix_hit_ratio * prompt_tokens) // shape.block_tokens
    return min(blocks, (prompt_tokens - 1) // shape.block_tokens) * shape.block_tokens


@compiled
def phase_of(request: Request, block_tokens: int) -> int:
    """Rounds, modulo a block, in which a decoding request writes the first token of a new block."""
    # Of input + generated tokens the last is not written yet when the request joins.
    return (request.joined_round - (request.input_tokens + request.generated_tokens - 1)) % block_tokens


@compiled
def leave_batch(core: Core, slot: int, entry: int) -> None:
    """Take the decoding request of an entry of ``core.ends`` out of the batch and free its blocks."""
    replica = core.replicas[slot]
    ends = core.ends[slot]
    request = core.requests[ends[entry] % MAX_REQUESTS]
    block_tokens = core.shapes[replica.kind].block_tokens
    core.phases[slot, phase_of(request, block_tokens)] -= 1
    request.generated_tokens += replica.rounds - request.joined_round
    tokens = request.input_tokens + request.generated_tokens
    replica.context_tokens -= tokens
    replica.free_blocks += blocks_of(tokens - 1, block_tokens)
    core.decoding[slot, request.length_class] -= 1
    remove_end(ends, replica.decoding, entry)
    replica.decoding -= 1


@compiled
def make_room(core: Core, slot: int, now_s: float) -> int:
    """Rule 2: preempt until every decoding request gets the block it needs, and take these. Returns how many."""
    replica = core.replicas[slot]
    phases = core.phases[slot]
    phase = replica.rounds % core.shapes[replica.kind].block_tokens
    preempted = 0
    while phases[phase] > replica.free_blocks and replica.decoding + replica.prefilling > 1:
        _preempt(core, slot, now_s)
        preempted += 1
    replica.free_blocks -= phases[phase]
    core.fleet[0].preemptions += preempted
    return preempted


@compiled
def _preempt(core: Core, slot: int, now_s: float) -> None:
    """Preempt the request that comes last, whether it decodes or is partly prefilled."""
    replica = core.replicas[slot]
    shape = core.shapes[replica.kind]
    ends, prefills = core.ends[slot], core.prefills[slot]
    by_admission = shape.queue_order == FCFS
    last = prefills[0] if replica.prefilling else ends[0] % MAX_REQUESTS
    entry = -1 if replica.prefilling else 0
    for i in range(1, replica.prefilling):
        if _yields(core.requests[last], core.requests[prefills[i]], by_admission):
            last, entry = prefills[i], -1 - i
    for i in range(replica.decoding):
        if _yields(core.requests[last], core.requests[ends[i] % MAX_REQUESTS], by_admission):
            last, entry = ends[i] % MAX_REQUESTS, i
    request = core.requests[last]
    if entry >= 0:
        leave_batch(core, slot, entry)
        request.last_token_s = now_s
        replica.queued_tokens += request.input_tokens + request.generated_tokens
    else:
        replica.queued_tokens += request.prefilled_tokens
        replica.free_blocks += blocks_of(request.input_tokens + request.generated_tokens, shape.block_tokens)
        _remove(prefills, replica.prefilling, -1 - entry)
        replica.prefilling -= 1
    request.prefilled_tokens = 0
    enqueue(core.requests, replica, last, shape.queue_order, True)


@compiled
def _yields(first: Request, second: Request, by_admission: bool) -> bool:
    """Whether the second is preempted before the first."""
    return second.admission > first.admission if by_admission else comes_before(first, second)


@compiled
def fill(core: Core, slot: int, may_admit: bool) -> None:
    """Rules 3 to 5: give the room that decoding leaves to prefills; sets the replica's prefill tokens and pairs."""
    replica = core.replicas[slot]
    shape = core.shapes[replica.kind]
    prefills = core.prefills[slot]
    room = shape.max_batched_tokens - replica.decoding
    replica.prefill_tokens = 0
    replica.prefill_pairs = 0.0
    position = 0
    while room > 0:
        # Partly prefilled ones come first; under deadline they stand in one order with the waiting ones.
        if may_admit and replica.waiting and _is_next(core, slot, position):
            if not _admit(core, slot, position):
                may_admit = False
                continue
        elif position == replica.prefilling:
            break
        request = core.requests[prefills[position]]
        tokens = min(room, request.input_tokens + request.generated_tokens - request.prefilled_tokens)
        if shape.prefill_threshold > 0:
            tokens = min(tokens, shape.prefill_threshold)
        replica.prefill_tokens += tokens
        replica.prefill_pairs += tokens * (request.prefilled_tokens + (tokens + 1) / 2)
        request.prefilled_tokens += tokens
        replica.queued_tokens -= tokens
        room -= tokens
        position += 1


@compiled
def _is_next(core: Core, slot: int, position: int) -> bool:
    """Whether the first waiting request comes before the partly prefilled one at a position."""
    replica = core.replicas[slot]
    if position == replica.prefilling:
        return True
    if core.shapes[replica.kind].queue_order != DEADLINE:
        return False
    return comes_before(core.requests[replica.queue_head], core.requests[core.prefills[slot, position]])


@compiled
def can_admit(core: Core, slot: int, waiting: int) -> bool:
    """Rule 4 for a waiting request, were it the first."""
    replica = core.replicas[slot]
    shape = core.shapes[replica.kind]
    request = core.requests[waiting]
    prompt_tokens = request.input_tokens + request.generated_tokens
    return (
        replica.decoding + replica.prefilling < shape.max_seqs
        and blocks_of(prompt_tokens, shape.block_tokens) <= replica.free_blocks
    )


@compiled
def _admit(core: Core, slot: int, position: int) -> bool:
    """Move the first waiting request to a position among the partly prefilled ones, if rule 4 allows."""
    replica = core.replicas[slot]
    shape = core.shapes[replica.kind]
    waiting = replica.queue_head
    if not can_admit(core, slot, waiting):
        return False
    dequeue(core.requests, replica, shape.queue_order)
    _insert(core.prefills[slot], replica.prefilling, position, waiting)
    replica.prefilling += 1
    request = core.requests[waiting]
    prompt_tokens = request.input_tokens + request.generated_tokens
    replica.admissions += 1
    request.admission = replica.admissions
    replica.free_blocks -= blocks_of(prompt_tokens, shape.block_tokens)
    request.prefilled_tokens = cached_tokens(shape, prompt_tokens)
    replica.queued_tokens -= request.prefilled_tokens
    return True


@compiled
def _insert(slots: Integers, count: int, position: int, slot: int) -> None:
    for i in range(count, position, -1):
        slots[i] = slots[i - 1]
    slots[position] = slot


@compiled
def _remove(slots: Integers, count: int, position: int) -> None:
    for i in range(position, count - 1):
        slots[i] = slots[i + 1]
