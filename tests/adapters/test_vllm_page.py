from math import inf, nan
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.adapters.vllm_page import pod_reading
from dynawatt.governing.reading import PodReading

REAL = Path(__file__).parents[3] / "shared" / "vllm" / "metrics-0.32.0.txt"
BOUNDS = ("0.05", "0.1", "0.25", "0.5", "+Inf")


def histogram(family, counts, labels='engine="0",model_name="m"'):
    lines = [f'{family}_bucket{{{labels},le="{le}"}} {count}' for le, count in zip(BOUNDS, counts, strict=True)]
    return [*lines, f"{family}_count{{{labels}}} {counts[-1]}", f"{family}_sum{{{labels}}} 12.5"]


def lines(labels='engine="0",model_name="m"', *, late=2):
    return [
        "# HELP vllm:num_requests_running Number of requests in model execution batches.",
        f"vllm:num_requests_running{{{labels}}} 3.0",
        f"vllm:num_requests_waiting{{{labels}}} 4.0",
        f'vllm:num_requests_waiting_by_reason{{{labels},reason="capacity"}} 4.0',
        f"vllm:kv_cache_usage_perc{{{labels}}} 0.25",
        f'vllm:request_success_total{{{labels},finished_reason="stop"}} 5.0',
        f'vllm:request_success_total{{{labels},finished_reason="length"}} 6.0',
        f'vllm:request_success_created{{{labels},finished_reason="length"}} 1.7e9',
        f"vllm:prompt_tokens_total{{{labels}}} 1.5e+03",
        f'vllm:prompt_tokens_by_source_total{{{labels},source="local_compute"}} 1500',
        f"vllm:generation_tokens_total{{{labels}}} 700",
        *histogram("vllm:time_to_first_token_seconds", (1, 4, 9, 10, 11), labels),
        *histogram("vllm:inter_token_latency_seconds", (90, 100 - late, 99, 100, 100), labels),
    ]


def page(*parts):
    return "".join(f"{line}\n" for part in parts for line in part).encode()


READING = PodReading(3.0, 4.0, 0.25, 11.0, 11.0, 9.0, 100.0, 98.0, 1500.0, 700.0)


def read(text, tbt_s=0.1, ttft_s=0.25):
    return pod_reading(text, tbt_s=tbt_s, ttft_s=ttft_s)


def test_all_that_a_governor_needs():
    assert read(page(lines())) == READING


@pytest.mark.skipif(not REAL.exists(), reason="shared data is absent")
def test_a_page_of_the_real_vllm():
    reading = pod_reading(REAL.read_bytes(), tbt_s=0.025, ttft_s=0.04)
    assert reading == PodReading(0.0, 0.0, 0.0, 8.0, 8.0, 6.0, 352.0, 351.0, 56.0, 360.0)


def test_engines_are_summed_but_not_the_fraction_of_their_caches():
    other = [line.replace("kv_cache_usage_perc{", "kv_cache_usage_perc{ ") for line in lines('engine="1"', late=5)]
    reading = read(page(lines(), [line.replace("} 0.25", "} 0.75") for line in other]))
    doubled = [2 * value for value in READING]
    assert reading == PodReading(*doubled)._replace(kv_usage=0.75, gaps_met=98.0 + 95.0)


@pytest.mark.parametrize(
    ("tbt_s", "met"), [(0.1, 98.0), (0.06, 98.0), (0.05, 90.0), (0.01, 90.0), (0.101, 99.0), (9.0, 100.0)]
)
def test_what_counts_as_late_is_what_surely_is(tbt_s, met):
    assert read(page(lines()), tbt_s=tbt_s).gaps_met == met


def test_first_tokens_that_are_not_judged_are_all_in_time():
    reading = read(page(lines()), ttft_s=None)
    assert reading.first_tokens_met == reading.first_tokens == 11.0


def test_gaps_that_are_not_judged_are_all_in_time():
    assert read(page(lines()), tbt_s=None) == READING._replace(gaps_met=100.0)


def test_without_objectives_no_bucket_is_needed():
    bare = page([line for line in lines() if "_bucket" not in line])
    assert read(bare, tbt_s=None, ttft_s=None) == READING._replace(first_tokens_met=11.0, gaps_met=100.0)
    assert (read(bare).gaps_met, read(bare).first_tokens_met) == (None, None)


def test_without_a_count_nothing_is_in_time():
    without = page([line for line in lines() if not line.startswith("vllm:inter_token_latency_seconds_count")])
    assert read(without, tbt_s=None) == READING._replace(gaps=None, gaps_met=None)


FIELDS = {
    "vllm:num_requests_running": {"running"},
    "vllm:num_requests_waiting{": {"waiting"},
    "vllm:kv_cache_usage_perc": {"kv_usage"},
    "vllm:request_success_total": {"finished"},
    "vllm:prompt_tokens_total": {"prompt_tokens"},
    "vllm:generation_tokens_total": {"generation_tokens"},
    "vllm:time_to_first_token_seconds_count": {"first_tokens", "first_tokens_met"},
    "vllm:time_to_first_token_seconds_bucket": {"first_tokens_met"},
    "vllm:inter_token_latency_seconds_count": {"gaps", "gaps_met"},
    "vllm:inter_token_latency_seconds_bucket": {"gaps_met"},
}


@pytest.mark.parametrize(("family", "fields"), FIELDS.items())
def test_a_family_that_is_missing_is_none_and_nothing_else_changes(family, fields):
    reading = read(page([line for line in lines() if not line.startswith(family)]))
    assert reading == READING._replace(**dict.fromkeys(fields))


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "many", "1,5", "0x10"])
@pytest.mark.parametrize("family", ["vllm:kv_cache_usage_perc", "vllm:request_success_total"])
def test_what_is_no_finite_number_is_none(family, value):
    broken = [f"{line.rsplit(' ', 1)[0]} {value}" if line.startswith(family) else line for line in lines()]
    assert read(page(broken)) == READING._replace(**dict.fromkeys(FIELDS[family]))


def test_a_bucket_that_one_engine_lacks_is_none():
    fewer = [line for line in lines('engine="1"') if not ("inter_token" in line and 'le="0.1"' in line)]
    assert read(page(lines(), fewer)).gaps_met is None


def test_names_of_older_releases():
    old = page(lines()).replace(b"inter_token_latency", b"time_per_output_token").replace(b"kv_cache", b"gpu_cache")
    assert read(old) == READING
    both = old + page(lines(late=50))
    assert (read(both).gaps_met, read(both).kv_usage) == (50.0, 0.25)


@pytest.mark.parametrize(
    "labels",
    ["", 'model_name="a}b",engine="0"', r'model_name="say \"hi\" {",engine="0"', 'model_name="x le=\\"0.1\\""'],
)
def test_labels_of_any_text(labels):
    plain = page(lines(labels or 'engine="0"')).replace(b'{engine="0"}' if not labels else b"\0", b"")
    assert read(plain) == READING


def test_a_line_that_is_cut_off_does_not_count():
    text = page(lines())
    whole = text[: text.index(b"vllm:prompt_tokens_total")] + b'vllm:prompt_tokens_total{engine="0"} 15'
    assert read(whole).prompt_tokens is None
    assert read(whole + b"00\n").prompt_tokens == 1500.0


def test_timestamps_and_blanks_are_skipped():
    text = page(lines()).replace(b"} 3.0\n", b"}\t 3.0 1700000000000\n")
    assert read(text) == READING


@given(st.binary(max_size=300) | st.text(alphabet='vllm:num_requests_running{le="}\n\\ 1.0', max_size=300))
def test_any_text_is_read_without_an_error(text):
    noise = text if isinstance(text, bytes) else text.encode()
    assert all(value is None or value not in (inf, nan) for value in read(noise))
    assert read(page(lines()) + noise).kv_usage is not None or b"vllm:kv" in noise
