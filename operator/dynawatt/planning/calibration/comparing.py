"""Observed beside predicted, for a window or for several replicas of one."""

from typing import Final, NamedTuple

from dynawatt.planning.calibration.observing import Observation
from dynawatt.planning.calibration.predicting import Predictor

_LOW_QUEUE: Final = 0.3
"""Part of the time that iterations prefill in, above which prompts wait for each other and prefills tell nothing."""


class Comparison(NamedTuple):
    """Sums; what was not observed is 0 on both sides."""

    gaps: float = 0.0
    gap_sum_s: float = 0.0
    predicted_gap_sum_s: float = 0.0
    prefills: float = 0.0
    prefill_sum_s: float = 0.0
    predicted_prefill_sum_s: float = 0.0
    replica_s: float = 0.0
    """Behind the energy."""
    energy_j: float = 0.0
    predicted_energy_j: float = 0.0

    def plus(self, other: "Comparison") -> "Comparison":
        """Of two sets of replicas, or of two windows."""
        return Comparison(*(one + another for one, another in zip(self, other, strict=True)))


def compare(seen: Observation, predictor: Predictor) -> Comparison:
    """Put what a profile says beside what was seen.

    Args:
        seen: What replicas of a shape did.
        predictor: Of the profile without learnt factors, and of the present mix.

    Raises InvalidInputError when the window does not fit the profile.
    """
    predicted = predictor.predict(seen)
    tells = seen.prefills > 0 and predicted.prefilling < _LOW_QUEUE
    known = seen.energy_j is not None
    return Comparison(
        gaps=seen.gaps,
        gap_sum_s=seen.gap_sum_s,
        predicted_gap_sum_s=seen.gaps * predicted.gap_s,
        prefills=seen.prefills if tells else 0.0,
        prefill_sum_s=seen.prefill_sum_s if tells else 0.0,
        predicted_prefill_sum_s=predicted.prefill_sum_s if tells else 0.0,
        replica_s=seen.replica_s if known else 0.0,
        energy_j=seen.energy_j or 0.0,
        predicted_energy_j=predicted.energy_j if known else 0.0,
    )
