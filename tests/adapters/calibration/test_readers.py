from pathlib import Path

import pytest

from dynawatt.adapters.calibration.ml_energy import read_ml_energy
from dynawatt.adapters.calibration.splitwise import read_splitwise
from dynawatt.errors import InvalidInputError

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
ML_ENERGY = {
    "task": "lm-arena-chat",
    "avg_batch_size": "64",
    "avg_output_len": "350",
    "avg_power_watts": "1800",
    "data_parallel": "1",
    "expert_parallel": "1",
    "gpu_model": "H100",
    "max_num_seqs": "64",
    "model_id": "meta-llama/Llama-3.1-70B-Instruct",
    "num_gpus": "4",
    "output_throughput_tokens_per_sec": "3200",
    "tensor_parallel": "4",
    "weight_precision": "bfloat16",
}
SPLITWISE = {
    "model": "llama2-70b",
    "hardware": "h100-80gb",
    "prompt_size": "512",
    "batch_size": "8",
    "token_size": "128",
    "prompt_time": "606.0",
    "token_time": "40.4",
    "tensor_parallel": "2",
}


def csv_file(tmp_path, *rows):
    path = tmp_path / "rows.csv"
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_ml_energy_rows_become_iterations_and_watts_per_gpu(tmp_path):
    (row,) = read_ml_energy(csv_file(tmp_path, ML_ENERGY))
    assert row.step_s == pytest.approx(64 / 3200)
    assert row.power_w == 450
    assert (row.gpu, row.precision, row.tensor_parallel, row.max_requests) == ("h100-sxm", "bf16", 4, 64)


def test_another_file_is_not_taken_for_one_without_rows(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InvalidInputError, match=r"other\.csv: has no column gpu_model"):
        read_ml_energy(path)


@pytest.mark.parametrize(
    "other",
    [{"task": "image-chat"}, {"gpu_model": "V100"}, {"data_parallel": "2"}, {"expert_parallel": "8"},
     {"weight_precision": "int4"}],
)  # fmt: skip
def test_ml_energy_rows_of_other_kinds_are_left_out(tmp_path, other):
    assert read_ml_energy(csv_file(tmp_path, {**ML_ENERGY, **other})) == []


@pytest.mark.parametrize("wrong", ["", "nan", "-1", "0", "many"])
def test_ml_energy_names_the_line_and_field_of_a_bad_number(tmp_path, wrong):
    path = csv_file(tmp_path, ML_ENERGY, {**ML_ENERGY, "avg_output_len": wrong})
    with pytest.raises(InvalidInputError, match=rf"rows.csv:3: avg_output_len '{wrong}': must be a positive number"):
        read_ml_energy(path)


def test_splitwise_rows_are_in_seconds(tmp_path):
    (row,) = read_splitwise(csv_file(tmp_path, SPLITWISE, {**SPLITWISE, "hardware": "h100-80gb-pcap"}))
    assert (row.prompt_s, row.token_s) == (pytest.approx(0.606), pytest.approx(0.0404))
    assert (row.tensor_parallel, row.prompt_tokens, row.requests, row.output_tokens) == (2, 512, 8, 128)


def test_splitwise_without_rows_of_the_gpu_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="has no rows of llama2-70b on a100-sxm"):
        read_splitwise(csv_file(tmp_path, SPLITWISE), "a100-sxm")


def test_splitwise_names_the_line_and_field_of_a_bad_number(tmp_path):
    with pytest.raises(InvalidInputError, match=r"rows\.csv:2: token_time 'x': must be a positive number"):
        read_splitwise(csv_file(tmp_path, {**SPLITWISE, "token_time": "x"}))


@pytest.mark.parametrize("read", [read_ml_energy, read_splitwise])
def test_files_that_cannot_be_read_are_refused(tmp_path, read):
    with pytest.raises(InvalidInputError, match=r"absent\.csv: No such file"):
        read(tmp_path / "absent.csv")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00model")
    with pytest.raises(InvalidInputError, match="not a CSV file"):
        read(binary)


@pytest.mark.skipif(not DATA.exists(), reason="needs the shared data")
def test_reads_the_published_files():
    rows = read_ml_energy(DATA / "ml-energy" / "ml_energy_flat.csv")
    large = [row for row in rows if row.model == "meta-llama/Llama-3.1-70B-Instruct" and row.gpu == "h100-sxm"]
    assert {row.tensor_parallel for row in large} == {4}
    assert all(437 <= row.power_w <= 700 for row in large)
    assert len({row.tensor_parallel for row in read_splitwise(DATA / "splitwise-sim" / "perf_model.csv")}) == 3
