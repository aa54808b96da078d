"""How the shipped power coefficients came out of the measurements: run it again where there are new ones."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from dynawatt.perfmodel.gpus import gpu_by_name
from dynawatt.perfmodel.power import POWER
from dynawatt.perfmodel.power_fit import fit_power
from dynawatt.perfmodel.power_rows import PowerRows
from dynawatt.perfmodel.profile import PowerCoefficients

_UNKNOWN: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("ml-energy-dense", "bf16"): ("j_per_byte", "j_per_context_byte", "j_per_flop"),
    # One model: nothing but arithmetic differs from bf16.
    ("ml-energy-dense", "fp8"): ("j_per_flop",),
    # Weights are unpacked in the SMs before they are used.
    ("ml-energy-experts", "mxfp4"): ("j_per_byte", "j_per_flop"),
    # At most a tenth of all bytes are context.
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
        part = rows.part(held_out=False)
        fitted[rows.gpu, rows.precision] = fit_power(part, gpu_by_name(rows.gpu), start, *unknown)
    return fitted
