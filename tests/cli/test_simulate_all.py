import json
import re

import pytest

from dynawatt.cli.simulate import ablation, running
from dynawatt.errors import InvalidInputError
from dynawatt.simulation.policies.catalog import BUILDERS, NAMES
from dynawatt.simulation.static_policies import SINGLE_POOL

from ..photographing import photograph
from .simulating import coarse, simulate, simulate_json  # noqa: F401 (a fixture)

LOAD = ("--workload", "azure-2024-conv", "--hours", 1, "--peak-servers", 2, "--fidelity", "slots")
OURS = "dynawatt-deadline"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return tmp_path_factory.mktemp("report") / "report.html"


@pytest.fixture(scope="module")
def everything(report):
    return simulate_json(*LOAD, "--policy", "all", "--price", 0.2, "--report", report)


def by_name(found):
    return {policy["name"]: policy for policy in found["policies"]}


def test_all_policies_come_in_the_order_of_the_catalog(everything):
    found = [policy["name"] for policy in everything["policies"]]
    assert found == [name for name in BUILDERS if name not in everything["not_simulated"]]
    assert found[0] == SINGLE_POOL
    assert set(everything["bounds"]) == {"clairvoyant", "clairvoyant-priority", "clairvoyant-fcfs"}


def test_every_policy_gets_the_same_requests(everything):
    requests = everything["requests"]
    for policy in everything["policies"]:
        # Slots count requests in fractions.
        assert policy["unfinished_requests"] <= requests
        assert policy["energy_off_j"] <= policy["energy_idling_j"]


def test_relative_energy_savings_and_distance_to_the_bound_say_the_same(everything):
    policies = by_name(everything)
    single, bound = policies[SINGLE_POOL]["energy_idling_j"], everything["bounds"]["clairvoyant"]["energy_idling_j"]
    for policy in everything["policies"]:
        assert policy["relative_to_single_pool"] == pytest.approx(policy["energy_idling_j"] / single)
        assert policy["saving_vs_single_pool"] == pytest.approx(1 - policy["relative_to_single_pool"])
        assert policy["above_bound"] == pytest.approx(policy["energy_idling_j"] / bound - 1)
        assert policy["cost"] == pytest.approx(0.2 * policy["kwh"])
    deadline = policies["static-deadline"]
    assert deadline["above_bound_of_own_order"] == deadline["above_bound"]
    own = everything["bounds"]["clairvoyant-fcfs"]["energy_idling_j"]
    assert policies[SINGLE_POOL]["above_bound_of_own_order"] == pytest.approx(single / own - 1)


def test_the_report_has_the_bars_the_bound_and_our_fleet(report, everything):
    text = report.read_text()
    own = text[: text.index("<script>")] + text[text.index("</script>") :]
    assert "clairvoyant, " in own
    assert f"The fleet of {OURS}" in own
    for div in ("energy", "fleet", "charts"):
        assert f'<div id="{div}"></div>' in own
        assert f'Plotly.newPlot("{div}"' in own
    assert "legendonly" in own
    assert "Only some policies are shown at first" in own
    for policy in everything["policies"]:
        assert policy["name"] in own


def test_the_report_shows_in_a_browser(report, everything, tmp_path):
    found = photograph(report, tmp_path / "report.png", height=2000)
    assert found.inked > 0.3
    for title in (f"The fleet of {OURS}", "clairvoyant", "Energy"):
        assert title in found.text
    # Charts are drawn by scripts: bars, and the names beside them.
    assert found.text.count('class="main-svg"') >= 3
    assert len(re.findall(r'<g class="point">', found.text)) >= len(everything["policies"])
    assert re.search(r"<text[^>]*>(<[^>]*>)*dynawatt-deadline", found.text)


def refuse(name, study):
    raise InvalidInputError("inventory holds no replica: give more servers")


def test_a_policy_that_cannot_be_built_does_not_stop_the_others(monkeypatch):
    wanted = {name: BUILDERS[name] for name in (SINGLE_POOL, "vllm-default")}
    monkeypatch.setattr(running, "BUILDERS", {**dict.fromkeys(BUILDERS, refuse), **wanted})
    found = simulate_json(*LOAD, "--policy", "all")
    assert [policy["name"] for policy in found["policies"]] == [SINGLE_POOL, "vllm-default"]
    assert found["not_simulated"]["scale-shard"] == "inventory holds no replica: give more servers"
    assert "scale-shard was not simulated: inventory holds no replica" in simulate(*LOAD, "--policy", "all").stdout
    with pytest.raises(InvalidInputError, match="holds no replica"):
        simulate(*LOAD, "--policy", "scale-shard")


def test_events_up_to_a_day_and_slots_beyond(monkeypatch):
    asked = []
    monkeypatch.setattr(running, "run_all", None)
    monkeypatch.setattr("dynawatt.cli.simulate.session.run_all", lambda *a, **k: asked.append(a[3].fidelity) or 1 / 0)
    for hours, extra in ((1, ()), (25, ()), (1, ("--fidelity", "slots")), (25, ("--fidelity", "events"))):
        with pytest.raises(ZeroDivisionError):
            simulate("--workload", "azure-2024-conv", "--hours", hours, "--rate-scale", 0.05, "--replicas", 1,
                     "--max-num-batched-tokens", 2048, *extra)  # fmt: skip
    assert asked == ["events", "slots", "slots", "events"]


@pytest.mark.parametrize(("cv", "told"), [(1.0, False), (13.0, True)])
def test_slots_of_a_bursty_load_say_what_they_leave_out(cv, told):
    options = ("--workload", "azure-2024-conv", "--burstiness", cv, "--hours", 1, "--rate-scale", 0.05, "--replicas", 1,
               "--max-num-batched-tokens", 2048, "--fidelity", "slots")  # fmt: skip
    assert (f"have a CV of {cv:g}: slots do not see" in " ".join(simulate(*options).stdout.split())) == told


def test_what_was_chosen_is_told():
    options = ("--startup", 60, "--predictor-accuracy", 0.6, "--idle-power", 110, "--cold-start")
    config = simulate_json(*LOAD, *options, "--classes", "percentile")["config"]
    assert config["fidelity"] == "slots"
    assert (config["startup_s"], config["predictor_accuracy"], config["released_gpu_w"]) == (60, 0.6, 110)
    assert config["cold_start"]
    assert config["input_cuts"] != [256, 1024]


def test_idle_power_is_what_released_gpus_draw():
    def energies(watts):
        found = simulate_json(*LOAD, "--servers", 3, "--idle-power", watts)["policies"][0]
        return found["energy_off_j"], found["energy_idling_j"], found["duration_s"]

    (off, idling, _), (off_more, idling_more, duration_s) = energies(0), energies(110)
    assert off == idling == off_more
    assert idling_more - off_more == pytest.approx(110 * 8 * duration_s)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--startup", -1), "start-up time -1"),
        (("--predictor-accuracy", 0.2), "accuracy 0.2"),
        (("--predictor-accuracy", "nan"), "accuracy nan"),
        (("--idle-power", -1), "--idle-power -1"),
        (("--idle-power", "nan"), "--idle-power nan"),
        (("--price", "nan"), "price nan"),
        (("--price", 1, "--carbon", -1), "carbon intensity -1"),
        (("--policy", "al"), "nearest"),
    ],
)
def test_bad_conditions_are_refused_in_one_line(arguments, message):
    with pytest.raises(InvalidInputError) as raised:
        simulate(*LOAD, *arguments)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def ablated(tmp_path_factory):
    report = tmp_path_factory.mktemp("ablated") / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablation, "_SLO_FACTORS", (0.0001, 2.0))
        patch.setattr(ablation, "_PEAK_SERVERS", (1,))
        patch.setattr(ablation, "_STARTUPS_MIN", (8,))
        patch.setattr(ablation, "_IDLE_POWERS_W", (70.0, 110.0))
        return simulate_json(*LOAD, "--ablate", "--report", report), report.read_text()


def test_ablations_are_of_our_policy_beside_single_pool(ablated):
    found, report = ablated
    assert [policy["name"] for policy in found["policies"]] == [SINGLE_POOL, OURS]
    rows = {row["name"]: row for row in found["ablations"]}
    whole = by_name(found)[OURS]
    assert rows["nothing changed"]["relative_to_single_pool"] == pytest.approx(whole["relative_to_single_pool"])
    assert rows["nothing changed"]["j_per_token_relative_to_unablated"] == 1
    assert rows["70 W"]["relative_to_single_pool"] == pytest.approx(whole["relative_to_single_pool"], rel=1e-6)
    assert rows["110 W"]["relative_to_single_pool"] >= rows["70 W"]["relative_to_single_pool"]
    assert rows["1 peak server"]["servers"] == 1
    for name in ("no clock knob", "no governor", "cold start", "perfect forecast", "perfect predictor"):
        assert rows[name]["policy"] == OURS
        assert name in report


def test_a_condition_that_cannot_be_met_has_its_reason(ablated):
    row = next(row for row in ablated[0]["ablations"] if row["name"] == "objectives x 0.0001")
    assert row["relative_to_single_pool"] is None
    assert "loosen the objectives" in row["reason"]


def test_the_policy_to_ablate_is_ours_and_named_last():
    assert ablation.ablated_policy(["dynamollm"]) == OURS
    assert ablation.ablated_policy(["dynawatt", "dynamollm"]) == "dynawatt"
    assert ablation.ablated_policy(list(NAMES)) == OURS


def test_the_table_tells_the_bound_and_the_ablations(ablated):
    assert json.dumps(ablated[0], allow_nan=False)
    text = simulate(*LOAD, "--policy", "clairvoyant").stdout
    assert re.search(r"clairvoyant +bound, deadline", text)
    assert "above bound" in " ".join(text.split())
