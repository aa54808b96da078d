import pytest

from dynawatt.api.conditions import Reason
from dynawatt.api.llmservice_status import Adopted
from dynawatt.controller.conflicts import autoscaler_conflict, foreign_conflict, foreign_writer, left_by_predecessor
from dynawatt.controller.target import read_target, read_workload

from .conftest import make_deployment


def target(*siblings, **fields):
    own, *others = [read_workload(each, []) for each in (make_deployment(**fields), *siblings)]
    return read_target(own, others, name="llama", container=None)


def sibling(**fields):
    made = make_deployment(gpus=2, **fields)
    made["metadata"]["name"] = "llama-abc"
    return made


@pytest.mark.parametrize(
    ("replicas", "writer", "adopted", "foreign"),
    [
        (2, "kubectl", None, None),
        (2, "kubectl", Adopted(replicas=2), None),
        (5, "kubectl", Adopted(replicas=2), "kubectl"),
        (1, "dynawatt", Adopted(replicas=2), None),  # scaled, and died before that was on record
        (1, "dynawatt", Adopted(replicas=2, commanded=1), None),
        (1, "dynawatt", Adopted(replicas=2, commanded=3), None),
        (5, "kubectl", Adopted(replicas=2, commanded=1), "kubectl"),
        (1, "kubectl", Adopted(replicas=2, commanded=1), None),
    ],
)
def test_foreign_writer(workload, replicas, writer, adopted, foreign):
    assert foreign_writer(workload(replicas=replicas, writer=writer), adopted) == foreign


def test_of_a_scale_to_nothing_no_writer_is_recorded(workload):
    own, adopted = workload(replicas=0), Adopted(replicas=2, commanded=1)
    own.deployment["metadata"]["managedFields"] = []
    others = [read_workload(sibling(replicas=2), [])]
    assert foreign_writer(own, adopted) == "somebody"
    assert left_by_predecessor(own, others, adopted)
    assert not left_by_predecessor(own, [], adopted)  # without siblings dynawatt never asks for nothing
    assert not left_by_predecessor(own, others, Adopted(replicas=2, commanded=0))


def test_who_scales_the_users_deployment_is_named_with_what_dynawatt_asked_for():
    reason, message = foreign_conflict(target(replicas=5, writer="kubectl"), Adopted(replicas=4, commanded=2))
    assert reason is Reason.FOREIGN_WRITE
    assert message.startswith("'kubectl' set 5 replicas of Deployment 'llama' after dynawatt asked for 2: ")


@pytest.mark.parametrize("writer", ["argocd-controller", "kustomize-controller", "helm-controller", "flux-client"])
def test_gitops_controllers_are_told_what_to_ignore(writer):
    _, message = foreign_conflict(target(replicas=5, writer=writer), Adopted(replicas=4))
    assert "ignore differences in `/spec/replicas`" in message


def test_who_scales_a_sibling_is_named():
    _, message = foreign_conflict(target(sibling(replicas=3, writer="kubectl")), None)
    assert message.startswith("'kubectl' set 3 replicas of Deployment 'llama-abc'")


@pytest.mark.parametrize("writer", ["dynawatt", "somebody"])
def test_a_sibling_that_dynawatt_scaled_is_no_conflict(writer):
    made = sibling(writer=writer)
    if writer == "somebody":
        made["metadata"]["managedFields"] = []
    assert foreign_conflict(target(made), None) is None


@pytest.mark.parametrize(
    ("found", "reason", "told"),
    [
        ([], None, ""),
        ([("HorizontalPodAutoscaler", "b"), ("HorizontalPodAutoscaler", "a")], "ScaledByHPA", "a, b changes"),
        ([("HorizontalPodAutoscaler", "keda-hpa-x"), ("ScaledObject", "x")], "ScaledByKEDA", "ScaledObject x changes"),
        ([("VerticalPodAutoscaler", "v")], "ResizedByVPA", "VerticalPodAutoscaler v changes"),
    ],
)
def test_autoscalers(found, reason, told):
    conflict = autoscaler_conflict(found)
    assert conflict is None if reason is None else conflict[0] == reason
    assert conflict is None or told in conflict[1]
