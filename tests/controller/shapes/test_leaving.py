import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.controller.shapes.leaving import DELETION_COST, deletion_cost_changes, is_ready, order_of_leaving

NEXT = "-1000000"


def pod(name, node="n", *, ready=True, phase="Running", cost=None, stopping=False):
    metadata = {"name": name, "annotations": {} if cost is None else {DELETION_COST: cost}}
    return {
        "metadata": metadata | ({"deletionTimestamp": "2026"} if stopping else {}),
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


def order(*pods, running=None, on_node=None):
    found = order_of_leaving(pods, running_requests=running or {}, pods_on_node=on_node or {})
    return [each["metadata"]["name"] for each in found]


def test_kubernetes_own_order_comes_first():
    pods = [
        pod("ready"),
        pod("loading", ready=False),
        pod("pending", ready=False, phase="Pending"),
        pod("unscheduled", None, ready=False, phase="Pending"),
        pod("stopping", stopping=True),
    ]
    assert order(*pods, running={"ready": 0}) == ["unscheduled", "pending", "loading", "ready"]


def test_a_node_that_empties_comes_before_load():
    pods = [pod("idle", "full"), pod("busy", "nearly-empty")]
    on_node = {"full": 4, "nearly-empty": 1}
    assert order(*pods, running={"idle": 0, "busy": 50}, on_node=on_node) == ["busy", "idle"]


def test_among_nodes_alike_the_least_loaded_goes():
    pods = [pod("unknown"), pod("busy"), pod("idle"), pod("some")]
    assert order(*pods, running={"busy": 90, "idle": 0, "some": 3}) == ["idle", "some", "busy", "unknown"]


def test_small_changes_of_load_do_not_change_the_choice():
    pods = [pod("a"), pod("b", cost=NEXT)]
    assert order(*pods, running={"a": 4, "b": 7}) == ["b", "a"]
    assert order(*pods, running={"a": 3, "b": 7}) == ["a", "b"]


def test_costs_are_written_for_those_that_go_next_and_taken_back():
    pods = [pod("a", cost=NEXT), pod("b"), pod("c")]
    assert deletion_cost_changes(pods, [pods[1]]) == {"b": NEXT, "a": None}
    assert deletion_cost_changes(pods, [pods[0]]) == {}
    assert deletion_cost_changes(pods, []) == {"a": None}
    assert deletion_cost_changes(pods, pods) == {"b": NEXT, "c": NEXT}


def test_pods_that_are_not_ready_need_no_cost():
    pods = [pod("loading", ready=False), pod("ready")]
    assert deletion_cost_changes(pods, [pods[0]]) == {}


@pytest.mark.parametrize("cost", ["0", "5", "-2000000"])
def test_costs_of_somebody_else_hold(cost):
    pods = [pod("a"), pod("b", cost=cost), pod("c", cost=NEXT)]
    assert deletion_cost_changes(pods, [pods[0]]) == {}


pods_of_a_shape = st.lists(
    st.builds(
        lambda node, ready, cost, requests: (node, ready, cost, requests),
        st.sampled_from(["a", "b", "c"]),
        st.booleans(),
        st.sampled_from([None, NEXT]),
        st.none() | st.integers(0, 300),
    ),
    max_size=6,
).map(
    lambda found: (
        [pod(str(i), node, ready=ready, cost=cost) for i, (node, ready, cost, _) in enumerate(found)],
        {str(i): requests for i, (*_, requests) in enumerate(found) if requests is not None},
    )
)


def kubernetes_order(pod):
    """The first four criteria of the ReplicaSet controller (ActivePodsWithRanks)."""
    cost = int(pod["metadata"]["annotations"].get(DELETION_COST, 0))
    return bool(pod["spec"].get("nodeName")), is_ready(pod), cost


@given(pods_of_a_shape, st.integers(0, 6), st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(1, 8)))
def test_kubernetes_then_deletes_the_chosen_ones_and_nothing_is_written_again(found, count, on_node):
    pods, running = found
    leaving = order_of_leaving(pods, running_requests=running, pods_on_node=on_node)[:count]
    for name, cost in deletion_cost_changes(pods, leaving).items():
        annotations = pods[int(name)]["metadata"]["annotations"]
        annotations.pop(DELETION_COST, None)
        annotations.update({} if cost is None else {DELETION_COST: cost})
    chosen = {each["metadata"]["name"] for each in leaving}
    for gone, stays in itertools.product(pods, pods):
        if gone["metadata"]["name"] in chosen and stays["metadata"]["name"] not in chosen:
            same_unready = not is_ready(gone) and not is_ready(stays)
            assert same_unready or kubernetes_order(gone) < kubernetes_order(stays)
    again = order_of_leaving(pods, running_requests=running, pods_on_node=on_node)[:count]
    assert deletion_cost_changes(pods, again) == {}
