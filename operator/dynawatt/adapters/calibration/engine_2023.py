"""Steps of a profile against splitwise-sim's recording of vLLM in 2023, with Llama-2-70B.

Llama 3.1 70B differs from it in the vocabulary alone, its engine in two years of
work: for that profile the errors say how much faster engines became, and no
headline counts them. The profile ``llama-2-70b-h100-2023`` is fitted to this
recording.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

import numpy as np

from dynawatt.perfmodel.derivation.recorded import RecordedRow
from dynawatt.perfmodel.models import Batch, chunk_pairs
from dynawatt.perfmodel.power_fit import residual
from dynawatt.perfmodel.profile import ModelProfile, Residual

DATASET: Final = "splitwise-sim (2023 engine)"
_MODELS: Final = ("llama-2-70b", "llama-3.1-70b")


def covers(profile: ModelProfile) -> bool:
    """Whether the recording can be compared with the profile."""
    return profile.architecture.name in _MODELS and profile.precision == "bf16"


def recorded_residuals(profile: ModelProfile, rows: Sequence[RecordedRow]) -> list[Residual]:
    """Errors of decode and prefill steps at each recorded degree that the profile covers."""
    of_its_own = profile.architecture.name == _MODELS[0]
    found: list[Residual] = []
    for size, group in groupby(sorted(rows, key=_degree), key=_degree):
        if size not in profile.shapes:
            continue
        replica = profile.replica(size)
        own = list(group)
        for quantity, points in (
            ("decode_step", [(_decode(row), row.token_s) for row in own]),
            ("prefill_step", [(_prefill(row), row.prompt_s) for row in own]),
        ):
            covered = [
                (replica.step_s(batch, profile.gpu.default_clock_mhz), seconds)
                for batch, seconds in points
                if batch.prefill_tokens <= replica.max_iteration_tokens
                and batch.decode_requests <= replica.max_decode_requests
            ]
            found += _residual(f"{DATASET} {profile.gpu.name}, TP {size}", quantity, covered, held_out=not of_its_own)
    return found


def _residual(
    dataset: str, quantity: str, pairs: Iterable[tuple[float, float]], *, held_out: bool
) -> tuple[Residual, ...]:
    modelled, measured = np.array(list(pairs)).reshape(-1, 2).T
    return (residual(dataset, quantity, modelled, measured, held_out=held_out),) if len(measured) else ()


def _degree(row: RecordedRow) -> int:
    return row.tensor_parallel


def _decode(row: RecordedRow) -> Batch:
    context_tokens = round(row.requests * (row.prompt_tokens + row.output_tokens / 2))
    return Batch(row.requests, context_tokens, 0, 0.0)


def _prefill(row: RecordedRow) -> Batch:
    return Batch(0, 0, row.requests * row.prompt_tokens, row.requests * chunk_pairs(row.prompt_tokens, 0))
