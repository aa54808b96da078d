"""A load as counts per slot of five minutes and class: binned once, shared by all policies of a comparison."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.forecast.slots import SLOT_S
from dynawatt.workload.classes import CLASS_NAMES, LengthClasses
from dynawatt.workload.trace import Trace

_CLASSES = len(CLASS_NAMES)


@dataclass(frozen=True, eq=False)
class SlotLoad:
    """What arrives from time 0 to the horizon. Classes go by actual lengths, in the order of CLASS_NAMES."""

    horizon_s: float
    requests: NDArray[np.int64]
    """[slot, class]; the last slot ends at the horizon. What policies count."""
    input_tokens: NDArray[np.int64]
    """Of all requests of a class, [class]."""
    output_tokens: NDArray[np.int64]
    """The same."""
    even_requests: NDArray[np.float64] | None = None
    """[slot, class], as many of each class, but come at the rates that the load had, without its bursts: what replicas
    serve, as surfaces know the bursts. None where these are the requests themselves."""

    def without_bursts(self, expected: NDArray[np.float64]) -> "SlotLoad":
        """The same load, served as if so many requests had come in each slot, [slot]; each slot keeps its classes."""
        drawn = self.requests.sum(axis=1, keepdims=True)
        shares = np.where(drawn > 0, self.requests, self.requests.sum(axis=0))
        even = expected[:, None] * shares / np.maximum(1, shares.sum(axis=1, keepdims=True))
        totals = even.sum(axis=0)
        scale = np.divide(self.requests.sum(axis=0), totals, out=np.zeros(_CLASSES), where=totals > 0)
        return replace(self, even_requests=even * scale)

    @cached_property
    def served(self) -> NDArray[np.float64]:
        """What replicas serve, [slot, class]."""
        return self.requests.astype(np.float64) if self.even_requests is None else self.even_requests

    @cached_property
    def _counted_before(self) -> NDArray[np.float64]:
        return _before(self.requests)

    @cached_property
    def _served_before(self) -> NDArray[np.float64]:
        return _before(self.served)

    @cached_property
    def mean_input_tokens(self) -> NDArray[np.float64]:
        """Of a request, by class; 0 of a class without any."""
        return np.asarray(self.input_tokens / np.maximum(1, self.requests.sum(axis=0)))

    @cached_property
    def mean_output_tokens(self) -> NDArray[np.float64]:
        """The same for output, 1 of a class without any: every request has one."""
        counts = self.requests.sum(axis=0)
        return np.where(counts > 0, self.output_tokens / np.maximum(1, counts), 1.0)

    def between(self, begin_s: float, end_s: float) -> NDArray[np.float64]:
        """Requests to serve from a time up to another, by class: a part of a slot has its part of the slot's."""
        return self._between(self._served_before, begin_s, end_s)

    def counted_between(self, begin_s: float, end_s: float) -> NDArray[np.float64]:
        """Requests that policies count, by class."""
        return self._between(self._counted_before, begin_s, end_s)

    def _between(self, before: NDArray[np.float64], begin_s: float, end_s: float) -> NDArray[np.float64]:
        # Of a moment's requests rounding errors may leave less than none.
        return np.maximum(0.0, self._until(before, end_s) - self._until(before, begin_s))

    def _until(self, edges: NDArray[np.float64], time_s: float) -> NDArray[np.float64]:
        slot = min(max(0, int(time_s / SLOT_S)), len(self.requests) - 1)
        begin_s, end_s = SLOT_S * slot, min(SLOT_S * (slot + 1), self.horizon_s)
        share = min(1.0, max(0.0, (time_s - begin_s) / (end_s - begin_s)))
        before, after = edges[slot], edges[slot + 1]
        return np.asarray(before + share * (after - before) if share < 1 else after)


def _before(requests: NDArray[np.integer] | NDArray[np.floating]) -> NDArray[np.float64]:
    """Requests before the start of each slot and before the horizon, [edge, class]."""
    arrived = np.zeros((len(requests) + 1, _CLASSES))
    np.cumsum(requests, axis=0, out=arrived[1:])
    return arrived


def slot_edges_s(horizon_s: float) -> NDArray[np.float64]:
    """Where slots begin and the last one ends, [edge]; one at least."""
    # A horizon a hair above a slot's end is one that its last request just missed.
    slots = max(1, ceil(horizon_s / SLOT_S - 1e-9))
    return np.asarray(np.minimum(SLOT_S * np.arange(slots + 1), horizon_s))


def bin_load(chunks: Iterable[Trace], horizon_s: float, classes: LengthClasses) -> SlotLoad:
    """Count requests at absolute times, in any order; those from the horizon on are left out.

    Raises InvalidInputError for a horizon that is not above 0.
    """
    if not 0 < horizon_s < float("inf"):
        raise InvalidInputError(f"time to simulate, {horizon_s} s: must be above 0")
    slots = len(slot_edges_s(horizon_s)) - 1
    requests = np.zeros(slots * _CLASSES, np.int64)
    inputs, outputs = np.zeros(_CLASSES), np.zeros(_CLASSES)
    for chunk in chunks:
        inside = chunk.arrival_s < horizon_s
        kind = classes.of(chunk.input_tokens, chunk.output_tokens)[inside]
        slot = np.minimum((chunk.arrival_s[inside] / SLOT_S).astype(np.int64), slots - 1)
        requests += np.bincount(slot * _CLASSES + kind, minlength=len(requests))
        # Weights are floats: exact for totals below 2**53 tokens.
        inputs += np.bincount(kind, chunk.input_tokens[inside], _CLASSES)
        outputs += np.bincount(kind, chunk.output_tokens[inside], _CLASSES)
    return SlotLoad(horizon_s, requests.reshape(slots, _CLASSES), inputs.astype(np.int64), outputs.astype(np.int64))
