"""Request lengths as a joint distribution: two marginals and how they depend on each other.

A marginal is a quantile function through some knots. The dependence is a copula
on a grid of ranks: how often an input of this rank meets an output of that rank.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.workload.mix import LengthMix

Fractions = NDArray[np.float64]
Tokens = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LengthCurve:
    """Quantile function of a token count, linear between knots (cumulative fraction, tokens), both ascending.

    Counts are rounded from it, so a knot at 181.5 says how many have 181 tokens or fewer.
    """

    knots: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        """Check order and ends. Raises InvalidInputError."""
        fractions, tokens = zip(*self.knots, strict=True)
        if fractions[0] != 0 or fractions[-1] != 1 or list(fractions) != sorted(fractions):
            raise InvalidInputError("fractions of a length curve: must ascend from 0 to 1")
        if tokens[0] < 0.5 or list(tokens) != sorted(tokens):
            raise InvalidInputError("tokens of a length curve: must ascend from 0.5 or more")

    def at(self, fractions: Fractions) -> Tokens:
        """Token counts at cumulative fractions, each at least 1; shape as the fractions."""
        known, tokens = np.array(self.knots).T
        return np.asarray(np.maximum(1, np.rint(np.interp(fractions, known, tokens))), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class JointLengths:
    """Inputs and outputs of one service."""

    inputs: LengthCurve
    outputs: LengthCurve
    copula: tuple[tuple[int, ...], ...] = ((1,),)
    """Row: equal parts of the inputs by rank, column: of the outputs; how often they meet, in any unit."""

    def sample(self, count: int, rng: np.random.Generator) -> tuple[Tokens, Tokens]:
        """Independent requests: input and output tokens, ``count`` of each."""
        table = np.array(self.copula, dtype=np.float64)
        rows, columns = table.shape
        input_rank = rng.random(count) * rows
        row = input_rank.astype(np.int64)
        # Columns are found in one ascending sequence of all rows: that of row r lies between r and r + 1.
        ends = np.cumsum(table / table.sum(axis=1, keepdims=True), axis=1)
        ends[:, -1] = 1.0
        flat = (ends + np.arange(rows)[:, None]).ravel()
        cell = np.searchsorted(flat, row + rng.random(count), side="right")
        output_rank = np.minimum(cell - row * columns, columns - 1) + rng.random(count)
        return self.inputs.at(input_rank / rows), self.outputs.at(output_rank / columns)

    def mix(self, size: int, seed: int) -> LengthMix:
        """A sample of ``size`` requests."""
        return LengthMix(*self.sample(size, np.random.default_rng(seed)))
