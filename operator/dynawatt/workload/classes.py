"""Request-length classes: input and output tokens, each short, medium or long."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

CLASS_NAMES: Final = ("SS", "SM", "SL", "MS", "MM", "ML", "LS", "LM", "LL")
"""First letter: input; second: output. The position is the class's index."""
ALL_CLASSES: Final = tuple(range(len(CLASS_NAMES)))
"""Indices."""


@dataclass(frozen=True, slots=True)
class LengthClasses:
    """Where short ends and long begins: short < first cut <= medium < second cut <= long.

    The defaults are DynamoLLM's (HPCA 2025, table IV).
    """

    input_cuts: tuple[int, int] = (256, 1024)
    output_cuts: tuple[int, int] = (100, 350)

    def of(self, input_tokens: NDArray[np.int64], output_tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """Indices into CLASS_NAMES, shape as the inputs."""
        rows = np.searchsorted(self.input_cuts, input_tokens, side="right")
        columns = np.searchsorted(self.output_cuts, output_tokens, side="right")
        return np.asarray(3 * rows + columns)
