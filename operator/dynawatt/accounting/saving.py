"""What was saved against a counterfactual, with a band around it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from dynawatt.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Saving:
    """Energy against what it would have been otherwise. Raises InvalidInputError.

    A saving below 0 is energy spent beyond the counterfactual. It stays what it is, in every sum as well.
    """

    energy_j: float
    counterfactual_j: float
    band_j: float = 0.0
    """Uncertainty of the saving, either way."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name, value_j in (
            ("energy", self.energy_j),
            ("counterfactual", self.counterfactual_j),
            ("band", self.band_j),
        ):
            if not 0 <= value_j < math.inf:
                raise InvalidInputError(f"{name} of a saving, {value_j} J: must be 0 or more")

    @property
    def saved_j(self) -> float:
        """Below 0 where more was used."""
        return self.counterfactual_j - self.energy_j

    @property
    def fraction(self) -> float | None:
        """Of the counterfactual; None where that is nothing."""
        return self.saved_j / self.counterfactual_j if self.counterfactual_j else None

    @property
    def interval_j(self) -> tuple[float, float]:
        """Lower and upper end of the band around ``saved_j``."""
        return self.saved_j - self.band_j, self.saved_j + self.band_j

    @property
    def interval_fraction(self) -> tuple[float, float] | None:
        """The same as parts of the counterfactual; None where that is nothing."""
        if not self.counterfactual_j:
            return None
        low_j, high_j = self.interval_j
        return low_j / self.counterfactual_j, high_j / self.counterfactual_j

    @property
    def is_certain(self) -> bool:
        """Whether something was saved wherever in the band the truth lies."""
        return self.interval_j[0] > 0


def modelled_saving(energy_j: float, counterfactual_j: float, clock_band: float) -> Saving:
    """Both energies come from one model, so that an error of its level hits both alike.

    What is left is the uncertainty of how watts fall with the clock, ``PowerCoefficients.clock_band``, a fraction of
    what is saved. It is taken of the whole saving, although what released GPUs save does not depend on it. Raises
    InvalidInputError.
    """
    return Saving(energy_j, counterfactual_j, _checked(clock_band) * abs(counterfactual_j - energy_j))


def measured_saving(energy_j: float, counterfactual_j: float, level_band: float) -> Saving:
    """The energy is measured and only the counterfactual modelled, with a level uncertain by this fraction.

    Raises InvalidInputError.
    """
    return Saving(energy_j, counterfactual_j, _checked(level_band) * counterfactual_j)


def total(savings: Iterable[Saving]) -> Saving:
    """Of several services or spans; savings below 0 count against the others.

    Bands are added as if all were wrong in the same direction, as they come from the same model.
    """
    parts = list(savings)
    return Saving(
        energy_j=sum(part.energy_j for part in parts),
        counterfactual_j=sum(part.counterfactual_j for part in parts),
        band_j=sum(part.band_j for part in parts),
    )


def _checked(band: float) -> float:
    if not 0 <= band < math.inf:
        raise InvalidInputError(f"uncertainty {band} of a saving: must be a fraction, 0 or more")
    return band
