import numpy as np
import pytest

from dynawatt.adapters import trace_files
from dynawatt.adapters.trace_files import read_blocks, read_trace, write_trace
from dynawatt.adapters.trace_workload import StreamedWorkload, read_workload
from dynawatt.errors import InvalidInputError
from dynawatt.workload.recorded import RecordedWorkload
from dynawatt.workload.synthetic import rising_and_falling
from dynawatt.workload.trace import ScaleMode, joined

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


@pytest.fixture
def path(tmp_path):
    write_trace(tmp_path / "load.csv", rising_and_falling(4000, 1, 3, seed=1))
    return tmp_path / "load.csv"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(trace_files, "_BLOCK_LINES", 100)


def columns(trace):
    return [column.tolist() for column in (trace.arrival_s, trace.input_tokens, trace.output_tokens)]


def test_held_and_streamed_are_the_same_load(path):
    held, streamed = read_workload(path), read_workload(path, max_held=500)
    assert (type(held), type(streamed)) == (RecordedWorkload, StreamedWorkload)
    assert held.name == streamed.name == "load.csv"
    assert held.statistics.peak_rps == streamed.peak_rps > held.mean_rps == streamed.mean_rps
    assert held.interarrival_cv == streamed.interarrival_cv
    assert held.mix(20, 1).input_tokens.tolist() == streamed.mix(20, 1).input_tokens.tolist()
    for options in ({}, {"hours": 0.5}, {"rate_scale": 3.0, "scale_mode": ScaleMode.COMPRESS}):
        assert columns(joined(list(held.chunks(**options)))) == columns(joined(list(streamed.chunks(**options))))


def test_blocks_make_up_the_trace(path):
    blocks = list(read_blocks(path))
    assert len(blocks) > 70
    assert columns(joined(blocks)) == columns(read_trace(path))


def test_a_long_trace_can_be_thinned_but_not_multiplied(path):
    streamed = read_workload(path, max_held=500)
    thinned = joined(list(streamed.chunks(rate_scale=0.25, seed=1)))
    assert len(thinned) == pytest.approx(streamed.statistics.requests / 4, rel=0.1)
    assert set(thinned.arrival_s.tolist()) <= set(read_trace(path).arrival_s.tolist())
    with pytest.raises(InvalidInputError, match=r"rate scale 2 of load\.csv .* choose scale mode compress"):
        streamed.chunks(rate_scale=2.0)


def lines(count, **changed):
    rows = [f"{number},5,5" for number in range(count)]
    for line, text in changed.items():
        rows[int(line.removeprefix("line_")) - 2] = text
    return HEADER + "\n".join(rows) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (lines(350, line_302="300,5,-5"), "line 302: GeneratedTokens is '-5'"),
        (lines(350, line_102="98,5,5"), "line 102: TIMESTAMP 98 is before 99 of the line above"),
        (
            lines(350, line_202="2023-11-16 18:15:46,5,5"),
            "line 202: TIMESTAMP is '2023-11-16 18:15:46'; must",
        ),
        (lines(350, line_202="200,5"), "line 202: has 2 values"),
        (lines(350, line_351="nan,5,5"), "line 351: TIMESTAMP is 'nan'"),
    ],
)
def test_faults_in_a_later_block_are_named_by_line(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        read_workload(tmp_path / "t.csv")


def test_dates_of_all_blocks_count_from_the_first(tmp_path):
    start = np.datetime64("2024-05-10T23:59:00", "ns")
    rows = [f"{start + np.timedelta64(1_500_000_001 * n, 'ns')}{'Z' if n % 2 else '+00:00'},5,5" for n in range(250)]
    (tmp_path / "t.csv").write_text(HEADER + "\n\n".join(rows) + "\n")
    assert read_trace(tmp_path / "t.csv").arrival_s == pytest.approx(1.500000001 * np.arange(250), abs=1e-12)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text(HEADER)
    with pytest.raises(InvalidInputError, match="holds no request"):
        read_workload(tmp_path / "t.csv")
