"""What was changed is given back: when the user takes a knob away, and when the LLMService is deleted."""

import pytest

from dynawatt.api.group import CLAIM_ANNOTATION
from dynawatt.controller.adopting import adopted_as
from dynawatt.controller.shapes.leaving import DELETION_COST
from dynawatt.controller.target import Workload

from .conftest import make_deployment
from .running import Hands, Running, occupied

LOAD_RPS = 6.0


@pytest.fixture
async def reshaped(monkeypatch):
    """A service whose two replicas on four GPUs each gave way to two on one GPU."""
    running = Running(monkeypatch)
    await running.run(30, until=lambda: running.draft and running.replicas() == {"llama": 0, "tp1": 2})
    await running.run(30, until=lambda: running.reshape is None)
    running.check = lambda: running.carried_rps() >= LOAD_RPS or pytest.fail("too few serve")
    return running


def is_given_back(running):
    return running.replicas() == {"llama": 2} and running.draft.status.adopted is None


async def test_without_the_knob_originals_come_before_siblings_go(reshaped):
    reshaped.spec["knobs"] = ["Clock", "Replicas"]
    seen = []
    reshaped.check = lambda: seen.append(reshaped.serving())
    writes = len(reshaped.writes())
    await reshaped.run(1)
    assert reshaped.told("Ready")[1:] == (
        "GivingBack",
        "giving back, because `knobs` does not allow other shapes any longer",
    )
    await reshaped.run(40, until=lambda: is_given_back(reshaped))
    written = [write for write in reshaped.writes()[writes:] if write[0] != "annotate"]
    assert written == [("scale", "llama", 1), ("scale", "llama", 2), ("scale", "tp1", 0), ("delete", "tp1")]
    assert min(sum(serving.values()) for serving in seen) == 2  # never fewer than before
    await reshaped.run(10)
    assert reshaped.reason("Ready") == "Reconciled"


async def test_mode_off_gives_everything_back_without_metrics(reshaped):
    reshaped.spec["mode"], reshaped.has_metrics = "Off", False
    await reshaped.run(40, until=lambda: is_given_back(reshaped))
    await reshaped.run(1)
    assert reshaped.told("Ready")[:2] == ("True", "SwitchedOff")
    assert reshaped.told("Progressing") == ("False", "Steady", "2 replicas are Ready")
    assert reshaped.cluster.claims() == [None, None]


def break_template(running):
    """What the user's Deployment runs cannot be read any more; its own pods are not there to be replaced."""
    deployment = running.cluster.deployment_
    deployment["spec"]["template"]["spec"]["containers"][0]["args"] = ["--config=elsewhere.yaml"]
    running.cluster.bump(deployment)


@pytest.mark.parametrize("mode", ["Off", "Recommend"])
async def test_a_template_that_cannot_be_read_any_more_keeps_nothing_from_being_given_back(reshaped, mode):
    break_template(reshaped)
    await reshaped.run(3)
    assert reshaped.told("Ready")[:2] == ("False", "UnsupportedDeployment")
    assert reshaped.serving() == {"llama": 0, "tp1": 2}  # and until then all stays
    reshaped.spec["mode"] = mode
    await reshaped.run(40, until=lambda: is_given_back(reshaped))
    await reshaped.run(1)
    assert reshaped.serving() == {"llama": 2}
    assert reshaped.cluster.claims() == [None, None]
    assert reshaped.reason("Ready") == ("SwitchedOff" if mode == "Off" else "UnsupportedDeployment")
    assert reshaped.draft.status.summary.replicas == "2/2"


async def test_a_sibling_that_cannot_be_read_any_more_is_given_back_too(reshaped):
    container = reshaped.cluster.named("tp1")["spec"]["template"]["spec"]["containers"][0]
    container["args"] = ["--config=elsewhere.yaml"]
    reshaped.cluster.bump(reshaped.cluster.named("tp1"))
    reshaped.spec["mode"] = "Off"
    await reshaped.run(40, until=lambda: is_given_back(reshaped))


async def test_giving_back_is_gone_on_from_whoever_does_it(reshaped):
    reshaped.spec["mode"] = "Off"
    for _ in range(40):
        await reshaped.run(1)
        reshaped.start()
        if is_given_back(reshaped):
            return
    pytest.fail("never done")


async def test_giving_back_that_was_called_off_is_forgotten(reshaped):
    """Or the next one would be late from the start."""
    occupy(reshaped)
    reshaped.spec["mode"] = "Off"
    await reshaped.run(4)
    reshaped.spec["mode"] = "Auto"
    await reshaped.run(80)
    assert reshaped.reason("Ready") == "Reconciled"
    reshaped.spec["mode"] = "Off"
    await reshaped.run(2)
    looks = await reshaped.give_back(each_s=20.0)
    assert looks * 20.0 == pytest.approx(reshaped.settings.give_back_timeout_s, abs=40.0)


async def test_deletion_gives_back_claims_replicas_and_siblings(reshaped):
    await reshaped.give_back()
    assert reshaped.replicas() == {"llama": 2}
    assert reshaped.serving() == {"llama": 2}
    assert reshaped.cluster.claims() == [None, None]


@pytest.mark.parametrize("number", range(1, 5))
@pytest.mark.parametrize("before", [True, False])
async def test_an_operator_that_dies_while_it_gives_back_is_gone_on_from(reshaped, number, before):
    reshaped.start(Hands(reshaped.cluster, number, before=before))
    await reshaped.give_back()
    assert reshaped.hands.dies_at is None
    assert reshaped.serving() == {"llama": 2}


async def test_deletion_in_the_middle_of_a_change_gives_back(monkeypatch):
    running = Running(monkeypatch)
    await running.run(7)
    assert running.serving() == {"llama": 2, "tp1": 0}
    await running.give_back()
    assert running.serving() == {"llama": 2}


async def test_a_sibling_that_cannot_be_deleted_yet_is_tried_again(reshaped):
    """Its status changes whenever one of its pods does, and what is deleted must be as it was read."""
    refused = []
    delete = reshaped.cluster.delete_deployment

    def busy(deployment):
        refused.append(deployment)
        return delete(deployment) if len(refused) > 2 else False

    reshaped.cluster.delete_deployment = busy
    await reshaped.give_back()
    assert len(refused) == 3
    assert reshaped.replicas() == {"llama": 2}


def occupy(running):
    """No node has room for an original replica any more."""
    running.cluster.pods_ += [occupied("a", 5), occupied("b", 5)]


async def test_without_room_siblings_go_on_serving_and_it_is_told(reshaped):
    occupy(reshaped)
    reshaped.spec["mode"] = "Off"
    await reshaped.run(80)
    assert reshaped.serving() == {"llama": 0, "tp1": 2}
    assert reshaped.told("Progressing")[:2] == ("False", "NoSpareCapacity")
    assert reshaped.reason("Ready") == "GivingBack"


async def test_a_deletion_that_takes_too_long_leaves_siblings_serving(reshaped):
    occupy(reshaped)
    looks = await reshaped.give_back(each_s=20.0)
    assert looks * 20.0 == pytest.approx(reshaped.settings.give_back_timeout_s, abs=40.0)
    assert reshaped.replicas() == {"llama": 2, "tp1": 2}  # the originals start when there is room
    assert reshaped.serving() == {"llama": 0, "tp1": 2}


async def test_how_long_a_deletion_may_take_counts_from_the_deletion_on(reshaped):
    occupy(reshaped)
    reshaped.spec["mode"] = "Off"
    await reshaped.run(80)
    looks = await reshaped.give_back(each_s=20.0)
    assert looks * 20.0 == pytest.approx(reshaped.settings.give_back_timeout_s, abs=40.0)


async def test_without_the_users_deployment_siblings_go_with_the_llmservice(reshaped):
    reshaped.check = lambda: None
    reshaped.cluster.deployment_ = None
    await reshaped.run(2)
    assert reshaped.reason("Ready") == "DeploymentNotFound"
    assert reshaped.serving() == {"tp1": 2}
    assert await reshaped.give_back() > 0
    assert reshaped.replicas() == {}
    assert all("deletionTimestamp" in pod["metadata"] for pod in reshaped.cluster.pods_)


async def test_a_status_that_was_lost_never_stops_what_serves(reshaped):
    """An LLMService deleted by force, without its finalizer, leaves siblings; the next one finds them."""
    reshaped.status, reshaped.spec["mode"] = {}, "Recommend"
    reshaped.start()
    await reshaped.run(40, until=lambda: len(reshaped.replicas()) == 1)
    assert reshaped.replicas() == {"llama": 1}  # four GPUs, no fewer than those of the siblings


@pytest.mark.parametrize("status", [{}, {"shapes": "of a later version", "adopted": {"replicas": 2, "commanded": 0}}])
async def test_deletion_gives_back_whatever_was_on_record(reshaped, status):
    reshaped.status = status
    reshaped.start()
    await reshaped.give_back()
    assert reshaped.serving() == {"llama": 2 if status else 1}


@pytest.mark.parametrize(
    ("own", "sizes", "found"),
    [
        ({"replicas": 3}, [], (3, None)),
        ({"replicas": 3}, [(0, 1)], (3, None)),
        ({"replicas": 0, "gpus": 4}, [(2, 1)], (1, 0)),
        ({"replicas": 0, "gpus": 4}, [(5, 1)], (2, 0)),
        ({"replicas": 1, "gpus": 1}, [(1, 4), (1, 2)], (7, 1)),
    ],
)
def test_what_counts_as_found_has_as_many_gpus_as_all(own, sizes, found):
    siblings = [Workload(make_deployment(replicas, gpus=gpus), []) for replicas, gpus in sizes]
    adopted = adopted_as(Workload(make_deployment(**own), []), siblings)
    assert (adopted.replicas, adopted.commanded) == found


async def test_replicas_that_somebody_else_set_are_kept(reshaped):
    reshaped.cluster.scaled_by("argocd-controller", "llama", 3)
    reshaped.clock.settle()
    await reshaped.give_back()
    assert reshaped.replicas() == {"llama": 3}


async def test_pods_are_left_without_any_mark(monkeypatch):
    running = Running(monkeypatch, make_deployment(3, gpus=1), nodes="a", knobs=["Clock", "Replicas"])
    await running.run(10, until=lambda: any(marks(running)))
    assert any({DELETION_COST} <= each for each in marks(running))
    running.load_rps = 14.0  # the plan changes its mind
    running.spec["mode"] = "Off"
    await running.run(3)
    assert running.replicas() == {"llama": 3}
    assert marks(running) == [set(), set(), set()]


def marks(running):
    pods = running.cluster.pods_
    return [set(pod["metadata"].get("annotations") or {}) - {CLAIM_ANNOTATION} for pod in pods]


async def test_pods_that_load_when_it_ends_are_not_protected_for_ever(monkeypatch):
    running = Running(monkeypatch, make_deployment(1, gpus=1), nodes="a", knobs=["Clock", "Replicas"])
    running.load_rps = 9.0
    await running.run(10, until=lambda: sum(map(len, marks(running))) > 0)
    running.spec["mode"] = "Off"
    await running.run(2)
    assert marks(running) == [set()]
