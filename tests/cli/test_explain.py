import copy
import json
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.api.conditions import Reason
from dynawatt.api.llmservice_status import LLMServiceStatus
from dynawatt.api.remedies import REMEDIES
from dynawatt.cli import layout
from dynawatt.cli.explain.page import page
from dynawatt.cli.explain.reading import read_leniently
from dynawatt.cli.explain.results_json import to_json
from dynawatt.cli.layout import coloured, plain

from .explaining import RESHAPING, flat, shown, told
from .objects import PRODUCT, before, condition, deployment, pod, service, with_condition

KEPT_WHOLE = re.compile(r"^\s+(kubectl|--)")

CASES = {
    "good": {},
    "not looked at": {"service": {**service(), "status": {}}, "pods": []},
    "no Deployment": {
        "service": service(status={"conditions": with_condition(condition("Ready", "False", "DeploymentNotFound"))}),
        "deployments": [],
        "pods": [],
    },
    "long names": {
        "service": service(status={"shapes": [{**service()["status"]["shapes"][0], "deployment": "a-" * 60 + "z"}]}),
        "pods": [pod("llama-7c9d5f6b8-x2x7k", node="ip-10-0-12-34.eu-west-1.compute.internal")],
        "deployments": [],
    },
    "reshaping": {
        "service": service(
            status={
                "reshape": RESHAPING,
                "conditions": with_condition(condition("Progressing", "True", "Reshaping", "2 of 4 are Ready")),
                "engineAdvice": [
                    {"flags": ["--max-num-batched-tokens=2048"], "savesPercent": 18, "message": "smaller chunks"}
                ],
            }
        )
    },
    "unread": {"gpu_nodes": {}, "unread": {"gpu_nodes": "403: forbidden", "events": "403: forbidden"}},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_fits_80_columns(case):
    for line in shown(**case).splitlines():
        assert len(line) <= layout.WIDTH or KEPT_WHOLE.match(line), line


def test_a_service_in_order_needs_no_attention():
    text = shown()
    assert "  Ready, Reconciled: acting on the last decision" in text
    assert "Conditions" not in text
    assert "->" not in text.replace("3 -> 2", "")
    assert "Deployment llama, mode Auto with Clock, Replicas; 1 to 8 replicas" in text
    wanted = (
        "99% of first tokens within 400 ms up to 1,024 tokens, 2,000 ms beyond; of gaps between tokens within 100 ms"
    )
    assert wanted in flat(text)
    assert "not Progressing, ClocksGoverned, DrainConfigured, not Conflicting" in flat(text)


def test_the_last_decision_with_what_it_was_compared_with():
    text = shown()
    assert "Last decision, 3 min ago: ShrinkToLoad" in text
    assert re.search(r"2 +1 +1215 +512  chosen\n", text)
    assert re.search(r"1 +1 +1980 +401  carries 5.1 of 6.3 req/s within the SLO\n", text)
    assert (
        "By the model this takes 31% less energy than the replicas as they were and 24% less energy than the same "
        "replicas at the default clock." in flat(text)
    )
    options = to_json(told())["last_decision"]["options"]
    assert [option["predicted_power_w"] for option in options] == [512, 598, 401, 674]
    assert [option["chosen"] for option in options] == [True, False, False, False]


@pytest.mark.parametrize(
    ("keeping", "default", "text"),
    [
        (0, 24, "this takes 24% less energy than the same replicas at the default clock."),
        (-12, 0, "this takes 12% more energy than the replicas as they were."),
        (0, 0, "this takes as much energy as before."),
    ],
)
def test_what_saves_nothing_is_not_called_a_saving(keeping, default, text):
    saving = {"predictedSaving": {"toKeepingPercent": keeping, "toDefaultClockPercent": default}}
    assert text in flat(shown(service=service(status={"lastDecision": saving})))


def test_counts_are_those_of_the_cluster_now_and_siblings_are_told():
    sibling = {**deployment("llama-4f2a1c", replicas=4), "status": {"readyReplicas": 3}}
    text = shown(deployments=[{**deployment(replicas=5), "status": {"readyReplicas": 4}}, sibling])
    assert re.search(rf"4/5 +1 +800-1980  {PRODUCT}  llama\n", text)
    assert re.search(r"3/4 +\? +default +\? +llama-4f2a1c\n", text)


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason in REMEDIES])
def test_what_calls_for_something_comes_with_its_remedy(reason):
    status = {"conditions": with_condition(condition("SLOMet", "False", reason.value, "that is why", minutes=5))}
    text = flat(shown(service=service(status=status)))
    assert f"! not SLOMet, {reason.value} for 5 min: that is why -> " in text
    [judged] = told(service=service(status=status)).attention
    assert judged.remedy.split()[0] in REMEDIES[reason]


def test_ready_does_not_repeat_the_condition_it_sums_up():
    status = {
        "conditions": with_condition(
            condition("Ready", "False", "MetricsQueryFailed", "holding: no series"),
            condition("MetricsAvailable", "False", "MetricsQueryFailed", "no series"),
        )
    }
    explained = told(service=service(status=status))
    assert [each.type for each in explained.attention] == ["MetricsAvailable"]
    assert [step.text for step in explained.next] == [
        "Held: no series. Planning goes on by itself once that is mended."
    ]


def test_what_was_asked_for_is_noted_and_what_nobody_knows_yet_is_listed():
    status = {
        "conditions": with_condition(
            condition("ClocksGoverned", "False", "NoClaims", "all GPUs run at their default clocks"),
            condition("ModelAccurate", "Unknown", "NotPlannedYet"),
        )
    }
    text = shown(service=service(spec={"mode": "Recommend"}, status=status))
    assert "    not ClocksGoverned, NoClaims for 2 h" in text
    assert "not known yet ModelAccurate" in text
    assert "!" not in text


def test_reads_what_a_newer_version_wrote():
    status = {
        "novelty": {"a": 1},
        "conditions": with_condition(condition("Cooled", "False", "TooWarm", "a matter of the future")),
        "lastChanges": [
            {"time": before(minutes=1), "knob": "Variant", "from": "a", "to": "b", "reason": "c"},
            {"time": before(minutes=2), "knob": "Clock", "from": "default", "to": "800-1980", "reason": "d"},
        ],
    }
    explained = told(service=service(spec={"knobs": ["Clock", "Variant"], "cooling": {"fans": 2}}, status=status))
    assert explained.not_understood == ["spec.knobs[1]", "spec.cooling", "status.lastChanges[0]"]
    text = page(explained, plain)
    assert "left out here: spec.knobs[1], spec.cooling, status.lastChanges[0]" in flat(text)
    assert "not Cooled, TooWarm" in text
    assert "Clock default -> 800-1980" in text


def test_a_spec_that_is_not_understood_at_all():
    broken = service()
    broken["spec"] = {"deploymentRef": {"name": "llama"}, "objectives": []}
    explained = told(service=broken)
    assert explained.spec is None
    assert explained.not_understood == ["spec"]
    assert "not understood by this version" in explained.next[0].text
    assert page(explained, plain)


@given(data=st.data())
def test_whatever_stands_in_a_status_is_read_as_far_as_it_goes(data):
    junk = (
        st.none()
        | st.integers()
        | st.text(max_size=3)
        | st.lists(st.integers(), max_size=2)
        | st.builds(lambda: {"x": {}})
    )
    status = copy.deepcopy(service(status={"reshape": RESHAPING})["status"])
    whole = copy.deepcopy(status)
    for _ in range(data.draw(st.integers(1, 4))):
        target = status
        while isinstance(target, (dict, list)) and target:
            keys = sorted(target) if isinstance(target, dict) else list(range(len(target)))
            key = data.draw(st.sampled_from(keys))
            if data.draw(st.booleans()) or not isinstance(target[key], (dict, list)):
                target[key] = data.draw(junk)
                break
            target = target[key]
    kept = copy.deepcopy(status)
    read, left_out = read_leniently(LLMServiceStatus, status)
    assert read is not None
    assert status == kept
    assert left_out == [] or status != whole
    explained = told(service={**service(), "status": status})
    assert page(explained, plain)
    json.dumps(to_json(explained))


def test_events_newest_first():
    events = [
        {"metadata": {}, "lastTimestamp": before(minutes=ago), "type": "Normal", "reason": f"R{ago}", "message": "m"}
        for ago in (9, 3, 50, 70, 1, 8)
    ]
    events.append({"metadata": {}, "eventTime": before(minutes=2), "type": "Normal", "reason": "R2", "message": "m"})
    assert [event.reason for event in told(events=events).events] == ["R1", "R2", "R3", "R8", "R9"]


def test_what_could_not_be_read_is_said():
    text = shown(**CASES["unread"])
    assert "Not looked at: gpu nodes (403: forbidden)." in text
    assert "what the agents report could not be read" in flat(text)


def test_flags_stay_in_one_piece():
    flag = '--custom-histogram-buckets={"time_to_first_token":[0.1,0.25,0.4,0.5,1,2,5,10],"inter_token_latency":[0.1]}'
    advice = [{"flags": [flag], "message": "lets the SLO be measured", "needsPlugIn": True}]
    text = shown(service=service(status={"engineAdvice": advice}))
    assert f"  {flag}\n" in text
    assert "lets the SLO be measured. Does nothing before dynawatt's plug-in for vLLM is installed." in flat(text)


def test_colour_is_for_terminals_that_want_it(monkeypatch):
    monkeypatch.setattr(layout.sys, "stdout", os.fdopen(os.dup(1), "w"))
    monkeypatch.setattr(layout.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert layout.choose_paint() is coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert layout.choose_paint() is plain
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setattr(layout.sys.stdout, "isatty", lambda: False, raising=False)
    assert layout.choose_paint() is plain


def test_colour_changes_nothing_but_colour():
    explained = told(service=service(status={"conditions": with_condition(condition("SLOMet", "False", "SLOMissed"))}))
    painted = page(explained, coloured)
    assert "\x1b[31m" in painted
    assert re.sub(r"\x1b\[\d+m", "", painted) == page(explained, plain)
