import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from dynawatt.adapters.trace_files import read_trace, write_trace
from dynawatt.errors import InvalidInputError
from dynawatt.workload.synthetic import rising_and_falling

AZURE_2023 = Path(__file__).parents[2].parent / "shared" / "data" / "azure-llm-2023"
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def parse(tmp_path, text: str | bytes):
    path = tmp_path / "trace.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_trace(path)


@pytest.mark.parametrize(
    ("text", "arrival_s"),
    [
        (
            "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n",
            [0, 4.314579],
        ),
        (
            "2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 18:15:46.6805901,396,109",
            [0, 1e-7],
        ),
        (
            "2024-05-10 00:00:00.009930+00:00,374,44\n2024-05-11 00:00:00+00:00,396,109\n",
            [0, 86399.99007],
        ),
        ("2024-05-10T23:59:59Z,374,44\n2024-05-11T00:00:00.5Z,396,109\n", [0, 1.5]),
        ("1700000000.25,374,44\n1700000001.5,396,109\n", [0, 1.25]),
        ("0,374,44\n\n2e1,396,109\n\n", [0, 20]),
        ('"0","374","44"\n"3","396","109"\n', [0, 3]),
    ],
)
def test_forms_of_time(tmp_path, text, arrival_s):
    trace = parse(tmp_path, HEADER + text)
    assert trace.arrival_s == pytest.approx(arrival_s, abs=1e-9)
    assert trace.input_tokens.tolist() == [374, 396]
    assert trace.output_tokens.tolist() == [44, 109]


def test_columns_may_stand_anywhere(tmp_path):
    trace = parse(tmp_path, "\ufeffGeneratedTokens,user name, TIMESTAMP ,ContextTokens\n7,a#b,3,9\n8,c,4,10\n")
    assert (trace.arrival_s.tolist(), trace.input_tokens.tolist()) == ([0, 1], [9, 10])
    assert trace.output_tokens.tolist() == [7, 8]


def test_round_trip(tmp_path):
    trace = rising_and_falling(60, 1, 20, seed=1)
    write_trace(tmp_path / "t.csv", trace)
    again = read_trace(tmp_path / "t.csv")
    assert again.arrival_s == pytest.approx(trace.arrival_s - trace.arrival_s[0], abs=2e-7)
    assert np.array_equal(again.input_tokens, trace.input_tokens)
    assert np.array_equal(again.output_tokens, trace.output_tokens)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column TIMESTAMP, ContextTokens, GeneratedTokens; .* found nothing"),
        ("TIMESTAMP,ContextTokens\n0,1\n", "no column GeneratedTokens; .* found TIMESTAMP,ContextTokens"),
        ("0,1,2\n", "found 0,1,2"),
        (HEADER, "holds no request"),
        (HEADER + "0,5,5\n1,-5,5\n", "line 3: ContextTokens is '-5'; must be a whole number from 1 to 1000000"),
        (HEADER + "0,5,5\n1,5,1000001\n", "line 3: GeneratedTokens is '1000001'"),
        (HEADER + "0,0,5\n", "line 2: ContextTokens is '0'"),
        (HEADER + "0,5,0\n", "line 2: GeneratedTokens is '0'"),
        (HEADER + "0,5,5.5\n", "line 2: GeneratedTokens is '5.5'"),
        (HEADER + "0,5,5.0\n", "line 2: GeneratedTokens is '5.0'"),
        (HEADER + "0,5,\n", "line 2: GeneratedTokens is ''"),
        (HEADER + "0,many,5\n", "line 2: ContextTokens is 'many'"),
        (HEADER + "0,99999999999999999999,5\n", "line 2: ContextTokens is '9999"),
        (HEADER + "0,5,5\n\n2,5\n", "line 4: has 2 values"),
        (HEADER + "yesterday,5,5\n", "line 2: TIMESTAMP is 'yesterday'; must be a UTC time like 2023-11-16 18:15:46"),
        (HEADER + "today,5,5\n", "line 2: TIMESTAMP is 'today'"),
        (HEADER + ",5,5\n", "line 2: TIMESTAMP is ''"),
        (HEADER + "nan,5,5\n", "line 2: TIMESTAMP is 'nan'"),
        (HEADER + "0,5,5\ninf,5,5\n", "line 3: TIMESTAMP is 'inf'; must be seconds as in the lines above"),
        (HEADER + "2023-11-16 18:15:46,5,5\n2023-13-16 18:15:46,5,5\n", "line 3: TIMESTAMP is '2023-13-16"),
        (HEADER + "2023-11-16 18:15:46+02:00,5,5\n", r"line 2: TIMESTAMP is '2023-11-16 18:15:46\+02:00'"),
        (HEADER + "2023-11-16 18:15:46,5,5\n12.5,5,5\n", "line 3: TIMESTAMP is '12.5'"),
        (HEADER + "12.5,5,5\n2023-11-16 18:15:46,5,5\n", "line 3: TIMESTAMP is '2023"),
        (HEADER + "5,5,5\n3.5,5,5\n", "line 3: TIMESTAMP 3.5 is before 5 of the line above; sort the lines by time"),
        (
            HEADER + "2023-11-16 18:15:46.0000002,5,5\n2023-11-16 18:15:46.0000001,5,5\n",
            "line 3: TIMESTAMP .* is before",
        ),
        (gzip.compress((HEADER + "0,5,5\n").encode(), mtime=0), "is not a text file .*not compressed"),
        ((HEADER + "0,5,5\n").encode("utf-16"), "is not a text file"),
        (HEADER.encode() + b"0,5,5\n1,5,\xff\n", "is not a text file"),
        (HEADER.encode() + b"0,5,5\n1\x001,5,5\n", "line 3: TIMESTAMP"),
        (HEADER + '0,5,5\n"' + 200_000 * "x", "cannot be read as CSV|line 3"),
    ],
)
def test_refuses(tmp_path, text, message):
    with pytest.raises(InvalidInputError, match=rf"trace {tmp_path}/trace.csv.*{message}"):
        parse(tmp_path, text)


def test_missing_file(tmp_path):
    with pytest.raises(InvalidInputError, match=r"no\.csv: No such file or directory; give a CSV file"):
        read_trace(tmp_path / "no.csv")


def test_directory(tmp_path):
    with pytest.raises(InvalidInputError, match="Is a directory"):
        read_trace(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path):
    (tmp_path / "t.csv").touch(mode=0)
    with pytest.raises(InvalidInputError, match="Permission denied"):
        read_trace(tmp_path / "t.csv")


@pytest.mark.skipif(not AZURE_2023.exists(), reason="the Azure trace is not there")
@pytest.mark.parametrize(
    ("name", "requests", "input_mean", "output_mean", "last"),
    [("conv", 19_366, 1155, 211, (197, 183)), ("code", 8_819, 2048, 28, (549, 173))],
)
def test_azure_trace(name, requests, input_mean, output_mean, last):
    trace = read_trace(AZURE_2023 / f"AzureLLMInferenceTrace_{name}.csv")
    assert len(trace) == requests
    assert trace.span_s == pytest.approx(3500, rel=0.05)
    assert trace.input_tokens.mean() == pytest.approx(input_mean, abs=0.6)
    assert trace.output_tokens.mean() == pytest.approx(output_mean, abs=0.6)
    assert (trace.input_tokens[-1], trace.output_tokens[-1]) == last
