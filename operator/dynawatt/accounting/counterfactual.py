"""What a service would draw if its fleet stood still: the static state of practice, under the same load.

Two of them, because each alone would flatter: ``as-found``, what the user ran
before dynawatt changed anything, often with much to spare; and ``tuned-static``,
the fewest replicas of the same shape that carry the highest load remembered,
which is what an expert would have set up knowing that peak. Both are always on,
at the default clock, with the engine flags as found.

All are charged for the same GPUs, as many as the largest of them holds at that
moment: those that no pod holds idle. That changes no difference, only totals.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from dynawatt.accounting.fleets import Draw, StaticFleet, fewest_static
from dynawatt.planning.curves import ShapeCurve


class Counterfactual(StrEnum):
    """What a saving is relative to."""

    AS_FOUND = "as-found"
    """The replicas that ran before the first change."""
    TUNED_STATIC = "tuned-static"
    """The fewest replicas that carry the highest load remembered."""


def static_fleets(
    template: ShapeCurve, *, adopted: int | None, peak_rps: float, least: int = 1, most: int | None = None
) -> dict[Counterfactual, StaticFleet]:
    """The fleets of both; without those that cannot be told.

    Args:
        template: Of the shape that the user's Deployment asks for.
        adopted: Its replicas before dynawatt changed them; None while they are not known.
        peak_rps: The highest load remembered.
        least: Fewest replicas that the user wants.
        most: Most replicas that the user allows, also where they do not carry the peak.

    A tuned fleet knows no future peak, so it is never larger than one tuned in hindsight.
    """
    fleets = {}
    if adopted is not None:
        fleets[Counterfactual.AS_FOUND] = StaticFleet(template, adopted)
    tuned = fewest_static(template, peak_rps, least=least, most=most)
    if tuned is not None:
        fleets[Counterfactual.TUNED_STATIC] = tuned
    return fleets


@dataclass(frozen=True, slots=True)
class Moment:
    """A service as it is by the model, and as it would be, at one time."""

    used: Draw
    instead: Mapping[Counterfactual, Draw]
    overloaded: frozenset[Counterfactual]
    """Those that would miss the SLO now: they look cheaper than what the load needs."""
    released_w: float
    """Drawn by one GPU that no pod holds."""

    @property
    def gpus(self) -> int:
        """That all are charged for."""
        return max(self.used.gpus, *(draw.gpus for draw in self.instead.values()), 0)

    def released_by(self, draw: Draw) -> float:
        """Watts of the GPUs that this one of them leaves to nobody."""
        return (self.gpus - draw.gpus) * self.released_w

    def charged_w(self, draw: Draw) -> float:
        """Watts of one of them with those GPUs."""
        return draw.power_w + self.released_by(draw)


def moment_of(used: Draw, fleets: Mapping[Counterfactual, StaticFleet], rate_rps: float, released_w: float) -> Moment:
    """What runs beside the fleets that stand still, all under the same load.

    Args:
        used: Of what runs.
        fleets: From ``static_fleets``.
        rate_rps: Load now.
        released_w: Drawn by one GPU that no pod holds.
    """
    return Moment(
        used,
        {name: fleet.draw(rate_rps) for name, fleet in fleets.items()},
        frozenset(name for name, fleet in fleets.items() if not fleet.carries(rate_rps)),
        released_w,
    )
