"""Energy of work on each GPU product in each precision, as shipped, with where every figure comes from.

Bytes of weights, bytes of context, FLOPs and logits have energies fitted to
measurements (perfmodel/power_fit.py) where there are any. Logits stand for what
every generated token takes beyond counted bytes and FLOPs. Over all held-out sets
it fits best in proportion to the vocabulary and on each GPU alike, as if sampling
took it; H100's dense models alone would as soon have the replica's GPUs share it.
That is an inference: 42 nJ per logit is 350 bytes moved, much even for sorting the
vocabulary, and decode cannot tell it from arithmetic (perfmodel/power_refit.py).
With GPT-OSS it comes out at 44 to 78 nJ, with dense models at 17 to 42. The form
was chosen with the held-out errors in view, so these are a little too good.

Four figures are set, because measurements at the default clock cannot tell them:

- Power of running kernels beyond idle. H100: 70 W; with it the fit is as good as
  with any from 30 to 100 W, and decode on the same silicon (H200) has been seen at
  137 W (arXiv 2605.11999). B200: 55 W; kernels with next to no work draw 245 W in
  the tables of aiconfigurator-core 0.12, of which 190 W are loaded idle. A100: 34 W,
  with which the token phase fits best over 2, 4 and 8 GPUs.
- What of it follows the clock, and which part of the energy per byte is the core's:
  20 W and one half. Then H200 saves 47 W at 780 MHz in the lightest decode and 68 W
  in one of 300 W; 47 to 90 W were measured in decode of 137 to 300 W (2605.11999).
- Energy per byte sent: reading and writing caches on both sides plus NVLink's
  1.3 pJ/bit. In no measurement does it matter: TP 8 sends 45 GB/s, that is 3 W.

``clock_band`` is the relative uncertainty of what a lower clock is said to save.
On other cards the form's error between their own end points is 16 % (mean of the
sweeps' medians) and up to 41 % for one point in ten. Hopper's end point is known
to +- 31 % (47 to 90 W): together 35 %. The others have no end point, hence the
larger figure; L40S has not even a measured power.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.architecture import Architecture
from dynawatt.perfmodel.power_residuals import CLOCK_RESIDUALS, EXPERTS, POWER_RESIDUALS
from dynawatt.perfmodel.profile import PowerCoefficients, Residual


@dataclass(frozen=True, slots=True)
class PowerCalibration:
    """Coefficients with where they come from and how far they are from measurements."""

    coefficients: PowerCoefficients
    provenance: tuple[str, ...]
    residuals: tuple[Residual, ...]

    def residuals_of(self, architecture: Architecture) -> tuple[Residual, ...]:
        """Without the power of the other kind of models: dense ones tell nothing of those with experts."""
        experts = architecture.experts > 1
        return tuple(
            each for each in self.residuals if each.quantity != "power" or each.dataset.startswith(EXPERTS) == experts
        )


_HOPPER: Final = PowerCoefficients(
    j_per_byte=118e-12, j_per_context_byte=153e-12, byte_core_share=0.5, j_per_flop=0.796e-12, j_per_link_byte=60e-12,
    j_per_logit=41.8e-9, active_static_w=50.0, active_clocked_w=20.0, clock_band=0.35,
)  # fmt: skip
_HOPPER_FP8: Final = replace(_HOPPER, j_per_flop=0.693e-12)
_HOPPER_MXFP4: Final = replace(_HOPPER, j_per_byte=186e-12, j_per_logit=78e-9)
_BLACKWELL: Final = PowerCoefficients(
    j_per_byte=125e-12, j_per_context_byte=55.8e-12, byte_core_share=0.5, j_per_flop=0.885e-12, j_per_link_byte=60e-12,
    j_per_logit=17.3e-9, active_static_w=35.0, active_clocked_w=20.0, clock_band=0.45,
)  # fmt: skip
_BLACKWELL_MXFP4: Final = replace(_BLACKWELL, j_per_byte=122e-12, j_per_logit=44.2e-9)
_AMPERE: Final = PowerCoefficients(
    j_per_byte=151e-12, j_per_context_byte=150e-12, byte_core_share=0.5, j_per_flop=1.40e-12, j_per_link_byte=60e-12,
    j_per_logit=41.8e-9, active_static_w=24.0, active_clocked_w=10.0, clock_band=0.45,
)  # fmt: skip
# H100's process; GDDR6 takes about 40 pJ more for a byte than HBM, and the core runs at 2.5 GHz.
_ADA: Final = PowerCoefficients(
    j_per_byte=200e-12, j_per_context_byte=200e-12, byte_core_share=0.5, j_per_flop=0.796e-12, j_per_link_byte=60e-12,
    j_per_logit=41.8e-9, active_static_w=20.0, active_clocked_w=10.0, clock_band=0.5,
)  # fmt: skip

_ML_ENERGY: Final = (
    "power fitted to ML.ENERGY leaderboard v3 (github.com/ml-energy/leaderboard @ 0cd52da): {rows}; prompts and "
    "contexts estimated from the KV cache"
)
_DENSE: Final = _ML_ENERGY.format(rows="dense models of 8B to 70B in bf16, every third row and two models held out")
_FP8: Final = _ML_ENERGY.format(rows="energy per FLOP from Llama-3.1-405B-FP8, the rest from bf16")
_MXFP4: Final = _ML_ENERGY.format(
    rows="energy per byte and per logit from GPT-OSS, every third row held out, the rest from bf16"
)
_LOGITS: Final = (
    "energy per logit fitted to what generated tokens take beyond bytes and FLOPs; that it is sampling's is inferred"
)
_SPLITWISE: Final = (
    "power fitted to splitwise-sim (github.com/Mutinifni/splitwise-sim @ 8f99e7d): mean of the token phase, peak of "
    "the prompt phase, Llama-2-70B and BLOOM-176B; energy per byte of context set like that of other bytes, "
    "per logit as on H100"
)
_AS_H100: Final = "power not measured on H200: H100's coefficients, the same silicon; 10 W more idle for its memory"
_NOT_MEASURED: Final = (
    "power not measured on L40S: TDP and idle as published, energies scaled from H100 (same process, GDDR6); "
    "expect 20 % in watts"
)
_CLOCK: Final = (
    "clock axis derived from a model, not measured on this GPU: voltage flat up to 80 % of the default clock at 78 % "
    "of its value, then linear; shape checked against sweeps of RTX 3090, RTX 5090 and RTX PRO 6000"
)


def _calibration(
    gpu: str, precision: str, coefficients: PowerCoefficients, *provenance: str
) -> tuple[tuple[str, str], PowerCalibration]:
    residuals = (*POWER_RESIDUALS.get((gpu, precision), ()), *CLOCK_RESIDUALS)
    return (gpu, precision), PowerCalibration(coefficients, (*provenance, _CLOCK), residuals)


POWER: Final[Mapping[tuple[str, str], PowerCalibration]] = dict(
    (
        _calibration("h100-sxm", "bf16", _HOPPER, _DENSE, _LOGITS),
        _calibration("h100-sxm", "fp8", _HOPPER_FP8, _FP8, _LOGITS),
        _calibration("h100-sxm", "mxfp4", _HOPPER_MXFP4, _MXFP4, _LOGITS),
        _calibration("h200-sxm", "bf16", _HOPPER, _DENSE, _LOGITS, _AS_H100),
        _calibration("h200-sxm", "fp8", _HOPPER_FP8, _FP8, _LOGITS, _AS_H100),
        _calibration("h200-sxm", "mxfp4", _HOPPER_MXFP4, _MXFP4, _LOGITS, _AS_H100),
        _calibration("a100-sxm", "bf16", _AMPERE, _SPLITWISE),
        _calibration("l40s", "bf16", _ADA, _NOT_MEASURED),
        # As on H100, where arithmetic in fp8 costs 0.87 of what it does in bf16.
        _calibration("l40s", "fp8", replace(_ADA, j_per_flop=0.693e-12), _NOT_MEASURED),
        _calibration("b200-sxm", "bf16", _BLACKWELL, _DENSE, _LOGITS),
        _calibration("b200-sxm", "fp8", replace(_BLACKWELL, j_per_flop=0.725e-12), _FP8, _LOGITS),
        _calibration("b200-sxm", "mxfp4", _BLACKWELL_MXFP4, _MXFP4, _LOGITS),
    )
)
"""By GPU and precision."""


def power_calibration(gpu: str, precision: str) -> PowerCalibration:
    """Calibration of a GPU (its short name) in a precision. Raises InvalidInputError where there is none."""
    try:
        return POWER[gpu, precision]
    except KeyError:
        known = ", ".join(sorted(each for name, each in POWER if name == gpu)) or "none"
        raise InvalidInputError(f"precision {precision} on {gpu}: power is known for {known}") from None
