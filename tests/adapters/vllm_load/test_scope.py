import pytest

from dynawatt.adapters.vllm_load.scope import Scope, find_scope
from dynawatt.adapters.vllm_load.source import LoadQuestion, WatchedPod
from dynawatt.ports import MetricsUnavailable, Sample

PODS = [WatchedPod(f"llama-{index}", f"10.0.0.{index}") for index in range(1, 4)]


class Told:
    def __init__(self, *labels):
        self.samples = [Sample(each, 1.0) for each in labels]
        self.asked = []

    async def query(self, promql):
        self.asked.append(promql)
        return self.samples


async def scope_of(*labels, pods=PODS):
    return await find_scope(Told(*labels), LoadQuestion("prod", "llama", {"llama": pods}))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([{"pod": "llama-1", "namespace": "prod"}], Scope("pod", "namespace")),
        ([{"pod": "llama-1"}], Scope("pod", "")),
        ([{"pod": "llama-1", "namespace": "prod", "instance": "10.0.0.1:8000"}], Scope("pod", "namespace")),
        ([{"instance": "10.0.0.1:8000", "namespace": "prod"}], Scope("instance", "namespace")),
        # One that reads another Prometheus, whose own pod happens to stand in our namespace.
        (
            [{"pod": "prometheus-0", "namespace": "prod", "exported_pod": "llama-1", "exported_namespace": "prod"}],
            Scope("exported_pod", "namespace"),
        ),
        # What more of the pods have counts.
        (
            [{"pod": "llama-1", "namespace": "prod"}, *({"pod_name": pod.name} for pod in PODS)],
            Scope("pod_name", ""),
        ),
        # A pod of the same name elsewhere does not.
        (
            [{"pod": pod.name, "namespace": "test"} for pod in PODS] + [{"pod_name": "llama-1", "namespace": "prod"}],
            Scope("pod_name", "namespace"),
        ),
    ],
)
async def test_labels_are_judged_by_their_values(labels, expected):
    assert await scope_of(*labels) == expected


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "no series of pod llama-1 and 2 more, by none of the labels pod, exported_pod"),
        (
            [{"pod": "llama-1", "namespace": "test"}],
            "of pod llama-1 and 2 more is labelled with namespace test, not prod",
        ),
    ],
)
async def test_what_is_not_found_has_a_remedy(labels, message):
    with pytest.raises(MetricsUnavailable, match=message):
        await scope_of(*labels)


async def test_without_pods_nothing_is_asked():
    with pytest.raises(MetricsUnavailable, match="Deployment llama has no pod"):
        await scope_of(pods=[])


async def test_a_few_pods_tell_how_all_are_labelled():
    told = Told({"pod": "p7", "namespace": "prod"})
    pods = [WatchedPod(f"p{index}", expected=index >= 480) for index in range(500)]
    told.samples = [Sample({"pod": "p485", "namespace": "prod"}, 1.0)]
    assert await find_scope(told, LoadQuestion("prod", "llama", {"llama": pods})) == Scope("pod", "namespace")
    [query] = told.asked
    assert len(query) < 4000
    assert "p485" in query
    assert "instance=" not in query  # none has an address


def test_selectors():
    assert Scope("pod", "namespace").selector("prod", PODS[::-1]) == 'namespace="prod",pod=~"llama-1|llama-2|llama-3"'
    by_address = Scope("instance", "")
    assert by_address.selector("prod", PODS[:1]) == 'instance=~"10\\\\.0\\\\.0\\\\.1:8000"'
    assert by_address.value(WatchedPod("p", "fd00::1", 9000)) == "[fd00::1]:9000"
    assert (by_address.is_by_address, Scope("pod", "").is_by_address) == (True, False)
