"""What vLLM's one TTFT histogram says of objectives that differ by input length.

It counts first tokens of all lengths together, so how many requests of one class of
lengths came in time cannot be read from it. Two bounds can: if 1 % of all requests
were later than the objective of a class that half of all requests belong to, then at
most 2 % of that class were (Fréchet's inequalities). They meet where one objective
holds for all lengths.
"""

import math
from collections.abc import Mapping
from typing import Final

from dynawatt.adapters.vllm_load.histograms import fraction_within
from dynawatt.adapters.vllm_load.source import LoadObservation
from dynawatt.api.llmservice import SLO
from dynawatt.controller.metrics.figures import Bounds

ALL_INPUTS: Final = "all"
"""Instead of a class of input lengths."""


def input_classes(slo: SLO) -> dict[str, float]:
    """Classes of input tokens, as in ``1-256`` and ``257+``, with their TTFT objectives in seconds."""
    found, first = {}, 1
    for last, objective_s in slo.ttft_objectives_s:
        found[f"{first}+" if math.isinf(last) else f"{first}-{last:.0f}"] = objective_s
        first = first if math.isinf(last) else int(last) + 1
    return found


def ttft_bounds(slo: SLO, load: LoadObservation) -> Mapping[str, Bounds]:
    """Least and most of all requests, and of each class, whose first token was in time; nothing before any was.

    Classes of which no request has finished are left out. Which lengths requests have is known of those that
    finished, so that right after a change of the mix the bounds may be off.
    """
    within = {name: fraction_within(load.ttft, objective_s) for name, objective_s in input_classes(slo).items()}
    known = {name: share for name, share in within.items() if share is not None}
    if not known:
        return {}
    weights = _weights(slo, load)
    # Whatever the lengths are, the least and the greatest objective bound the whole.
    found = {ALL_INPUTS: Bounds(min(known.values()), max(known.values()))}
    if weights:
        late = sum(min(weights[name], 1 - share) for name, share in known.items())
        timely = sum(min(weights[name], share) for name, share in known.items())
        found[ALL_INPUTS] = Bounds(max(found[ALL_INPUTS].low, 1 - late), min(found[ALL_INPUTS].high, timely))
    for name, share in known.items():
        if weight := weights.get(name, 0.0):
            found[name] = Bounds(max(0.0, 1 - (1 - share) / weight), min(1.0, share / weight))
    return found


def _weights(slo: SLO, load: LoadObservation) -> dict[str, float]:
    """Shares of the finished requests by class."""
    if load.mix is None:
        return {}
    lengths, weights, below = load.mix.input_tokens, {}, 0.0
    for name, (last, _) in zip(input_classes(slo), slo.ttft_objectives_s, strict=True):
        up_to = float((lengths <= last).mean())
        weights[name], below = up_to - below, up_to
    return weights
