"""The engine settings that decide how a replica batches, and the rules they stand for.

Both engines (the plain one, which also drives the sandbox's vLLM pods, and the
compiled one of the fleet simulator) follow the same rules, after vLLM V1:

1.  An iteration has room for ``max_num_batched_tokens`` tokens. Every decoding request takes one; vLLM does not start
    with fewer of these tokens than ``max_num_seqs``.
2.  A decoding request has input + generated - 1 tokens in the KV cache; the iteration writes the one generated last and
    attends to all input + generated. When the written ones fill its last block it needs another. While free blocks do
    not suffice for all of them, one running request, decoding or partly prefilled, is preempted: the one last in rank
    (rule 7), which under fcfs is the one admitted last. It loses its KV and waits again, its prompt now being
    input + generated tokens. The last running request is never preempted.
3.  The room left goes to prefills. First to those partly done, in order of admission, then to waiting ones in queue
    order, each at most ``long_prefill_token_threshold`` tokens per iteration (0: no limit). Under ``deadline`` both
    kinds stand in one order, that of rank, so that a long prefill is set aside for an urgent one.
4.  A waiting request is admitted when there is room, fewer than ``max_num_seqs`` run (partly prefilled ones count),
    blocks for its whole prompt are free after rule 2, and nothing was preempted in this iteration. The first that
    cannot be admitted ends admission; prefills partly done still get the room. Its blocks are taken at once:
    ceil(prompt / block).
5.  Of a prompt, the share ``prefix_hit_ratio``, rounded down to whole blocks and always leaving one token, is found in
    the prefix cache at each admission: it counts as done (it is context, not work) and takes its blocks all the same.
6.  When an iteration ends, every decoding request has one more token, and every prefill that is complete yields one
    token: the first, or after a preemption the next. A request that has all its output tokens frees its blocks.
7.  The rank of a request is its id under fcfs, (deadline, arrival, id) under priority and deadline. An id is the
    request's place in the order of submission. The queue is in order of rank, preempted requests among the others: so
    under fcfs they are first.
8.  A request whose input + output tokens need more blocks than there are is refused.
"""

from dataclasses import dataclass
from enum import StrEnum


class QueueOrder(StrEnum):
    """Which waiting request goes next."""

    FCFS = "fcfs"
    PRIORITY = "priority"
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The engine flags that matter for batching."""

    max_num_batched_tokens: int
    max_num_seqs: int
    kv_capacity_tokens: int
    """Tokens that the KV cache holds; only whole blocks count."""
    long_prefill_token_threshold: int = 0
    queue_order: QueueOrder = QueueOrder.FCFS
    prefix_hit_ratio: float = 0.0
    block_tokens: int = 16

    @property
    def kv_blocks(self) -> int:
        """Blocks of the KV cache."""
        return self.kv_capacity_tokens // self.block_tokens

    def cached_tokens(self, prompt_tokens: int) -> int:
        """Tokens of a prompt that the prefix cache holds."""
        blocks = int(self.prefix_hit_ratio * prompt_tokens) // self.block_tokens
        return min(blocks, (prompt_tokens - 1) // self.block_tokens) * self.block_tokens
