"""splitwise-sim's measured power of A100, from its table of performance."""

import csv
from pathlib import Path
from typing import Final

from dynawatt.adapters.calibration.columns import number
from dynawatt.perfmodel.gpus import A100_SXM
from dynawatt.perfmodel.power_rows import TwoPhaseRow

_HARDWARE: Final = "a100-80gb"


def read_splitwise_power(path: Path) -> list[TwoPhaseRow]:
    """Rows with a measured power, in the file's order; H100's have none. The file's powers are shares of TDP.

    Raises InvalidInputError with file, line and field.
    """
    rows = []
    with path.open(encoding="utf-8", newline="") as file:
        for line, fields in enumerate(csv.DictReader(file), start=2):
            where = f"{path}:{line}"
            if fields.get("hardware") != _HARDWARE or number(fields, "average_power", where) == 0:
                continue
            rows.append(
                TwoPhaseRow(
                    model=fields.get("model", ""),
                    gpu=A100_SXM.name,
                    tensor_parallel=int(number(fields, "tensor_parallel", where)),
                    requests=int(number(fields, "batch_size", where)),
                    prompt_tokens=int(number(fields, "prompt_size", where)),
                    prompt_s=number(fields, "prompt_time", where) / 1e3,
                    prompt_power_w=number(fields, "peak_power", where) * A100_SXM.tdp_w,
                    token_s=number(fields, "token_time", where) / 1e3,
                    token_power_w=number(fields, "average_power", where) * A100_SXM.tdp_w,
                )
            )
    return rows
