"""Fits the energy of work to measured mean powers.

power = loaded idle + active + bytes/s * J/byte + FLOP/s * J/FLOP + logits/s * J/logit, at most TDP

The two constants are set beforehand. Measurements cannot tell them apart from
the rest: in decode, bytes per second fall while FLOPs per second rise, so a
high constant with small energies per byte and FLOP fits a sweep over batch
sizes as well as the reverse. Errors count relative to the measured power.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.clocked import Numbers
from dynawatt.perfmodel.gpus import GpuSpec
from dynawatt.perfmodel.nonnegative import nonnegative_least_squares
from dynawatt.perfmodel.profile import PowerCoefficients, Residual

_THROTTLED: Final = 0.94
"""Mean power above this share of TDP means that part of the time the limit held the clock down."""
_RATES: Final[Mapping[str, str]] = {
    "j_per_byte": "bytes_per_s",
    "j_per_context_byte": "context_bytes_per_s",
    "j_per_flop": "flops_per_s",
    "j_per_link_byte": "link_bytes_per_s",
    "j_per_logit": "logits_per_s",
}
"""What each coefficient multiplies."""


@dataclass(frozen=True, slots=True, eq=False)
class PowerPoints:
    """Mean watts per GPU and the work that each GPU did meanwhile, per second; arrays of one length."""

    power_w: Numbers
    bytes_per_s: Numbers
    """Weights."""
    context_bytes_per_s: Numbers
    """Keys and values of decoding requests."""
    flops_per_s: Numbers
    link_bytes_per_s: Numbers
    logits_per_s: Numbers
    """Sampled for decoding requests."""

    def __len__(self) -> int:
        return len(self.power_w)

    def where(self, chosen: NDArray[np.bool_] | Sequence[bool]) -> "PowerPoints":
        """Those points for which ``chosen`` is true."""
        mask = np.asarray(chosen, dtype=bool)
        return PowerPoints(*(getattr(self, each.name)[mask] for each in fields(self)))


def predicted_w(points: PowerPoints, power: PowerCoefficients, gpu: GpuSpec) -> Numbers:
    """What the model says for the same work at the default clock."""
    return np.minimum(gpu.tdp_w, _constant_w(power, gpu) + _work_w(points, power))


def fit_power(points: PowerPoints, gpu: GpuSpec, start: PowerCoefficients, *unknown: str) -> PowerCoefficients:
    """``start`` with the ``unknown`` energies per byte, context byte, FLOP or logit that fit best, none negative.

    Those not named stay as in ``start``: the same GPU in another precision moves keys and values at the same cost.
    Raises InvalidInputError for too few points below the power limit.
    """
    used = points.where(points.power_w < _THROTTLED * gpu.tdp_w)
    if len(used) <= len(unknown):
        raise InvalidInputError(
            f"power of {gpu.name}: {len(used)} points below the power limit: {len(unknown)} unknowns need more"
        )
    known = replace(start, **dict.fromkeys(unknown, 0.0))
    rest_w = used.power_w - _constant_w(known, gpu) - _work_w(used, known)
    columns = np.stack([getattr(used, _RATES[name]) for name in unknown], axis=1)
    largest = columns.max(axis=0)
    solution = nonnegative_least_squares(columns / largest / used.power_w[:, None], rest_w / used.power_w)
    return replace(start, **dict(zip(unknown, (solution / largest).tolist(), strict=True)))


def residual(dataset: str, quantity: str, predicted: Numbers, measured: Numbers, *, held_out: bool) -> Residual:
    """Relative errors of ``predicted``, summed up. Raises InvalidInputError without any point."""
    if not len(measured):
        raise InvalidInputError(f"{dataset}: no points of {quantity} to compare with")
    errors = np.abs(predicted / measured - 1)
    return Residual(
        dataset=dataset,
        quantity=quantity,
        points=len(measured),
        median_abs_error=float(np.median(errors)),
        p90_abs_error=float(np.quantile(errors, 0.9)),
        mean_abs_error=float(errors.mean()),
        held_out=held_out,
    )


def _constant_w(power: PowerCoefficients, gpu: GpuSpec) -> float:
    return gpu.loaded_idle_w(gpu.default_clock_mhz) + power.active_static_w + power.active_clocked_w


def _work_w(points: PowerPoints, power: PowerCoefficients) -> Numbers:
    return np.asarray(sum(getattr(points, rate) * getattr(power, energy) for energy, rate in _RATES.items()))
