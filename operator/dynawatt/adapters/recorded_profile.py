"""The profile of an engine of 2023, from its recorded times alone."""

import datetime
from collections.abc import Sequence
from typing import Final

from dynawatt.perfmodel.architectures import ARCHITECTURES
from dynawatt.perfmodel.derivation.profiles import STARTUP_PROVENANCE, startup_s
from dynawatt.perfmodel.derivation.recorded import RecordedRow, derive_recorded_shape
from dynawatt.perfmodel.derivation.weights import weight_bytes
from dynawatt.perfmodel.gpus import GPUS
from dynawatt.perfmodel.power import power_calibration
from dynawatt.perfmodel.profile import ModelProfile

_RECORDED: Final = "splitwise-sim (2023 engine)"


def recorded_profile(rows: Sequence[RecordedRow], today: datetime.date) -> ModelProfile:
    """``llama-2-70b-h100-2023``, the engine of the DynamoLLM paper. Raises InvalidInputError for too few rows."""
    architecture, gpu, precision = ARCHITECTURES["llama-2-70b"], GPUS["h100-sxm"], "bf16"
    power = power_calibration(gpu.name, precision)
    sizes = sorted({row.tensor_parallel for row in rows})
    shapes = {
        size: derive_recorded_shape(
            [row for row in rows if row.tensor_parallel == size], architecture, gpu, f"{_RECORDED} {gpu.name}"
        )
        for size in sizes
    }
    weights = weight_bytes(architecture, precision)
    return ModelProfile(
        name="llama-2-70b-h100-2023",
        architecture=architecture,
        precision=precision,
        gpu=gpu,
        weight_bytes=weights,
        power=power.coefficients,
        shapes={size: shape.coefficients for size, shape in shapes.items()},
        startup_s=startup_s(weights),
        provenance=(
            f"step times fitted to splitwise-sim data/perf_model.csv (MIT; Patel et al., ISCA 2024), vLLM of 2023 on "
            f"H100; derived {today.isoformat()}; only to reproduce the DynamoLLM paper",
            "recorded up to 64 requests; the run of 64 prompts on TP 2 is left out: it took less time than 8",
            "what of a step is memory, communication and engine time is assumed, not measured",
            STARTUP_PROVENANCE,
            *power.provenance,
        ),
        residuals=tuple(residual for shape in shapes.values() for residual in shape.residuals),
    )
