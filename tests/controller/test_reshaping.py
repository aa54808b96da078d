"""Changes of shape, tick by tick: what is planned is really planned, and steps are really decided."""

import itertools

import pytest

from dynawatt.api.claims import ClockClaim
from dynawatt.api.group import CLAIM_ANNOTATION, SERVICE_ANNOTATION
from dynawatt.controller.shapes.disruption import PROTECTED_ANNOTATION

from .conftest import make_deployment
from .memory import make_node
from .running import Running, occupied, surface

BEFORE, AFTER = {"llama": 2}, {"llama": 0, "tp1": 2}
LOAD_RPS = 6.0


@pytest.fixture
def running(monkeypatch):
    """Two replicas on four GPUs each, where two on one GPU carry the load with fewer watts."""
    return Running(monkeypatch)


def stops(pod):
    return "deletionTimestamp" in pod["metadata"]


def reshaped(running):
    return running.replicas() == AFTER and running.reshape is None


async def test_the_new_shape_serves_before_the_old_one_drains(running):
    seen = []

    def check():
        assert running.carried_rps() >= LOAD_RPS
        if not seen or seen[-1] != running.serving():
            seen.append(running.serving())

    running.check = check
    await running.run(30, until=lambda: reshaped(running))
    assert seen == [{"llama": 2}, {"llama": 2, "tp1": 0}, {"llama": 2, "tp1": 2}, {"llama": 0, "tp1": 2}]
    [sibling] = [name for name in running.cluster.deployments_ if name != "llama"]
    assert running.writes("scale", "create") == [("create", sibling, 2), ("scale", "llama", 0)]
    status = running.draft.status
    assert (status.adopted.replicas, status.adopted.commanded) == (2, 0)
    changes = [(change.from_, change.to) for change in status.last_changes if change.knob == "Shape"]
    assert changes == [("2 of llama", "0 of llama"), (f"0 of {sibling}", f"2 of {sibling}")]
    assert running.told("Progressing") == ("False", "Steady", "2 replicas are Ready")


async def test_a_sibling_is_made_of_the_users_deployment(running):
    await running.run(30, until=lambda: reshaped(running))
    sibling = running.cluster.named("tp1")
    assert sibling["metadata"]["annotations"][SERVICE_ANNOTATION] == "default/llama"
    container = sibling["spec"]["template"]["spec"]["containers"][0]
    assert container["args"][-2:] == ["-tp=4", "--tensor-parallel-size=1"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


async def test_nothing_is_created_before_what_to_give_back_is_on_record(running):
    running.is_recorded = False
    await running.run(8)
    assert running.reason("Progressing") == "Reshaping"
    assert running.writes("scale", "create") == []
    running.is_recorded = True
    await running.run(2)
    assert len(running.writes("create")) == 1


async def test_nothing_at_all_is_written_for_an_unchanged_service(running):
    await running.run(30, until=lambda: reshaped(running))
    await running.run(3)
    writes, status = len(running.writes()), running.status
    await running.run(10)
    assert (len(running.writes()), running.status) == (writes, status)


async def test_pods_are_protected_only_while_they_load(running):
    await running.run(7)
    marked = [PROTECTED_ANNOTATION in (pod["metadata"].get("annotations") or {}) for pod in running.cluster.pods_]
    assert marked == [False, False, True, True]
    await running.run(30, until=lambda: reshaped(running))
    assert [set(pod["metadata"]["annotations"]) for pod in running.cluster.pods_] == [{CLAIM_ANNOTATION}] * 2


async def test_the_clocks_of_those_that_take_over_are_braced_until_the_others_are_gone(running):
    drained = []

    def check():
        pods = running.cluster.pods_
        live = [text for pod, text in zip(pods, running.cluster.claims(), strict=True) if text and not stops(pod)]
        drained.append((any(map(stops, pods)), {ClockClaim.from_annotation(text).floor_megahertz for text in live}))

    running.check = check
    await running.run(30, until=lambda: reshaped(running))
    await running.run(2)
    assert [each for each, _ in itertools.groupby(drained)] == [
        (False, set()),
        (False, {800}),
        (True, {1980}),
        (False, {1980}),
        (False, {800}),
    ]


async def test_four_and_four_free_on_two_nodes_are_not_eight(monkeypatch):
    running = Running(monkeypatch, nodes="abc")  # both replicas are packed on the first
    running.surfaces.by_size[8] = surface(8, idle_w=10.0)
    running.cluster.pods_.append(occupied("b", 4))
    await running.run(30, until=lambda: running.reshape)  # decided, and nothing written yet
    running.cluster.pods_.append(occupied("c", 4))
    await running.run(3)
    status, reason, message = running.told("Progressing")
    assert (status, reason) == ("False", "NoSpareCapacity")
    assert message.endswith("each needs 8 free GPUs on one node, the freest has 4")
    assert running.replicas() == BEFORE
    running.cluster.pods_.pop()
    await running.run(60, until=lambda: running.serving() == {"llama": 0, "tp8": 1})


WINDOW = {"schedule": "0 22 * * *", "durationMinutes": 60}


async def test_outside_the_change_windows_nothing_is_changed_and_the_next_one_is_named(monkeypatch):
    running = Running(monkeypatch, changeWindows=[WINDOW])
    await running.run(20)
    assert running.writes("scale", "create") == []
    assert running.told("Progressing") == (
        "False",
        "OutsideChangeWindow",
        "llama: not drained outside the change windows; the next change window opens at 2026-01-01 22:00 UTC",
    )
    assert running.draft.status.last_decision.chosen.tensor_parallel_size == 4
    running.clock.now_s += 22 * 3600.0
    await running.run(40, until=lambda: running.replicas().get("tp1"))


async def test_outside_the_change_windows_load_adds_replicas_of_the_shape_that_is_there(monkeypatch):
    running = Running(monkeypatch, changeWindows=[WINDOW])
    await running.run(10)
    running.load_rps = 40.0
    await running.run(40, until=lambda: running.carried_rps() >= 40.0)
    assert running.replicas() == {"llama": 3}
    running.load_rps = LOAD_RPS
    await running.run(40)
    assert running.replicas() == {"llama": 3}  # and none is taken away
    running.clock.now_s += 22 * 3600.0
    await running.run(60, until=lambda: reshaped(running))


async def test_a_change_that_its_window_left_half_done_meets_load_with_the_new_shape(monkeypatch):
    running = Running(monkeypatch, changeWindows=[{"schedule": "0 0 * * *", "durationMinutes": 3}])
    await running.run(30, until=lambda: running.serving().get("tp1"))
    running.clock.now_s += 180.0
    await running.run(5)
    assert running.replicas() == {"llama": 2, "tp1": 2}
    assert running.reason("Progressing") == "OutsideChangeWindow"
    running.load_rps = 50.0
    await running.run(40, until=lambda: running.carried_rps() >= 50.0)
    assert running.replicas()["llama"] == 2


async def test_a_budget_that_allows_nothing_is_waited_for(running):
    selector = {"matchLabels": {"app": "llama"}}
    budget = {"metadata": {"name": "pdb"}, "spec": {"selector": selector}, "status": {"disruptionsAllowed": 0}}
    running.cluster.budgets_ = [budget]
    await running.run(20)
    assert running.replicas() == {"llama": 2, "tp1": 2}
    assert running.told("Progressing")[:2] == ("False", "DisruptionNotAllowed")
    assert running.reshape.message == running.told("Progressing")[2]
    budget["status"]["disruptionsAllowed"] = 1
    await running.run(2)
    assert running.replicas() == {"llama": 1, "tp1": 2}
    await running.run(10, until=lambda: reshaped(running))


async def test_a_sibling_scaled_by_somebody_else_is_a_conflict_and_is_left_alone(running):
    await running.run(30, until=lambda: reshaped(running))
    running.cluster.scaled_by("kubectl", "tp1", 5)
    await running.run(5)
    status, reason, message = running.told("Conflicting")
    assert (status, reason) == ("True", "ForeignWrite")
    assert "'kubectl' set 5 replicas" in message
    assert running.replicas() == {"llama": 0, "tp1": 5}


async def test_an_old_copy_of_the_cluster_holds_everything(running):
    await running.run(6)
    writes = len(running.writes())
    running.cluster.problem_ = "/api/v1/pods: no answer"
    await running.run(10)
    assert running.told("Ready") == ("False", "APIError", "Kubernetes API: /api/v1/pods: no answer")
    assert len(running.writes()) == writes
    running.cluster.problem_ = None
    await running.run(30, until=lambda: reshaped(running))


async def test_without_metrics_a_change_under_way_is_held(running):
    await running.run(6)
    writes = len(running.writes())
    running.has_metrics = False
    await running.run(20)
    assert running.reason("Ready") == "MetricsQueryFailed"
    assert len(running.writes()) == writes


async def test_a_writes_that_comes_too_late_is_looked_at_again(running):
    await running.run(8)
    running.cluster.outdated = True
    await running.run(10)
    assert running.replicas() == {"llama": 2, "tp1": 2}
    running.cluster.outdated = False
    await running.run(10, until=lambda: reshaped(running))


async def test_a_deployment_of_somebody_else_under_the_siblings_name_is_told(running):
    await running.run(30, until=lambda: running.reshape)
    name = running.reshape.to
    other = running.cluster.deployments_[name] = make_deployment(1)
    other["metadata"]["name"] = name
    await running.run(3)
    assert running.writes("create") == []
    status, reason, message = running.told("Progressing")
    assert (status, reason) == ("False", "ReshapeRefused")
    assert repr(name) in message


async def test_without_room_for_another_shape_none_is_planned(monkeypatch):
    running = Running(monkeypatch, nodes="a")  # which both replicas fill
    await running.run(20)
    assert running.replicas() == {"llama": 1}


async def test_where_nodes_are_added_for_pods_that_wait_there_is_always_room(monkeypatch):
    running = Running(monkeypatch, nodes="a", elastic_nodes=True)
    await running.run(10, until=lambda: running.replicas().get("tp1"))
    assert running.replicas() == {"llama": 2, "tp1": 2}
    assert running.serving() == {"llama": 2, "tp1": 0}  # they wait for a node
    running.cluster.nodes_.append(make_node("new"))
    await running.run(30, until=lambda: reshaped(running))


async def test_explicit_sizes_that_cannot_be_are_named(monkeypatch):
    running = Running(monkeypatch, tensorParallelSizes=[1, 16, 64])
    await running.run(2)
    status, reason, message = running.told("Progressing")
    assert (status, reason) == ("False", "ReshapeRefused")
    assert "16" in message
    assert "64" in message


async def test_sizes_that_cannot_be_are_not_told_where_nobody_asked_for_them(running):
    await running.run(2)
    assert running.reason("Progressing") == "Steady"


async def test_a_deployment_that_cannot_be_copied_is_told_and_only_scaled(monkeypatch):
    deployment = make_deployment(2, gpus=4, hostNetwork=True)
    running = Running(monkeypatch, deployment)
    await running.run(20, until=lambda: running.replicas() == {"llama": 1})
    await running.run(5)
    status, reason, message = running.told("Progressing")
    assert (status, reason) == ("False", "ReshapeRefused")
    assert "hostNetwork" in message
