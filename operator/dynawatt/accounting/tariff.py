"""What energy costs: money and carbon, by constant factors."""

import math
from dataclasses import dataclass
from typing import Final

from dynawatt.errors import InvalidInputError
from dynawatt.quantities import kwh

WORLD_CARBON_G_PER_KWH: Final = 480.0
"""World mean of 2023 (Ember, Global Electricity Review 2024), for a site of which nothing is known."""


@dataclass(frozen=True, slots=True)
class Tariff:
    """Of one place, at all times. Raises InvalidInputError for factors that are none."""

    price_per_kwh: float
    carbon_g_per_kwh: float
    """g CO2e of the electricity used, that of making the hardware left out."""
    currency: str = "USD"
    overhead: float = 1.0
    """Energy of the site per energy of its GPUs (power usage effectiveness), which multiplies all that is below."""

    def __post_init__(self) -> None:
        """Check ranges; a price below 0 is one that is paid for taking energy."""
        if not math.isfinite(self.price_per_kwh):
            raise InvalidInputError(f"price {self.price_per_kwh} {self.currency}/kWh: must be a number")
        if not 0 <= self.carbon_g_per_kwh < math.inf:
            raise InvalidInputError(f"carbon intensity {self.carbon_g_per_kwh} g CO2e/kWh: must be 0 or more")
        if not 1 <= self.overhead < math.inf:
            raise InvalidInputError(f"site overhead {self.overhead}: must be 1 or more")

    def energy_kwh(self, energy_j: float) -> float:
        """At the site's meter."""
        return kwh(energy_j) * self.overhead

    def cost(self, energy_j: float) -> float:
        """In the tariff's currency."""
        return self.energy_kwh(energy_j) * self.price_per_kwh

    def carbon_g(self, energy_j: float) -> float:
        """In g CO2e."""
        return self.energy_kwh(energy_j) * self.carbon_g_per_kwh
