"""How sure a profile's watts are."""

from typing import Final

from dynawatt.perfmodel.profile import ModelProfile

_UNKNOWN_BAND: Final = 0.25
"""Where nothing was measured; a round figure beyond the worst of all shipped profiles."""


def level_band(profile: ModelProfile) -> float:
    """Relative uncertainty of the watts at the default clock.

    Nine of ten measurements were nearer than this to the profile, in the worst of its sets of measurements: operating
    points of one model err alike, so that even a mean over a long time may be off by as much as any of them.
    """
    found = [residual.p90_abs_error for residual in profile.residuals if residual.quantity == "power"]
    return max(found, default=_UNKNOWN_BAND)
