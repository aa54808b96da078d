from dataclasses import replace

import numpy as np
import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.architectures import ARCHITECTURES
from dynawatt.perfmodel.derivation.recorded import RecordedRow, derive_recorded_shape
from dynawatt.perfmodel.gpus import GPUS
from dynawatt.perfmodel.models import chunk_pairs

LLAMA_2, H100 = ARCHITECTURES["llama-2-70b"], GPUS["h100-sxm"]
CONTEXT_S, PAIR_S = 60e-9, 3e-9


def recorded(prompt, requests, size=4):
    tokens = prompt * requests
    prefill_s = max(0.045, 90e-6 * tokens) + PAIR_S * requests * chunk_pairs(prompt, 0)
    token_s = 0.029 + 0.2e-3 * requests + CONTEXT_S * requests * (prompt + 64)
    return RecordedRow(size, prompt, requests, 128, prefill_s, token_s)


ROWS = [recorded(prompt, 1) for prompt in (128, 256, 512, 1024, 2048, 4096, 8192)]
ROWS += [recorded(512, requests) for requests in (2, 4, 8, 16, 32, 64)]


def derive(rows):
    return derive_recorded_shape(rows, LLAMA_2, H100, "recorded")


def test_recovers_context_and_pairs():
    step = derive(ROWS).coefficients.step
    assert step.attention_context_s == pytest.approx((CONTEXT_S,) * len(step.requests), rel=1e-3)
    assert step.pair_s == pytest.approx(PAIR_S, rel=1e-3)


def test_reproduces_its_rows():
    shape = derive(ROWS)
    assert {residual.quantity for residual in shape.residuals} == {"decode_step", "prefill_step"}
    for residual in shape.residuals:
        assert residual.mean_abs_error < 0.005
        assert not residual.held_out


def test_covers_what_was_recorded_and_no_more():
    step = derive(ROWS).coefficients.step
    assert step.requests == (0, 1, 2, 4, 8, 16, 32, 64)
    assert step.tokens[-1] == 16384


def test_a_batch_faster_than_a_smaller_one_is_left_out():
    broken = [replace(row, prompt_s=0.3, token_s=0.03) if row.requests == 64 else row for row in ROWS]
    step = derive(broken).coefficients.step
    assert step.requests[-1] == 32


def test_repeated_runs_count_by_their_median():
    noisy = [replace(ROWS[0], token_s=1.0), *ROWS, *ROWS]
    assert derive(noisy).coefficients.step.attention_context_s == pytest.approx(
        derive(ROWS).coefficients.step.attention_context_s
    )


def test_the_clock_changes_arithmetic_only():
    step = derive(ROWS).coefficients.step
    # One token: the weights and the engine.
    assert step.compute_s[0] < 0.05 * step.memory_s[0]
    assert step.compute_s[-1] > 0.5 * 90e-6 * 16384
    assert step.iteration_overhead_s == pytest.approx(0.029 + 0.2e-3 - np.array(step.memory_s)[0], rel=0.05)


def test_too_little_is_refused():
    with pytest.raises(InvalidInputError, match="at least two prompt lengths"):
        derive(ROWS[7:])
    with pytest.raises(InvalidInputError, match="prefills recorded"):
        derive(ROWS[:4])
    with pytest.raises(InvalidInputError, match="one tensor-parallel degree"):
        derive([*ROWS, recorded(512, 1, size=8)])
