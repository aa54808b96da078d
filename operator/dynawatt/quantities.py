"""Units in one place.

Everywhere in dynawatt time is seconds, clocks are MHz, energy is J, power is W
and carbon is g CO2e, and names say so (``interval_s``, ``clock_mhz``).
Prometheus metrics use base units, so a clock crosses the border as hertz.
"""

from typing import Final

J_PER_KWH: Final = 3_600_000.0
HZ_PER_MHZ: Final = 1_000_000.0
MS_PER_S: Final = 1_000.0
S_PER_HOUR: Final = 3_600.0


def kwh(energy_j: float) -> float:
    """Joules as kilowatt-hours."""
    return energy_j / J_PER_KWH


def seconds(milliseconds: float) -> float:
    """Milliseconds, as users write objectives, in seconds."""
    return milliseconds / MS_PER_S
