"""The ML.ENERGY leaderboard's measurements of vLLM: power and speed against batch size, as one CSV file."""

import csv
from pathlib import Path
from typing import Final

from dynawatt.adapters.calibration.columns import positive_number
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.derivation.closed_loop import ClosedLoopRow

_GPUS: Final = {"H100": "h100-sxm", "B200": "b200-sxm"}
_PRECISIONS: Final = {"bfloat16": "bf16", "fp8": "fp8", "mxfp4": "mxfp4"}


def read_ml_energy(path: Path) -> list[ClosedLoopRow]:
    """Rows of text models on one tensor-parallel replica, in the file's order.

    Left out are rows with images or video in their prompts, with several data-parallel replicas or expert parallelism,
    and in other precisions. Raises InvalidInputError with file, line and field.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.DictReader(file)
            if "gpu_model" not in (lines.fieldnames or ()):
                raise InvalidInputError(f"{path}: has no column gpu_model; give the file ml_energy_flat.csv")
            return [
                _row(fields, f"{path}:{number}") for number, fields in enumerate(lines, start=2) if _covered(fields)
            ]
    except OSError as error:
        raise InvalidInputError(f"{path}: {error.strerror}; give the file ml_energy_flat.csv") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(f"{path}: is not a CSV file; give the file ml_energy_flat.csv") from error


def _covered(fields: dict[str, str]) -> bool:
    return (
        fields.get("task") not in {"image-chat", "video-chat"}
        and fields.get("gpu_model") in _GPUS
        and fields.get("weight_precision") in _PRECISIONS
        and fields.get("data_parallel") == "1"
        and fields.get("expert_parallel") == "1"
    )


def _row(fields: dict[str, str], where: str) -> ClosedLoopRow:
    requests = positive_number(fields, "avg_batch_size", where)
    tensor_parallel = positive_number(fields, "tensor_parallel", where)
    return ClosedLoopRow(
        model=fields.get("model_id", ""),
        gpu=_GPUS[fields["gpu_model"]],
        tensor_parallel=int(tensor_parallel),
        precision=_PRECISIONS[fields["weight_precision"]],
        task=fields["task"],
        max_requests=int(positive_number(fields, "max_num_seqs", where)),
        requests=requests,
        output_tokens=positive_number(fields, "avg_output_len", where),
        # Each running request gets one token per iteration.
        step_s=requests / positive_number(fields, "output_throughput_tokens_per_sec", where),
        power_w=positive_number(fields, "avg_power_watts", where) / positive_number(fields, "num_gpus", where),
    )
