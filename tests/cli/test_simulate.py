import json
import re

import numpy as np
import pytest

from dynawatt.adapters.profile_files import find_replica
from dynawatt.cli.simulate.options import DEFAULT_SLO, parse_slo
from dynawatt.errors import InvalidInputError, OperationError
from dynawatt.workload.classes import CLASS_NAMES

from .simulating import coarse, simulate, simulate_json  # noqa: F401 (a fixture)

KEYS = ["requests", "hours", "wall_s", "policies"]
POLICY_KEYS = [
    "name", "energy_off_j", "energy_idling_j", "saving_vs_single_pool", "attainment", "p50_ttft_s", "p99_ttft_s",
    "p50_tbt_s", "p99_tbt_s", "j_per_token", "gpu_hours", "reconfigurations", "unfinished_requests",
]  # fmt: skip
FLEET = ("--replicas", 2, "--max-num-batched-tokens", 2048)


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    path = tmp_path_factory.mktemp("traces") / "trace.csv"
    rng = np.random.default_rng(5)
    rows = zip(
        np.sort(rng.uniform(0, 300, 1500)), rng.integers(20, 3000, 1500), rng.integers(2, 300, 1500), strict=True
    )
    lines = [f"{time:.3f},{inputs},{outputs}" for time, inputs, outputs in rows]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def both(trace):
    return simulate_json("--trace", trace, "--policy", "vllm-default", *FLEET)


def test_json_begins_with_the_promised_keys_in_order(both):
    assert list(both)[:4] == KEYS
    for policy in both["policies"]:
        assert list(policy)[:13] == POLICY_KEYS
        assert list(policy["attainment"]) == ["ttft", "tbt", "ttft_all", "tbt_all"]
        assert list(policy["attainment"]["ttft"]) == list(CLASS_NAMES)


def test_the_tuned_static_fleet_is_always_simulated_first(both):
    assert [policy["name"] for policy in both["policies"]] == ["single-pool", "vllm-default"]
    single, default = both["policies"]
    assert single["saving_vs_single_pool"] == 0.0
    assert default["saving_vs_single_pool"] == pytest.approx(1 - default["energy_idling_j"] / single["energy_idling_j"])


def test_both_policies_get_all_requests_and_the_same_inventory(both):
    assert both["requests"] == 1500
    assert both["hours"] == pytest.approx(300 / 3600, rel=0.01)
    assert [policy["servers"] for policy in both["policies"]] == [2, 2]
    assert [policy["shapes"][0]["max_num_batched_tokens"] for policy in both["policies"]] == [2048, 8192]
    assert all(policy["unfinished_requests"] == 0 for policy in both["policies"])


def test_classes_with_few_samples_have_no_attainment(both):
    attainment = both["policies"][0]["attainment"]
    assert attainment["ttft"]["SS"] is None
    assert 0 < attainment["tbt"]["LM"] <= 1
    low, high = both["policies"][0]["attainment_interval"]["tbt"]["LM"]
    assert low <= attainment["tbt"]["LM"] <= high


def test_more_inventory_costs_idling_energy_only(trace):
    def energies(servers):
        policy = simulate_json("--trace", trace, "--servers", servers, *FLEET)["policies"][0]
        return policy["energy_off_j"], policy["energy_idling_j"], policy["duration_s"]

    (off_2, idling_2, _), (off_3, idling_3, duration_s) = energies(2), energies(3)
    assert off_2 == off_3
    assert idling_3 - idling_2 == pytest.approx(8 * 70.0 * duration_s)


def test_the_same_seed_gives_the_same_result():
    def figures(seed):
        found = simulate_json("--workload", "azure-2023-conv", "--hours", 0.1, "--seed", seed, *FLEET)
        return found["requests"], [{**policy, "wall_s": 0} for policy in found["policies"]]

    assert figures(3) == figures(3)
    assert figures(3) != figures(4)


def test_requests_beyond_the_context_are_counted(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n0,200000,3\n1,131000,500\n2,100,10\n")
    found = simulate_json("--trace", path, *FLEET)
    assert found["requests"] == 2
    assert found["dropped_requests"] == 1
    assert found["clipped_requests"] == 1


def test_the_table_shows_policies_conventions_and_intervals(trace):
    text = simulate("--trace", trace, *FLEET).stdout
    assert re.search(r"single-pool +2 x TP8, chunk 2048", text)
    assert "released GPUs idling" in " ".join(text.split())
    assert re.search(r"\d+\.\d\d-\d+\.\d\d", text)


def test_a_saving_under_a_missed_slo_does_not_count(trace):
    text = simulate("--trace", trace, "--policy", "vllm-default", "--slo", "tbt=30", *FLEET).stdout
    assert re.search(r"vllm-default .* \([+-]\d+\.\d%\)", text)
    assert "Savings in parentheses do not count" in text


def test_json_goes_to_a_file(trace, tmp_path):
    simulate("--trace", trace, *FLEET, "--json", tmp_path / "result.json")
    assert json.loads((tmp_path / "result.json").read_text())["requests"] == 1500


def test_the_report_is_one_file_without_links(trace, tmp_path):
    path = tmp_path / "report.html"
    simulate("--trace", trace, "--policy", "single-pool,vllm-default", *FLEET, "--report", path)
    text = path.read_text()
    own = text[: text.index("<script>")] + text[text.index("</script>") :]
    assert not re.search(r"(src|href)=", own)
    assert "Plotly.newPlot" in own
    for words in ("single-pool", "vllm-default", "Time to first token", "Mean SM clock", "Energy per generated token"):
        assert words in own


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "either --trace FILE or --workload NAME"),
        (("--workload", "azure-2024-con"), "azure-2024-conv"),
        (("--workload", "azure-2023-conv", "--policy", "singel-pool"), "nearest single-pool"),
        (("--workload", "azure-2023-conv", "--gpu", "h100-smx"), "nearest h100-sxm"),
        (("--workload", "azure-2023-conv", "--model", "lama-3.1-70b"), "nearest llama-3.1-70b"),
        (("--workload", "azure-2023-conv", "--tensor-parallel", 1), "does not fit"),
        (("--workload", "azure-2023-conv", "--hours", "nan"), "nan hours"),
        (("--workload", "azure-2023-conv", "--hours", 5), "at most"),
        (("--workload", "azure-2023-conv", "--rate-scale", "nan"), "rate scale nan"),
        (("--workload", "azure-2023-conv", "--burstiness", "nan"), "burstiness nan"),
        (("--workload", "azure-2023-conv", "--max-num-batched-tokens", 10**6), "--max-num-batched-tokens"),
        (("--workload", "azure-2023-conv", "--json", "/nowhere/at/all.json"), "cannot be written"),
        (("--workload", "azure-2023-conv", "--report", "/nowhere/at/all.html"), "cannot be written"),
        (("--workload", "azure-2023-conv", "--report", "-"), "--report -"),
        (("--workload", "azure-2023-conv", "--report", "one.html", "--json", "one.html"), "is what --json names"),
        (("--workload", "azure-2023-conv", "--json", f"{__file__}/x.json"), "cannot be written"),
        (("--trace", __file__, "--json", __file__), "is what --trace names"),
        (("--trace", "/nowhere.csv"), "/nowhere.csv"),
        (("--trace", "x.csv", "--burstiness", 2), "--burstiness 2"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, message):
    with pytest.raises(InvalidInputError) as raised:
        simulate(*arguments, *(() if "--max-num-batched-tokens" in arguments else FLEET))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_default_slo_is_dynamollms():
    slo = parse_slo(DEFAULT_SLO)
    assert slo.percentile == 99
    assert slo.objectives.ttft == ((256, 0.25), (1024, 0.4), (None, 2.0))
    assert slo.objectives.tbt_s == 0.1


@pytest.mark.parametrize(
    ("text", "percentile", "ttft", "tbt_s"),
    [
        ("p95", 95, ((256, 0.25), (1024, 0.4), (None, 2.0)), 0.1),
        ("ttft=500", 99, ((None, 0.5),), 0.1),
        ("tbt=50,ttft=100:200,900", 99, ((100, 0.2), (None, 0.9)), 0.05),
        ("p99.9, ttft=100:200, 900, tbt=50", 99.9, ((100, 0.2), (None, 0.9)), 0.05),
    ],
)
def test_parts_of_an_slo_that_are_left_out_are_the_defaults(text, percentile, ttft, tbt_s):
    slo = parse_slo(text)
    assert (slo.percentile, slo.objectives.ttft, slo.objectives.tbt_s) == (percentile, ttft, tbt_s)


@pytest.mark.parametrize(
    "text",
    ["", "p", "p100", "p10", "pnan", "x=3", "ttft=", "ttft=256:250", "ttft=a:3,4", "ttft=3:250,2:300,400",
     "ttft=99999999999999999999:1,2", "ttft=-1", "tbt=0", "tbt=nan", "tbt=1,2", "p99,p95", "tbt=5,tbt=6", "2000"],
)  # fmt: skip
def test_an_slo_that_makes_no_sense_is_refused(text):
    with pytest.raises(InvalidInputError, match=r"--slo") as raised:
        parse_slo(text)
    assert str(raised.value).count("--slo") == 1
    assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def rush(tmp_path_factory):
    """Half of all requests within 20 of 300 seconds: far from a renewal process."""
    path = tmp_path_factory.mktemp("traces") / "rush.csv"
    rng = np.random.default_rng(6)
    times_s = np.sort(np.concatenate([rng.uniform(0, 300, 600), rng.uniform(100, 120, 600)]))
    lines = [f"{time_s:.3f},{tokens},100" for time_s, tokens in zip(times_s, rng.integers(20, 2000, 1200), strict=True)]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines]) + "\n")
    return path


def test_a_fleet_is_sized_for_the_bursts_of_its_trace_and_no_larger(rush):
    policy = simulate_json("--trace", rush, *FLEET[2:])["policies"][0]
    replicas = policy["shapes"][0]["replicas_at_start"]
    assert policy["slo_met"]
    assert replicas > 1
    fewer = simulate_json("--trace", rush, "--replicas", replicas - 1, *FLEET[2:])["policies"][0]
    assert not fewer["slo_met"]


@pytest.mark.parametrize("mode", ["superpose", "compress"])
def test_a_load_is_scaled_to_what_the_wanted_servers_just_carry(rush, mode):
    chunk = ("--max-num-batched-tokens", 2048, "--scale-mode", mode)
    found = simulate_json("--trace", rush, "--peak-servers", 2, *chunk)
    policy, scale = found["policies"][0], found["config"]["rate_scale"]
    assert (policy["servers"], policy["shapes"][0]["replicas_at_start"]) == (2, 2)
    assert policy["slo_met"]
    more = simulate_json("--trace", rush, "--rate-scale", 1.2 * scale, "--replicas", 2, *chunk)
    assert not more["policies"][0]["slo_met"]


def test_smaller_replicas_share_servers(trace):
    found = simulate_json("--trace", trace, "--tensor-parallel", 4, "--replicas", 3, *FLEET[2:])
    assert found["policies"][0]["servers"] == 2


def test_peak_servers_and_replicas_exclude_each_other(trace):
    with pytest.raises(InvalidInputError, match="give one of them"):
        simulate("--trace", trace, "--peak-servers", 2, *FLEET)


def test_an_inventory_must_hold_the_tuned_fleet(trace):
    with pytest.raises(InvalidInputError, match="--servers 1: the tuned static fleet needs 2"):
        simulate("--trace", trace, "--servers", 1, *FLEET)


def trace_file(path, *rows):
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]) + "\n")
    return path


@pytest.mark.parametrize("rows", [["7,100,5"], ["7,100,5"] * 20])
def test_a_trace_without_length_has_finite_figures(tmp_path, rows, recwarn):
    report = tmp_path / "report.html"
    found = simulate_json("--trace", trace_file(tmp_path / "one.csv", *rows), *FLEET, "--report", report)
    assert (found["requests"], found["hours"]) == (len(rows), 0)
    assert found["policies"][0]["duration_s"] >= 1
    assert "Infinity" not in report.read_text()
    assert not [str(each.message) for each in recwarn if each.category is RuntimeWarning]


def test_a_load_scaled_down_to_nothing_is_refused(tmp_path):
    path = trace_file(tmp_path / "few.csv", "0,100,5", "9,100,5")
    with pytest.raises(InvalidInputError, match=r"no request of few\.csv is left at rate scale 1e-06"):
        simulate("--trace", path, "--rate-scale", 1e-6, *FLEET[2:])


def test_times_in_nanoseconds_are_refused(tmp_path):
    path = trace_file(tmp_path / "ns.csv", "1700157423979960000,100,5", "1700157424031960000,100,5")
    assert simulate_json("--trace", path, "--fidelity", "events", *FLEET)["requests"] == 2  # 52 ms, taken for 600 days
    path = trace_file(tmp_path / "ns.csv", "1700157423979960000,100,5", "1700161024031960000,100,5")
    with pytest.raises(InvalidInputError, match="at most ten years"):
        simulate("--trace", path, *FLEET)


def test_more_servers_than_the_load_can_be_scaled_to_are_refused(tmp_path):
    path = trace_file(tmp_path / "few.csv", "0,100,5", "30,100,5", "300,100,5")
    with pytest.raises(InvalidInputError, match=r"--peak-servers: 10 replicas .* give fewer servers"):
        simulate("--trace", path, "--peak-servers", 10, *FLEET[2:])


@pytest.mark.parametrize("option", ["--json", "--report"])
def test_a_full_disk_is_an_error_in_one_line(trace, option):
    with pytest.raises(OperationError, match=rf"{option} /dev/full: No space left on device"):
        simulate("--trace", trace, *FLEET, option, "/dev/full")


def test_the_paper_s_engine_runs_as_many_requests_as_its_profile_covers(trace):
    found = simulate_json("--trace", trace, "--model", "llama-2-70b-h100-2023", *FLEET)
    replica = find_replica("llama-2-70b-h100-2023", "h100-sxm", 8)
    assert found["policies"][0]["shapes"][0]["max_num_seqs"] == replica.max_decode_requests < 1024


def test_requests_that_are_never_served_count_in_the_percentiles(trace):
    overload = ("--trace", trace, "--rate-scale", 100, "--scale-mode", "superpose", "--replicas", 1, *FLEET[2:])
    policy = simulate_json(*overload)["policies"][0]
    assert policy["unfinished_requests"] > 0.5 * 150_000
    assert policy["p50_ttft_s"] is policy["p99_ttft_s"] is None
    assert policy["p99_tbt_s"] > 0
    assert re.search(r"single-pool .* never ", simulate(*overload).stdout)


def test_a_narrow_terminal_cuts_no_figure_off(trace, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
    monkeypatch.setenv("COLUMNS", "60")
    text = simulate("--trace", trace, *FLEET).stdout
    assert "single-pool" in text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
