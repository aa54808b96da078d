"""Why something that was asked for is not done."""

from typing import NamedTuple

from dynawatt.api.conditions import Reason


class Refusal(NamedTuple):
    """Why the claim of a pod has no effect."""

    reason: Reason
    message: str
