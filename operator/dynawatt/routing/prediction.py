"""Predicted lengths of answers, as a distribution with its error.

A request's input is known when it arrives, its output is not: routing goes by a
predicted output class, which is wrong now and then.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.workload.classes import CLASS_NAMES

_OUTPUTS = 3
"""Output classes: short, medium, long. A request class is 3 * input class + output class."""


@dataclass(frozen=True, slots=True)
class LengthPredictor:
    """Predicts the output class of requests, right with the same probability for each of the three.

    A wrong class is the less likely the farther it is from the right one, each step by the same factor: an error of a
    predictor that ranks lengths. So the right class is always the likeliest prediction, down to an accuracy of 1/3,
    where nothing is predicted at all. DynamoLLM's (HPCA 2025) has 0.81, and is tried with 1 and 0.6.

    Raises InvalidInputError for an accuracy out of range.
    """

    accuracy: float
    """Part of predictions that are right, above 1/3 and up to 1."""
    seed: int = 0
    """Another one errs for other requests."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 1 / _OUTPUTS < self.accuracy <= 1:
            raise InvalidInputError(
                f"accuracy {self.accuracy} of predicted output lengths: must be above 1/3, which is guessing, up to 1"
            )
        if not 0 <= self.seed < 2**32:
            raise InvalidInputError(f"seed {self.seed} of predicted output lengths: must be from 0 to {2**32 - 1}")

    @property
    def output_confusion(self) -> NDArray[np.float64]:
        """Probabilities of each prediction, [actual output class, predicted output class]; rows sum to 1."""
        right = self.accuracy
        # Of a class at the end of the row: right * (1 + factor + factor**2) = 1.
        factor = (sqrt(4 / right - 3) - 1) / 2
        near, far, beside = right * factor, right * factor**2, (1 - right) / 2
        return np.array([[right, near, far], [beside, right, beside], [far, near, right]])

    @property
    def confusion(self) -> NDArray[np.float64]:
        """The same for request classes, [actual class, predicted class]; the input is always right."""
        inputs = np.eye(len(CLASS_NAMES) // _OUTPUTS)
        return np.asarray(np.kron(inputs, self.output_confusion), np.float64)

    def predicted(self, first_number: int, length_class: NDArray[np.int64]) -> NDArray[np.int64]:
        """Predicted classes of requests that follow one another, shape (requests,).

        Args:
            first_number: Of the first of these requests, 0 or more, counted from the service's first. The prediction
                depends on a request's number and class alone, not on how the requests are cut into calls.
            length_class: Actual classes, indices into CLASS_NAMES, shape (requests,).
        """
        if self.accuracy == 1:
            return length_class.copy()
        draw = _uniform(first_number, len(length_class), self.seed)
        limits = np.cumsum(self.output_confusion, axis=1)[length_class % _OUTPUTS, :-1]
        output_class = (draw[:, None] >= limits).sum(axis=1)
        return np.asarray(length_class - length_class % _OUTPUTS + output_class, np.int64)

    def distribution(self, mix: NDArray[np.float64]) -> NDArray[np.float64]:
        """What a prediction tells: P(actual class | predicted class), [predicted class, actual class]; rows sum to 1.

        By Bayes' rule from the part that each class has of all requests, of shape (classes,) and any sum. An input
        class that has none is taken to have each output alike. Raises InvalidInputError for a mix that is none.
        """
        by_input = _checked_mix(mix).reshape(-1, _OUTPUTS)
        prior = np.where(by_input.sum(axis=1, keepdims=True) > 0, by_input, 1.0).reshape(-1)
        joint = (prior[:, None] * self.confusion).T
        likely = joint.sum(axis=1, keepdims=True)
        # A perfect predictor never predicts a class that never comes.
        return np.where(likely > 0, joint / np.where(likely > 0, likely, 1.0), np.eye(len(CLASS_NAMES)))


def _checked_mix(mix: NDArray[np.float64]) -> NDArray[np.float64]:
    mix = np.asarray(mix, np.float64)
    if mix.shape != (len(CLASS_NAMES),):
        raise InvalidInputError(f"mix of shape {mix.shape}: must be one number for each of {len(CLASS_NAMES)} classes")
    if not (np.isfinite(mix).all() and (mix >= 0).all() and mix.any()):
        raise InvalidInputError(f"mix {mix.tolist()}: parts must be 0 or more, and not all of them 0")
    return mix


def _uniform(first_number: int, count: int, seed: int) -> NDArray[np.float64]:
    """Numbers in [0, 1) by request number: splitmix64 of a counter (Steele, Lea, Flood, OOPSLA 2014)."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    # Seeds are 2**32 requests apart; in an array arithmetic wraps without a word.
    state = np.arange(count, dtype=np.uint64) + np.array([(seed << 32) + first_number + 1], np.uint64)
    state *= golden
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53
