from datetime import timedelta

import pytest

from dynawatt.cli.explain.ages import age, clock_time

from .explaining import RESHAPING, told
from .objects import NOW, before, condition, lease, service, switch, with_condition


def auto(**spec):
    return {"mode": "Auto", "knobs": ["Clock", "Replicas", "Shape"]} | spec


def shapes(desired):
    return [{**service()["status"]["shapes"][0], "desiredReplicas": desired}]


def alone(why):
    return f"Nothing happens without an operator: {why}. Clocks go back to default by themselves. To see why:"


RETRY = RESHAPING | {"attempts": 2, "retryTime": before(minutes=-14), "message": "4 GPUs are free, 8 are needed"}
PLANS = "A new plan is made every few minutes, and at once when the load leaves its forecast."
PATCH = "kubectl -n prod patch llmsvc llama --type merge -p '"
NEXT = {
    "steady": ({"service": service(spec=auto())}, [PLANS], ""),
    "deleted": (
        {"service": service(metadata={"deletionTimestamp": before(seconds=90)})},
        ["Being deleted since 1 min: what dynawatt changed is given back, then it is gone."],
        "",
    ),
    "switched off": (
        {"switch": switch("false")},
        [
            "Nothing is changed while dynawatt is switched off: ConfigMap dynawatt-switch has enabled: 'false'. To "
            "switch it on again:"
        ],
        "kubectl -n dynawatt-system delete configmap dynawatt-switch",
    ),
    "no operator yet": (
        {"lease": None},
        [alone("it has never taken its Lease")],
        "dynawatt doctor",
    ),
    "operator stopped": (
        {"lease": lease(holder="")},
        [alone("the last one has stopped and given its Lease back")],
        "dynawatt doctor",
    ),
    "operator silent": (
        {"lease": lease(minutes=3)},
        [alone("dynawatt-operator-0 last renewed its Lease 3 min ago")],
        "dynawatt doctor",
    ),
    "lease not readable": (
        {"service": service(spec=auto()), "lease": None, "unread": {"lease": "403: forbidden"}},
        [PLANS],
        "",
    ),
    "off": (
        {"service": service(spec={"mode": "Off"})},
        ['Nothing is planned or changed: `spec.mode` is "Off".'],
        PATCH + '{"spec":{"mode":"Recommend"}}\'',
    ),
    "paused": (
        {"service": service(spec=auto(paused=True))},
        ["Nothing changes while `spec.paused` is true; metrics are still observed."],
        "",
    ),
    "recommend": (
        {"service": service(spec={"mode": "Recommend"}, status={"shapes": shapes(3)})},
        [
            "In mode Auto with the knob Replicas, replicas would go from 3 to 2.",
            PLANS,
            "When you believe this: mode Auto with the knob Clock alone touches no pod and saves 24% by the model.",
        ],
        PATCH + '{"spec":{"mode":"Auto","knobs":["Clock"]}}\'',
    ),
    "recommend without a decision": (
        {"service": service(spec={"mode": "Recommend"}, status={"lastDecision": None})},
        [PLANS],
        "",
    ),
    "clock alone": (
        {"service": service(spec={"knobs": ["Clock"]}, status={"shapes": shapes(3)})},
        [
            "Replicas stay at 3, where 2 would be best: `spec.knobs` does not contain Replicas.",
            PLANS,
            "The next rung is the knob Replicas.",
        ],
        PATCH + '{"spec":{"knobs":["Clock","Replicas"]}}\'',
    ),
    "drain is missing": (
        {
            "service": service(
                spec={"knobs": ["Clock"]},
                status={"conditions": with_condition(condition("DrainConfigured", "False", "DrainNotConfigured"))},
            )
        },
        [PLANS, "Before the knob Replicas can be added, pods must finish their requests: see DrainConfigured."],
        "",
    ),
    "shape alone": (
        {"service": service(spec={"knobs": ["Clock", "Shape"]})},
        [PLANS],
        "",
    ),
    "external": (
        {
            "service": service(
                spec={"replicas": {"min": 1, "max": 8, "scaledBy": "External"}}, status={"shapes": shapes(3)}
            )
        },
        ["The autoscaler is told to go from 3 to 2 replicas (dynawatt_desired_replicas).", PLANS],
        "",
    ),
    "window": (
        {
            "service": service(
                spec=auto(changeWindows=[{"schedule": "0 22 * * *", "durationMinutes": 60}]),
                status={"shapes": shapes(3)},
            )
        },
        [
            "Replicas and shapes may be changed again at 22:00 UTC, in 10 h; those that load needs are added at any "
            "time.",
            "Replicas are to go from 3 to 2.",
            PLANS,
        ],
        "",
    ),
    "window is open": (
        {"service": service(spec=auto(changeWindows=[{"schedule": "30 11 * * *", "durationMinutes": 60}]))},
        [PLANS],
        "",
    ),
    "reshape": (
        {"service": service(spec=auto(), status={"reshape": RESHAPING})},
        [
            "The replicas of llama-4f2a1c take over, one step at a time: 2 of 4 replicas are Ready; then one of llama "
            "drains.",
            PLANS,
        ],
        "",
    ),
    "reshape failed": (
        {"service": service(spec=auto(), status={"reshape": RETRY})},
        [
            "The reshape to llama-4f2a1c is tried again at 12:14 UTC, in 14 min. It failed: 4 GPUs are free, 8 are "
            "needed.",
            PLANS,
        ],
        "",
    ),
    "scaling": (
        {
            "service": service(
                spec=auto(),
                status={"conditions": with_condition(condition("Progressing", "True", "Scaling", "1 of 2 are Ready"))},
            )
        },
        ["Under way: 1 of 2 are Ready.", PLANS],
        "",
    ),
    "not looked at": (
        {"service": {**service(), "status": {}}},
        ["The operator has not looked at it yet, which it does within seconds."],
        "",
    ),
}


@pytest.mark.parametrize(("changes", "texts", "command"), NEXT.values(), ids=NEXT)
def test_what_comes_next(changes, texts, command):
    steps = told(**changes).next
    assert [step.text for step in steps] == texts
    assert "".join(step.command for step in steps) == command


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(seconds=-3), "0 s"),
        (timedelta(seconds=59), "59 s"),
        (timedelta(seconds=60), "1 min"),
        (timedelta(minutes=59, seconds=59), "59 min"),
        (timedelta(hours=2), "2 h"),
        (timedelta(hours=2, minutes=10), "2 h 10 min"),
        (timedelta(hours=12, minutes=10), "12 h"),
        (timedelta(days=5, hours=3), "5 d"),
    ],
)
def test_age(span, text):
    assert age(span) == text


def test_another_day_is_named():
    assert clock_time(NOW + timedelta(hours=1), NOW) == "13:00 UTC"
    assert clock_time(NOW + timedelta(hours=13), NOW) == "2026-03-05 01:00 UTC"
