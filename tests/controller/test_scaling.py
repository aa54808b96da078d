import pytest

from dynawatt.adapters.kubernetes.client import API_ERRORS
from dynawatt.controller.scaling import Scaling
from dynawatt.controller.shapes.disruption import PROTECTED_ANNOTATION
from dynawatt.controller.shapes.leaving import DELETION_COST
from dynawatt.controller.shapes.shape import Shape
from dynawatt.controller.shapes.sibling import sibling_of
from dynawatt.controller.target import read_workload
from dynawatt.planning.step import RESHAPING, SCALING, Scale, Step, StepKind

from .conftest import make_deployment, make_pod
from .running import Running

READY = "2026-01-01T00:00:20Z"
SERVICE = "default/llama"


@pytest.fixture
def filled(cluster):
    """Three replicas; the node of the last has only one pod."""
    cluster.deployment_ = make_deployment(3)
    cluster.pods_ = [make_pod(name, node=node, ready=READY) for name, node in (("a", "x"), ("b", "x"), ("c", "y"))]
    return cluster


@pytest.fixture
def scaling(filled):
    return Scaling(filled, filled)


def own(cluster, name="llama"):
    return read_workload(cluster.deployment("default", name), cluster.pods_of("default", name))


def to(replicas, *, node=None, kind=StepKind.DRAIN, reason=SCALING):
    return Step(kind, reason, "because", Scale("llama", replicas, node))


def costs(cluster):
    annotations = [pod["metadata"].get("annotations") or {} for pod in cluster.pods_]
    return {
        pod["metadata"]["name"]: each.get(DELETION_COST) for pod, each in zip(cluster.pods_, annotations, strict=True)
    }


async def test_which_pods_go_is_known_a_look_before_they_do(scaling, filled, draft):
    found = draft()
    assert await scaling.scale(own(filled), to(2), found) is False
    assert costs(filled) == {"a": None, "b": None, "c": "-1000000"}  # that empties a node
    assert filled.replicas() == {"llama": 3}
    assert await scaling.scale(own(filled), to(2), found) is True
    assert filled.replicas() == {"llama": 2}
    [change] = found.status.last_changes
    assert (change.knob, change.from_, change.to, change.reason) == ("Replicas", "3", "2", "because")


async def test_pods_on_the_node_that_is_to_be_emptied_go_first(scaling, filled, draft):
    await scaling.scale(own(filled), to(2, node="x"), draft())
    assert costs(filled) == {"a": "-1000000", "b": None, "c": None}


async def test_who_goes_first_may_change(scaling, filled, draft):
    await scaling.scale(own(filled), to(2), draft())
    filled.pods_[1]["spec"]["nodeName"] = "z"
    await scaling.scale(own(filled), to(1, node="x"), draft())
    assert costs(filled) == {"a": "-1000000", "b": None, "c": "-1000000"}


async def test_pods_that_do_not_serve_go_first_without_a_word(scaling, filled, draft):
    filled.pods_[0]["status"]["conditions"] = []
    assert await scaling.scale(own(filled), to(2), draft())
    assert costs(filled) == {"a": None, "b": None, "c": None}


async def test_where_pods_are_missing_none_is_chosen_to_go(scaling, filled, draft):
    filled.deployment_ = make_deployment(6)
    assert await scaling.scale(own(filled), to(4), draft())
    assert set(costs(filled).values()) == {None}


async def test_where_all_go_none_is_chosen(scaling, filled, draft):
    assert await scaling.scale(own(filled), to(0), draft())
    assert set(costs(filled).values()) == {None}


async def test_costs_that_somebody_else_set_hold(scaling, filled, draft):
    filled.pods_[0]["metadata"]["annotations"] = {DELETION_COST: "7"}
    assert await scaling.scale(own(filled), to(2), draft())
    assert costs(filled) == {"a": "7", "b": None, "c": None}


async def test_growth_needs_no_costs(scaling, filled, draft):
    found = draft()
    assert await scaling.scale(own(filled), to(5, kind=StepKind.START, reason=RESHAPING), found)
    assert filled.writes == [("scale", "llama", 5)]
    [change] = found.status.last_changes
    assert (change.knob, change.from_, change.to) == ("Shape", "3 of llama", "5 of llama")


async def test_a_write_in_between_is_looked_at_again(scaling, filled, draft):
    found, before = draft(), own(filled)
    filled.scaled_by("kubectl", "llama", 7)
    assert await scaling.scale(before, to(5), found) is False
    assert filled.replicas() == {"llama": 7}
    assert found.status.last_changes == []


async def test_an_api_that_refuses_is_told_to_who_asked(scaling, filled, draft):
    before, filled.failing = own(filled), OSError("no route")
    with pytest.raises(API_ERRORS):
        await scaling.scale(before, to(2), draft())


async def create(scaling, cluster, shape, draft, **container):
    cluster.deployment_["spec"]["template"]["spec"]["containers"][0] |= container
    step = Step(StepKind.START, RESHAPING, "because", Scale("llama-new", 2))
    await scaling.create(own(cluster), shape, step, draft, service=SERVICE, container=None, startup_s=60.0)


async def test_a_sibling_is_created_with_its_replicas(scaling, filled, draft):
    found = draft()
    await create(scaling, filled, Shape(2), found)
    assert filled.replicas() == {"llama": 3, "tp2": 2}
    assert [change.to for change in found.status.last_changes] == ["2 of llama-new"]


@pytest.mark.parametrize(
    ("container", "told"),
    [
        ({"command": ["sh", "-c", "vllm serve m --shutdown-timeout 15"], "args": None}, "inside `sh -c`"),
        ({"resources": {}}, "asks for no GPUs"),
    ],
)
async def test_what_cannot_be_copied_is_told(scaling, filled, draft, container, told):
    found = draft()
    await create(scaling, filled, Shape(2), found, **container)
    assert filled.replicas() == {"llama": 3}
    progressing = next(one for one in found.status.conditions if one.type == "Progressing")
    assert (progressing.status, progressing.reason) == ("False", "ReshapeRefused")
    assert told in progressing.message


@pytest.fixture
def sibling(filled):
    made = sibling_of(filled.deployment_, Shape(2), service=SERVICE)
    filled.create_deployment(made)
    filled.writes.clear()
    return made["metadata"]["name"]


async def test_siblings_are_deleted_once_no_pod_is_left(scaling, filled, sibling):
    filled.pods_.append(make_pod("d", of=sibling, gpus=2, deleted=True))
    assert await scaling.remove([own(filled, sibling)]) is False
    del filled.pods_[-1]
    assert await scaling.remove([own(filled, sibling)]) is True
    assert filled.replicas() == {"llama": 3}


async def test_a_sibling_that_has_just_changed_is_not_deleted_yet(scaling, filled, sibling):
    before = own(filled, sibling)
    filled.bump(filled.deployments_[sibling])
    assert await scaling.remove([before]) is False
    assert await scaling.remove([own(filled, sibling)]) is True


async def test_pods_are_protected_while_they_are_waited_for(scaling, filled):
    filled.pods_[0]["status"]["conditions"] = []
    await scaling.protect([own(filled)], under_way=True)
    assert [PROTECTED_ANNOTATION in (pod["metadata"].get("annotations") or {}) for pod in filled.pods_] == [
        True,
        False,
        False,
    ]
    filled.writes.clear()
    await scaling.protect([own(filled)], under_way=True)
    assert filled.writes == []
    await scaling.protect([own(filled)], under_way=False)
    assert filled.pods_[0]["metadata"]["annotations"] == {}


async def test_no_mark_of_ours_is_left_and_every_one_of_others(scaling, filled, draft):
    await scaling.scale(own(filled), to(2), draft())
    filled.pods_[1]["metadata"]["annotations"] = {"karpenter.sh/do-not-disrupt": "true"}
    await scaling.unmark([own(filled)])
    assert [pod["metadata"].get("annotations", {}) for pod in filled.pods_] == [
        {},
        {"karpenter.sh/do-not-disrupt": "true"},
        {},
    ]


async def test_replicas_follow_the_load_up_and_down(monkeypatch):
    running = Running(monkeypatch, make_deployment(3, gpus=1), nodes="ab", knobs=["Replicas"])
    running.load_rps = 2.0
    await running.run(20, until=lambda: running.replicas() == {"llama": 1})
    running.load_rps = 18.0
    await running.run(30, until=lambda: running.carried_rps() >= 20.0)
    changes = [(change.from_, change.to) for change in reversed(running.draft.status.last_changes)]
    assert changes == [("3", "1"), ("1", "4")]
    assert running.draft.status.adopted.replicas == 3
    assert running.cluster.claims().count(None) == len(running.cluster.pods_)


async def test_without_a_graceful_stop_replicas_are_left_alone_and_the_patch_is_told(monkeypatch):
    running = Running(monkeypatch, make_deployment(3, args=[]), knobs=["Replicas"])
    running.load_rps = 2.0
    await running.run(20)
    assert running.replicas() == {"llama": 3}
    status, reason, message = running.told("DrainConfigured")
    assert (status, reason) == ("False", "DrainNotConfigured")
    assert "--shutdown-timeout 60" in message


async def test_replicas_that_do_not_come_are_still_hoped_for_while_the_load_needs_them(monkeypatch):
    running = Running(monkeypatch, make_deployment(1), knobs=["Replicas"])
    running.load_rps = 3.0
    await running.run(6)
    running.clock.stuck, running.load_rps = {"llama"}, 9.0
    await running.run(100)
    assert running.serving() == {"llama": 1}
    assert running.replicas()["llama"] > 1
    assert running.told("Progressing")[2].startswith("not Ready in time and still trying: ")
