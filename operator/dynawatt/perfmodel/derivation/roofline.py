"""Splits measured times of operations into a part bound by memory and one bound by arithmetic.

One matrix multiplication takes k (m^p + c^p)^(1/p): m streams its weights and
activations and does not follow the SM clock, c is arithmetic and does. Both run
at the best efficiency measured anywhere on the grid; what time they do not
explain (tiles left idle, noise) stretches both alike: k. The profile adds up the
k m and k c of all operations, so that one p-norm stands for dozens; its p is
chosen so that at lower clocks it agrees with the sum over the operations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from dynawatt.perfmodel.clocked import Numbers
from dynawatt.perfmodel.derivation.measured import Kind, TokenOperation

_FEW_TOKENS: Final = 64
"""Up to here weights, not arithmetic, bound a matrix multiplication on all GPUs covered."""
RELATIVE_CLOCKS: Final = (1.0, 0.85, 0.7, 0.55, 0.4)
_EXPLAINED: Final = 0.9
"""Share of the measurements that must not be faster than m and c allow."""
_NOISE: Final = 0.02
_NORMS: Final = tuple(round(float(norm), 2) for norm in np.arange(1.0, 8.01, 0.05))


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Seconds over the grid of tokens; the p-norm of both is the measured time."""

    memory_s: Numbers
    compute_s: Numbers

    def at(self, relative_clock: float, norm: float) -> Numbers:
        """Seconds at ``relative_clock`` times the clock of the measurement."""
        return p_norm(self.memory_s, self.compute_s / relative_clock, norm)


@dataclass(frozen=True, slots=True, eq=False)
class Aggregate:
    """All operations that depend on the number of tokens alone, as the profile stores them."""

    norm: float
    split: Split
    communication_s: Numbers
    clock_error: float
    """Mean relative difference from the sum over operations, over tokens and clocks down to 0.4."""


def p_norm(memory_s: Numbers, compute_s: Numbers, norm: float) -> Numbers:
    """(memory^p + compute^p)^(1/p) by element."""
    largest = np.maximum(np.maximum(memory_s, compute_s), 1e-300)
    return np.asarray(largest * ((memory_s / largest) ** norm + (compute_s / largest) ** norm) ** (1 / norm))


def split(operation: TokenOperation, tokens: Sequence[int], norm: float) -> Split:
    """Memory and compute part of one operation; their p-norm is its measured time exactly."""
    seconds = operation.seconds
    if operation.kind is not Kind.MATRIX:
        return Split(seconds, np.zeros_like(seconds))
    memory_s, compute_s = _best_case(operation, tokens)
    stretch = seconds / p_norm(memory_s, compute_s, norm)
    return Split(stretch * memory_s, stretch * compute_s)


def aggregate(operations: Sequence[TokenOperation], tokens: Sequence[int]) -> Aggregate:
    """Sums operations into one memory part, one compute part and one communication part."""
    local = [op for op in operations if op.kind is not Kind.LINK]
    operation_norm = _operation_norm(local, tokens)
    splits = [split(op, tokens, operation_norm) for op in local]
    measured_s = np.sum([op.seconds for op in local], axis=0)
    memory_s = np.minimum(np.sum([part.memory_s for part in splits], axis=0), measured_s)
    by_operation = [np.sum([part.at(clock, operation_norm) for part in splits], axis=0) for clock in RELATIVE_CLOCKS]

    def candidate(norm: float) -> Aggregate:
        whole = Split(memory_s, other_part(measured_s, memory_s, norm))
        errors = [
            whole.at(clock, norm) / seconds - 1 for clock, seconds in zip(RELATIVE_CLOCKS, by_operation, strict=True)
        ]
        return Aggregate(norm, whole, link_s, float(np.mean(np.abs(errors))))

    link_s = np.sum([np.zeros(len(tokens)), *(op.seconds for op in operations if op.kind is Kind.LINK)], axis=0)
    return min((candidate(norm) for norm in _NORMS), key=lambda found: found.clock_error)


def _best_case(operation: TokenOperation, tokens: Sequence[int]) -> tuple[Numbers, Numbers]:
    """Seconds of memory traffic alone and of arithmetic alone, each at the best efficiency measured."""
    few = np.array(tokens) <= _FEW_TOKENS
    memory_efficiency = float(np.max(operation.ideal_memory_s[few] / operation.seconds[few]))
    compute_efficiency = float(np.max(operation.ideal_compute_s / operation.seconds))
    # A kernel starts and its weights are read however little it computes.
    shortest_s = float(np.min(operation.seconds[few]))
    memory_s = np.maximum(operation.ideal_memory_s / memory_efficiency, shortest_s)
    return memory_s, operation.ideal_compute_s / compute_efficiency


def _operation_norm(operations: Sequence[TokenOperation], tokens: Sequence[int]) -> float:
    """The least p, hence the least overlap, with which most measurements are no faster than the best case."""
    parts = [(op.seconds, *_best_case(op, tokens)) for op in operations if op.kind is Kind.MATRIX]
    if not parts:
        return _NORMS[0]
    seconds, memory_s, compute_s = (np.concatenate(column) for column in zip(*parts, strict=True))
    # Where one part is negligible, p changes nothing.
    ridge = np.minimum(memory_s, compute_s) > 0.2 * np.maximum(memory_s, compute_s)
    if not np.any(ridge):
        return _NORMS[0]
    for norm in _NORMS:
        slower = seconds[ridge] * (1 + _NOISE) >= p_norm(memory_s[ridge], compute_s[ridge], norm)
        if np.mean(slower) >= _EXPLAINED:
            return norm
    return _NORMS[-1]


def other_part(whole: Numbers, part: Numbers, norm: float) -> Numbers:
    """What forms the whole with the part in a p-norm; 0 where the part is the larger."""
    ratio = np.clip(part / np.maximum(whole, 1e-300), 0.0, 1.0)
    return np.asarray(whole * (1 - ratio**norm) ** (1 / norm))
