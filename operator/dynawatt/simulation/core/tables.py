"""Shapes and costs as the compiled core reads them: one row per shape, one per shape and clock."""

from collections.abc import Sequence
from typing import Any, Final, get_type_hints

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.profile import ReplicaProfile
from dynawatt.simulation.core.state import DEADLINE, FCFS, PRIORITY, Core, Costs, Shape, records, with_rows
from dynawatt.simulation.settings import EngineSettings, QueueOrder

_ORDERS: Final = {QueueOrder.FCFS: FCFS, QueueOrder.PRIORITY: PRIORITY, QueueOrder.DEADLINE: DEADLINE}
_TABLES: Final = ("costs", "tokens_s", "tokens_j", "requests_s", "context_s")


def shape_records(shapes: Sequence[tuple[ReplicaProfile, EngineSettings]]) -> NDArray[Any]:
    """One record per shape. Raises InvalidInputError when settings and profile do not go together."""
    if not shapes:
        raise InvalidInputError("a fleet needs at least one replica shape")
    rows = records(Shape, len(shapes))
    for row, (replica, settings) in zip(rows, shapes, strict=True):
        _check(replica, settings)
        row.gpus = replica.tensor_parallel
        row.max_batched_tokens = settings.max_num_batched_tokens
        row.max_seqs = settings.max_num_seqs
        row.kv_blocks = settings.kv_blocks
        row.block_tokens = settings.block_tokens
        row.prefill_threshold = settings.long_prefill_token_threshold
        row.queue_order = _ORDERS[settings.queue_order]
        row.prefix_hit_ratio = settings.prefix_hit_ratio
    return rows


def _check(replica: ReplicaProfile, settings: EngineSettings) -> None:
    tokens, requests = settings.max_num_batched_tokens, settings.max_num_seqs
    if not 1 <= requests <= replica.max_decode_requests:
        raise InvalidInputError(
            f"max_num_seqs {requests}: must be between 1 and {replica.max_decode_requests}, "
            f"which is what profile {replica.name} covers"
        )
    if not requests <= tokens <= replica.max_iteration_tokens:
        raise InvalidInputError(
            f"max_num_batched_tokens {tokens}: must be between max_num_seqs {requests} and "
            f"{replica.max_iteration_tokens}, which is what profile {replica.name} covers"
        )
    if settings.block_tokens < 1 or settings.kv_blocks < 1:
        raise InvalidInputError(
            f"KV cache of {settings.kv_capacity_tokens} tokens in blocks of {settings.block_tokens}: "
            "must hold at least one block"
        )
    if not 0 <= settings.prefix_hit_ratio <= 1:
        raise InvalidInputError(f"prefix hit ratio {settings.prefix_hit_ratio}: must be between 0 and 1")


class CostTables:
    """Rows of the core's cost tables, made when a replica first runs at a clock."""

    def __init__(self, replicas: Sequence[ReplicaProfile]) -> None:
        """No rows yet."""
        self._replicas = replicas
        self._rows: dict[tuple[int, float], int] = {}
        self.clock_mhz: NDArray[np.float64] = np.zeros(0)
        """By row."""

    def row(self, core: Core, shape: int, clock_mhz: float) -> tuple[Core, int]:
        """The row of a shape at a clock, and the core that has it. Raises InvalidInputError for an unknown one."""
        if not 0 <= shape < len(self._replicas):
            raise InvalidInputError(f"shape {shape}: there are only {len(self._replicas)}")
        known = self._rows.get((shape, clock_mhz))
        if known is not None:
            return core, known
        clocked = self._replicas[shape].at_clock(clock_mhz)
        row = self._rows[shape, clock_mhz] = len(self._rows)
        self.clock_mhz = np.append(self.clock_mhz, clock_mhz)
        if row == len(core.costs):
            core = with_rows(core, _TABLES, max(4, 2 * row))
        for name in get_type_hints(Costs):
            setattr(core.costs[row], name, getattr(clocked, name))
        # As np.interp in ClockedReplica, at every whole number that the shape's settings allow.
        tokens = np.arange(core.shapes[shape].max_batched_tokens + 1)
        requests = np.arange(core.shapes[shape].max_seqs + 1)
        core.tokens_s[row, tokens] = np.interp(tokens, clocked.tokens, clocked.tokens_s)
        core.tokens_j[row, tokens] = np.interp(tokens, clocked.tokens, clocked.tokens_j)
        core.requests_s[row, requests] = np.interp(requests, clocked.requests, clocked.requests_s)
        core.context_s[row, requests] = np.interp(requests, clocked.requests, clocked.context_s)
        return core, row
