"""Which buckets vLLM's latency histograms should have, so that an SLO can be read from them exactly."""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Final

TTFT_BOUNDS_S: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0,
    640.0, 2560.0,
)  # fmt: skip
TBT_BOUNDS_S: Final = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
"""As vLLM 0.33 has them by default."""
FLAG: Final = "--custom-histogram-buckets"


def advised_buckets(
    ttft_objectives_s: Iterable[float],
    tbt_objective_s: float,
    *,
    ttft_bounds_s: Sequence[float] = TTFT_BOUNDS_S,
    tbt_bounds_s: Sequence[float] = TBT_BOUNDS_S,
) -> str | None:
    """The value for ``--custom-histogram-buckets``, which replaces whole lists; None when no objective needs it.

    Args:
        ttft_objectives_s: Of all input lengths.
        tbt_objective_s: Of gaps between tokens; its family also holds the mean gaps of requests.
        ttft_bounds_s: Bounds that the histogram has now, such as those of an observation; infinity does not matter.
        tbt_bounds_s: Likewise.
    """
    wanted = {
        "time_to_first_token": _with(ttft_bounds_s, ttft_objectives_s),
        "inter_token_latency": _with(tbt_bounds_s, [tbt_objective_s]),
    }
    changed = {family: bounds_s for family, bounds_s in wanted.items() if bounds_s is not None}
    return json.dumps(changed, separators=(",", ":")) if changed else None


def _with(bounds_s: Sequence[float], objectives_s: Iterable[float]) -> list[float] | None:
    """The bounds and the objectives that are none of them; None when there is no such objective."""
    finite = [bound_s for bound_s in bounds_s if math.isfinite(bound_s)]
    missing = {
        round(objective_s, 6)
        for objective_s in objectives_s
        if not any(math.isclose(objective_s, bound_s, rel_tol=1e-6) for bound_s in finite)
    }
    return sorted({*finite, *missing}) if missing else None
