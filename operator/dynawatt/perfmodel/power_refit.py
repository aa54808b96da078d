"""How the shipped power coefficients came out of the measurements: run it again where there are new ones."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from dynawatt.perfmodel.gpus import gpu_by_name
from dynawatt.perfmodel.power import POWER
from dynawatt.perfmodel.power_fit import fit_power
from dynawatt.perfmodel.power_residuals import EXPERTS
from dynawatt.perfmodel.power_rows import PowerRows
from dynawatt.perfmodel.profile import PowerCoefficients

_DENSE: Final = ("ml-energy-dense", "bf16")
_ARITHMETIC: Final = ("j_per_byte", "j_per_context_byte", "j_per_flop")
_UNKNOWN: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    _DENSE: ("j_per_byte", "j_per_context_byte", "j_per_logit"),
    # One model: nothing but arithmetic differs from bf16.
    ("ml-energy-dense", "fp8"): ("j_per_flop",),
    # Weights are unpacked in the SMs before they are used, and multiplied as in bf16.
    (EXPERTS, "mxfp4"): ("j_per_byte", "j_per_logit"),
    # At most a tenth of all bytes are context; logits were sampled by an older engine.
    ("splitwise-sim", "bf16"): ("j_per_byte", "j_per_flop"),
}
"""What each set can tell; all else stays as shipped, or as bf16 has it."""


def refit(sets: Iterable[PowerRows]) -> dict[tuple[str, str], PowerCoefficients]:
    """Coefficients by GPU and precision, from the points that are not held out."""
    fitted: dict[tuple[str, str], PowerCoefficients] = {}
    for rows in sorted(sets, key=lambda rows: (rows.gpu, rows.precision)):  # bf16 before the others
        unknown = _UNKNOWN.get((rows.dataset, rows.precision))
        if unknown is None:
            continue
        start = POWER[rows.gpu, rows.precision].coefficients
        if (bf16 := fitted.get((rows.gpu, "bf16"))) is not None:
            start = replace(bf16, clock_band=start.clock_band)
        part, gpu = rows.part(held_out=False), gpu_by_name(rows.gpu)
        if (rows.dataset, rows.precision) == _DENSE:
            # Decode has FLOPs and logits in nearly fixed proportion. All that arithmetic can explain is ascribed to it:
            # fitted together, it would take 0.57 pJ per FLOP on B200, where kernels bound by it were measured at 0.87.
            start = fit_power(part, gpu, replace(start, j_per_logit=0.0), *_ARITHMETIC)
        fitted[rows.gpu, rows.precision] = fit_power(part, gpu, start, *unknown)
    return fitted
