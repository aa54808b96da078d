"""The performance table of splitwise-sim: recorded times of vLLM in 2023, as one CSV file."""

import csv
from pathlib import Path
from typing import Final

from dynawatt.adapters.calibration.columns import positive_number
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.derivation.recorded import RecordedRow

_MODEL: Final = "llama2-70b"
_HARDWARE: Final = {"h100-sxm": "h100-80gb", "a100-sxm": "a100-80gb"}
_MILLISECONDS: Final = 1e-3


def read_splitwise(path: Path, gpu: str = "h100-sxm") -> list[RecordedRow]:
    """Rows of Llama-2-70B on a GPU, in the file's order.

    Raises InvalidInputError with file, line and field, and when the file has no such row.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [
                _row(fields, f"{path}:{number}")
                for number, fields in enumerate(csv.DictReader(file), start=2)
                if (fields.get("model"), fields.get("hardware")) == (_MODEL, _HARDWARE.get(gpu))
            ]
    except OSError as error:
        raise InvalidInputError(f"{path}: {error.strerror}; give splitwise-sim's perf_model.csv") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(f"{path}: is not a CSV file; give splitwise-sim's perf_model.csv") from error
    if not rows:
        raise InvalidInputError(f"{path}: has no rows of {_MODEL} on {gpu}; give splitwise-sim's perf_model.csv")
    return rows


def _row(fields: dict[str, str], where: str) -> RecordedRow:
    return RecordedRow(
        tensor_parallel=int(positive_number(fields, "tensor_parallel", where)),
        prompt_tokens=int(positive_number(fields, "prompt_size", where)),
        requests=int(positive_number(fields, "batch_size", where)),
        output_tokens=int(positive_number(fields, "token_size", where)),
        prompt_s=positive_number(fields, "prompt_time", where) * _MILLISECONDS,
        token_s=positive_number(fields, "token_time", where) * _MILLISECONDS,
    )
