from dataclasses import replace

import pytest

from dynawatt.perfmodel.architectures import ARCHITECTURES
from dynawatt.perfmodel.derivation.closed_loop import ClosedLoopRow
from dynawatt.perfmodel.power_rows import TwoPhaseRow, closed_loop_power, two_phase_power

ROW = ClosedLoopRow(
    model="meta-llama/Llama-3.1-8B-Instruct", gpu="h100-sxm", tensor_parallel=1, precision="bf16", task="lm-arena-chat",
    max_requests=64, requests=64.0, output_tokens=400.0, step_s=0.0125, power_w=610.0,
)  # fmt: skip
PHASES = TwoPhaseRow(
    model="llama2-70b", gpu="a100-sxm", tensor_parallel=4, requests=1, prompt_tokens=1024, prompt_s=0.23,
    prompt_power_w=400.0, token_s=0.045, token_power_w=236.0,
)  # fmt: skip


def only(sets):
    [rows] = sets
    return rows


def test_work_of_a_dense_model_on_one_gpu():
    rows = only(closed_loop_power([ROW]))
    assert (rows.name, len(rows.points)) == ("ml-energy-dense h100-sxm bf16", 1)
    model = ARCHITECTURES["llama-3.1-8b"]
    table = model.vocabulary * model.hidden
    assert rows.points.power_w == pytest.approx([610])
    assert rows.points.bytes_per_s == pytest.approx([2 * (model.parameters - table) / 0.0125])
    context = 64 * (410 + 0.75 * 400)
    assert rows.points.context_bytes_per_s == pytest.approx([context * model.kv_bytes_per_token / 0.0125])
    assert rows.points.link_bytes_per_s == pytest.approx([0])
    assert rows.points.logits_per_s == pytest.approx([64 * 128256 / 0.0125])
    # Each request generates one token, and 1/400 of them start with a prompt of 410 tokens.
    weights_flops = 2 * (model.parameters - 2 * table) * 64 * (1 + 410 / 400)
    assert rows.points.flops_per_s * 0.0125 == pytest.approx([weights_flops], rel=0.1)
    assert rows.points.flops_per_s[0] * 0.0125 > weights_flops


def test_tensor_parallelism_shares_the_work_and_adds_communication():
    one, four = (only(closed_loop_power([replace(ROW, tensor_parallel=size)])).points for size in (1, 4))
    assert four.bytes_per_s == pytest.approx(one.bytes_per_s / 4)
    assert four.context_bytes_per_s == pytest.approx(one.context_bytes_per_s / 4)
    assert four.flops_per_s == pytest.approx(one.flops_per_s / 4)
    assert four.logits_per_s == pytest.approx(one.logits_per_s)  # every GPU samples
    tokens = 64 * (1 + 410 / 400)
    sent = 2 * 32 * (2 * 3 / 4) * tokens * 4096 * 2  # two all-reduces per layer of 16-bit activations
    assert four.link_bytes_per_s == pytest.approx([sent / 0.0125])


def test_kv_heads_are_replicated_beyond_their_number():
    eight, sixteen = (only(closed_loop_power([replace(ROW, tensor_parallel=size)])).points for size in (8, 16))
    assert sixteen.context_bytes_per_s == pytest.approx(eight.context_bytes_per_s)


def test_fp8_halves_the_bytes_of_weights_only():
    large = replace(ROW, model="meta-llama/Llama-3.1-405B-Instruct-FP8", tensor_parallel=8)
    bf16, fp8 = (only(closed_loop_power([replace(large, precision=each)])).points for each in ("bf16", "fp8"))
    assert fp8.bytes_per_s == pytest.approx(bf16.bytes_per_s / 2)
    assert fp8.context_bytes_per_s == pytest.approx(bf16.context_bytes_per_s)


def test_more_tokens_read_more_experts_but_never_more_than_all():
    moe = replace(ROW, model="openai/gpt-oss-120b", precision="mxfp4", task="gpqa")
    model = ARCHITECTURES["gpt-oss-120b"]
    experts = 3 * 2880 * 2880 * 128 * 36
    read = {}
    for requests in (1.0, 8.0, 4096.0):
        points = only(closed_loop_power([replace(moe, requests=requests)])).points
        read[requests] = points.bytes_per_s[0] * 0.0125 - 2 * (model.parameters - experts - 201088 * 2880)
    # Four experts, and in one of 400 iterations, which starts with a prompt, nearly all.
    assert read[1.0] == pytest.approx(experts * 17 / 32 * (4 / 128 + 1 / 400), rel=0.02)
    assert read[1.0] < read[8.0] < read[4096.0]
    assert read[4096.0] == pytest.approx(experts * 17 / 32, rel=1e-3)


def test_rows_that_the_model_of_work_does_not_cover_are_left_out():
    unknown = replace(ROW, model="nvidia/NVIDIA-Nemotron-Nano-9B-v2")
    other_task = replace(ROW, task="sourcegraph-fim")
    assert closed_loop_power([unknown, other_task]) == []


def test_some_rows_and_whole_models_are_held_out():
    rows = [replace(ROW, max_requests=size) for size in range(1, 301)]
    held_out = only(closed_loop_power(rows)).held_out
    assert 70 < sum(held_out) < 130
    assert held_out == only(closed_loop_power(rows)).held_out
    whole = [replace(row, model="Qwen/Qwen3-14B") for row in rows]
    assert all(only(closed_loop_power(whole)).held_out)


def test_parts_are_complementary():
    rows = only(closed_loop_power([replace(ROW, max_requests=size, power_w=float(size)) for size in range(1, 61)]))
    parts = [set(rows.part(held_out=held_out).power_w) for held_out in (True, False)]
    assert parts[0] | parts[1] == set(range(1, 61))
    assert not parts[0] & parts[1]


def test_both_phases_of_a_single_request():
    points = only(two_phase_power([PHASES])).points
    assert list(points.power_w) == [236, 400]
    assert points.bytes_per_s[0] * 0.045 == pytest.approx(points.bytes_per_s[1] * 0.23)
    assert points.context_bytes_per_s[1] == points.logits_per_s[1] == 0
    assert points.flops_per_s[1] / points.flops_per_s[0] == pytest.approx(1024 * 0.045 / 0.23, rel=0.1)


def test_the_peak_of_several_prompts_and_the_mean_over_long_ones_are_left_out():
    assert list(only(two_phase_power([replace(PHASES, requests=8)])).points.power_w) == [236]
    assert two_phase_power([replace(PHASES, prompt_tokens=4096)]) == []
