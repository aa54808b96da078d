from math import inf, nan

import pytest

from dynawatt.adapters.vllm_load.queries import BUCKETS
from dynawatt.adapters.vllm_load.reading import absent, arrived, check, flows_from, observation
from dynawatt.adapters.vllm_load.scope import Scope
from dynawatt.adapters.vllm_load.source import LoadQuestion, WatchedPod
from dynawatt.ports import MetricsUnavailable, Sample

SCOPE = Scope("pod", "namespace")
FLOW = {
    "age_s": 5.0, "waiting": 1.0, "running": 8.0, "kv_usage": 0.5, "generated": 12_000.0,
    "finished": 480.0, "running_change": 0.0, "waiting_change": 0.0, "first_tokens": 480.0,
    "recent_finished": 160.0, "recent_running_change": 0.0, "recent_waiting_change": 0.0, "recent_first_tokens": 160.0,
}  # fmt: skip


def flow(**changes):
    return FLOW | changes


def changes(finished=0.0, running=0.0, waiting=0.0, first_tokens=0.0):
    return {"finished": finished, "running_change": running, "waiting_change": waiting, "first_tokens": first_tokens}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([changes(100, 0, 0, 100)], 100),
        ([changes(50, 50, 20, 100)], 120),  # a load that begins
        ([changes(100, -50, -20, 50)], 30),  # one that ends
        ([changes(60, 0, 0, 100)], 100),  # 40 were given up
        ([changes(100, -70, 0, 100)], 100),  # a crash took 70 along
        ([changes(100, 10, 0, 100)], 110),  # ten are being prefilled
        ([changes(0, -20, 0, 0)], 0),
        ([changes(100, 3, 0, 100), changes(100, -3, 0, 100)], 200),  # noise does not add up
    ],
)
def test_arrivals(seen, expected):
    assert arrived(seen) == expected
    assert arrived([{f"recent_{what}": value for what, value in each.items()} for each in seen], "recent_") == expected


def question(*pods, **more):
    return LoadQuestion("prod", "llama", {"llama": [WatchedPod(pod) for pod in pods]}, **more)


def buckets(count=480.0, shape="llama", without=()):
    labels = {"dynawatt_shape": shape}
    rows = [
        Sample(labels | {"what": what, "le": le}, count)
        for what in BUCKETS
        if what not in without
        for le in ("1", "1000", "+Inf")
    ]
    return rows + [Sample(labels | {"what": what}, 100 * count) for what in ("input_sum", "output_sum")]


def seen(asked, flows, rows=None):
    return observation(asked, SCOPE, asked.shapes, flows, buckets() if rows is None else rows)


def test_an_observation():
    found = seen(question("a"), {"a": flow()})
    assert found.rate_rps == 4.0
    assert (found.recent_rps, found.recent_window_s) == (4.0, 40)
    assert (found.finished_requests, found.age_s) == (480.0, 5.0)
    assert found.ttft == [(1.0, 480.0), (1000.0, 480.0), (inf, 480.0)]
    shape = found.shapes["llama"]
    assert (shape.pods, shape.rate_rps, shape.running, shape.waiting) == (1, 4.0, 8.0, 1.0)
    assert (shape.kv_usage, shape.generated_tps) == (0.5, 100.0)


def test_what_is_not_told_is_not_known():
    bare = {what: value for what, value in flow().items() if what not in ("kv_usage", "generated")}
    found = seen(question("a"), {"a": bare})
    assert (found.kv_usage, found.generated_tps) == (None, None)


def test_too_few_recent_scrapes_leave_the_recent_rate_open():
    old = {what: value for what, value in flow().items() if not what.startswith("recent_")}
    assert seen(question("a", "b"), {"a": flow(), "b": old}).recent_rps is None


def test_pods_that_are_not_expected_may_be_missing_or_old():
    pods = [WatchedPod("a"), *(WatchedPod(name, expected=False) for name in ("new", "first", "gone"))]
    asked = LoadQuestion("prod", "llama", {"llama": pods})
    gone = {what: value for what, value in flow().items() if what not in ("age_s", "waiting")}
    found = seen(asked, {"a": flow(), "first": {"age_s": 1.0, "waiting": 2.0}, "gone": gone})
    assert found.rate_rps == 8.0
    assert (found.shapes["llama"].pods, found.running, found.waiting) == (2, 8.0, 3.0)
    assert found.age_s == 1.0


@pytest.mark.parametrize(
    ("flows", "message"),
    [
        ({}, "vllm:num_requests_running has no series of pod a, b, c and 2 more by the label pod: does Prometheus"),
        (dict.fromkeys("abcd", FLOW), "no series of pod e by the label pod"),
        (
            dict.fromkeys("abcde", flow(age_s=61.0)),
            "newest sample of .* of pod a, b, c and 2 more is 61 s old: .* 60 s",
        ),
        (
            {**dict.fromkeys("abcd", FLOW), "e": {"age_s": 1.0, "waiting": 0.0, "running": 1.0}},
            "vllm:request_success_total of pod e has no two samples within 120 s: scrape at least every 30 s",
        ),
    ],
)
def test_expected_pods_must_tell_all_of_now(flows, message):
    with pytest.raises(MetricsUnavailable, match=message):
        check(question(*"abcde"), SCOPE, flows)


def test_absent_pods():
    asked = LoadQuestion(
        "prod", "llama", {"x": [WatchedPod("a"), WatchedPod("b")], "y": [WatchedPod("c", expected=False)]}
    )
    assert absent(asked, SCOPE, {"a": flow()}) == ["b"]


@pytest.mark.parametrize("what", BUCKETS)
def test_a_family_without_series_is_named(what):
    with pytest.raises(MetricsUnavailable, match=f"{BUCKETS[what][0]} has no series of Deployment llama"):
        seen(question("a"), {"a": flow()}, buckets(without=[what]))


@pytest.mark.parametrize("value", [nan, inf])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(MetricsUnavailable, match=r"vllm:num_requests_waiting is (nan|inf): must be a number"):
        flows_from([Sample({"pod": "a", "what": "waiting"}, value)], SCOPE)
    with pytest.raises(MetricsUnavailable, match="vllm:time_to_first_token_seconds_bucket is"):
        seen(question("a"), {"a": flow()}, buckets(count=value))


def test_nobody_was_scraped_twice_yet():
    asked = LoadQuestion("prod", "llama", {"llama": [WatchedPod("new", expected=False)]})
    with pytest.raises(MetricsUnavailable, match="no pod of Deployment llama was scraped twice within 120 s yet"):
        seen(asked, {"new": {"age_s": 1.0}}, [])


def test_idle_is_not_unknown():
    idle = dict.fromkeys(FLOW, 0.0)
    found = seen(question("a"), {"a": idle}, buckets(count=0.0))
    assert (found.rate_rps, found.mix, found.finished_requests, found.ttft) == (0.0, None, 0.0, [])
