"""What the doctor says of each LLMService, and of others that change its Deployment."""

import copy
import json

import pytest

from dynawatt.cli.doctor.check import Outcome
from dynawatt.cli.doctor.services import check_services

from .doctoring import facts, node, only
from .objects import MODEL, before, condition, deployment, pod, service, with_condition

OK, WARNING, FAILED, SKIPPED = Outcome


def checks(**changes):
    return list(check_services(facts(**changes)))


def with_container(change, **spec):
    """The Deployment with its container changed."""
    found = deployment(**spec)
    change(found["spec"]["template"]["spec"]["containers"][0], found["spec"]["template"]["spec"])
    return {("prod", "llama"): found}


def judged(name, found):
    check = only(found, name)
    return check.outcome, check.message


def test_nothing_is_wrong_with_a_service_in_order():
    found = checks()
    assert {check.outcome for check in found} == {OK}
    assert {check.about for check in found} == {"prod/llama"}
    assert {check.name for check in found} == {
        "Deployment", "vLLM", "profile", "drain", "start-up", "autoscaler", "status",
    }  # fmt: skip
    assert judged("vLLM", found)[1] == f"{MODEL}, TP1"
    assert judged("start-up", found)[1] == "starts take 120 s (measured) and may take 600 s"


def test_no_service_yet_or_none_that_may_be_listed():
    assert [check.outcome for check in checks(services=[])] == [OK]
    assert [check.outcome for check in checks(services=[], unread={"services": "403: no"})] == [SKIPPED]


def test_a_spec_of_another_version():
    [check] = checks(services=[service(spec={"slo": {"percentile": 200}})])
    assert (check.outcome, check.name) == (FAILED, "spec")
    assert "spec.slo.percentile: 200" in check.message
    assert "kubectl -n prod edit llmsvc llama" in check.remedy


def test_a_deployment_that_is_not_there():
    [check] = checks(deployments={("team", "llama"): deployment()})
    assert (check.outcome, check.message) == (FAILED, "llama does not exist in prod")


def test_two_services_on_one_deployment():
    found = checks(services=[service(), service("chat", spec={"deploymentRef": {"name": "llama"}})])
    messages = {check.about: check.message for check in found if check.name == "Deployment"}
    assert messages == {
        "prod/llama": "llama is managed by chat as well",
        "prod/chat": "llama is managed by llama as well",
    }
    assert {check.outcome for check in found if check.name == "Deployment"} == {FAILED}


def test_replicas_that_are_not_ready():
    assert judged("Deployment", checks(pods={"prod": [pod()]})) == (WARNING, "llama, 1 of 2 replicas Ready")


def shell(container, pod_spec):
    container["command"] = ["sh", "-c", "export A=1; vllm serve model"]
    container["args"] = []


def other_image(container, pod_spec):
    container |= {"image": "nginx", "args": []}


def pipeline(container, pod_spec):
    container["args"].append("--pipeline-parallel-size=2")


def too_large(container, pod_spec):
    container["args"].append("--tensor-parallel-size=16")


@pytest.mark.parametrize(
    ("change", "message", "remedy"),
    [
        (shell, "only one plain command can be read inside `sh -c`", "vLLM's arguments as a list"),
        (other_image, "no container runs vLLM (containers: server)", "Name the container"),
        (pipeline, "pipeline or data parallelism above 1 is not supported", "vLLM's arguments as a list"),
        (too_large, f"{MODEL}, TP16: no node has more than 8 GPUs", "Use a smaller --tensor-parallel-size"),
    ],
)
def test_vllm_that_cannot_be_managed(change, message, remedy):
    check = only(checks(deployments=with_container(change)), "vLLM")
    assert check.outcome is FAILED
    assert check.message.startswith(message)
    assert remedy in check.remedy


def test_a_model_or_a_gpu_without_profile():
    def unknown(container, pod_spec):
        container["args"][0] = "--model=acme/unheard-of-1t"

    check = only(checks(deployments=with_container(unknown)), "profile")
    assert check.outcome is FAILED
    assert "acme/unheard-of-1t" in check.message
    assert "dynawatt profile list" in check.remedy
    assert only(checks(nodes=[node(product="NVIDIA-Quantum-1")]), "profile").outcome is FAILED


def test_the_gpu_is_that_of_the_pods_or_else_the_only_one_they_may_have():
    mixed = [node(), node("gpu-2", product="NVIDIA-L40S")]
    assert judged("profile", checks(nodes=mixed))[1].endswith("on NVIDIA-H100-80GB-HBM3")
    assert only(checks(nodes=mixed, pods={}), "profile").outcome is SKIPPED

    def chosen(container, pod_spec):
        pod_spec["nodeSelector"] = {"nvidia.com/gpu.product": "NVIDIA-L40S"}

    selected = checks(nodes=mixed, pods={}, deployments=with_container(chosen))
    assert judged("profile", selected)[1].endswith("on NVIDIA-L40S")


def no_timeout(container, pod_spec):
    container["args"].pop()


def short_grace(container, pod_spec):
    pod_spec["terminationGracePeriodSeconds"] = 60


@pytest.mark.parametrize("change", [no_timeout, short_grace])
@pytest.mark.parametrize(
    ("spec", "outcome"),
    [({}, FAILED), ({"knobs": ["Clock"]}, WARNING), ({"mode": "Recommend"}, WARNING), ({"knobs": ["Shape"]}, FAILED)],
)
def test_drain_matters_where_replicas_are_changed(change, spec, outcome):
    found = checks(services=[service(spec=spec)], deployments=with_container(change))
    assert only(found, "drain").outcome is outcome
    assert "Deployment llama" in only(found, "drain").remedy
    assert not [check for check in found if check.name == "shapes" and "shutdown-timeout" in check.message]


def test_new_requests_are_refused_without_a_pause_before_the_stop():
    def no_sleep(container, pod_spec):
        del container["lifecycle"]

    check = only(checks(deployments=with_container(no_sleep)), "drain")
    assert check.outcome is WARNING
    assert "preStop" in check.remedy


def few_tries(container, pod_spec):
    container["startupProbe"]["failureThreshold"] = 3


def only_liveness(container, pod_spec):
    probe = container.pop("startupProbe")
    container["livenessProbe"] = probe | {"failureThreshold": 20}


def no_probe(container, pod_spec):
    del container["startupProbe"]


@pytest.mark.parametrize(
    ("change", "outcome", "message"),
    [
        (few_tries, FAILED, "the startup probe gives up after 30 s, and starts take 120 s (measured)"),
        (only_liveness, WARNING, "the liveness probe gives up after 200 s, and starts take 120 s (measured)"),
        (no_probe, OK, "no probe ends a slow start"),
    ],
)
def test_time_for_a_start(change, outcome, message):
    assert judged("start-up", checks(deployments=with_container(change))) == (outcome, message)


def test_without_pods_the_profile_tells_how_long_a_start_takes():
    outcome, message = judged("start-up", checks(pods={}))
    assert outcome is OK
    assert "(by the profile)" in message


def test_shapes_are_looked_at_where_they_may_be_changed():
    def readable(container, pod_spec):
        container["readinessProbe"] = {"httpGet": {"path": "/health", "port": 8000}}

    def on_host(container, pod_spec):
        readable(container, pod_spec)
        container["ports"][0]["hostPort"] = 8000

    shaped = [service(spec={"knobs": ["Shape"]})]
    assert only(checks(services=shaped, deployments=with_container(readable)), "shapes").outcome is OK
    refused = only(checks(services=shaped, deployments=with_container(on_host)), "shapes")
    assert refused.outcome is FAILED
    assert "take Shape out of `spec.knobs`" in refused.remedy
    unread = checks(services=shaped, unread={"volume_claims": "403: no"})
    assert only(unread, "shapes").outcome is SKIPPED


def scaler(kind, target="llama", **spec):
    field = "targetRef" if kind == "VerticalPodAutoscaler" else "scaleTargetRef"
    return {"kind": kind, "metadata": {"name": "mine"}, "spec": {field: {"kind": "Deployment", "name": target}} | spec}


HPA, KEDA, VPA = scaler("HorizontalPodAutoscaler"), scaler("ScaledObject"), scaler("VerticalPodAutoscaler")
EXTERNAL = {"replicas": {"scaledBy": "External"}}
AUTOSCALERS = {
    "HPA": ([HPA], {}, FAILED, "HorizontalPodAutoscaler mine changes the Deployment"),
    "HPA, replicas left alone": (
        [HPA],
        {"knobs": ["Clock"]},
        WARNING,
        "HorizontalPodAutoscaler mine changes the Deployment",
    ),
    "KEDA": ([KEDA], {}, FAILED, "ScaledObject mine changes the Deployment"),
    "VPA": ([VPA], {}, FAILED, "VerticalPodAutoscaler mine changes the Deployment"),
    "of another Deployment": ([scaler("ScaledObject", "else")], {}, OK, "nobody else scales the Deployment"),
    "wanted": ([HPA], EXTERNAL, OK, "HorizontalPodAutoscaler mine sets the replicas, as `scaledBy: External` says"),
    "wanted and missing": ([], EXTERNAL, WARNING, "`scaledBy` is External, but no autoscaler sets the replicas"),
}


@pytest.mark.parametrize(("scalers", "spec", "outcome", "message"), AUTOSCALERS.values(), ids=AUTOSCALERS)
def test_autoscalers(scalers, spec, outcome, message):
    found = checks(autoscalers={"prod": scalers, "else": [KEDA]}, services=[service(spec=spec)])
    assert judged("autoscaler", found) == (outcome, message)


def test_a_vpa_that_only_recommends_is_none():
    inert = scaler("VerticalPodAutoscaler", updatePolicy={"updateMode": "Off"})
    assert not [check for check in checks(autoscalers={"prod": [inert]}) if check.outcome is FAILED]


def test_neighbours_that_may_not_be_listed_are_not_taken_for_none():
    found = checks(unread={"autoscalers": "403: no", "budgets": "403: no"})
    assert only(found, "autoscaler").outcome is SKIPPED
    assert only(found, "disruption").outcome is SKIPPED


def budget(allowed, expected=2, app="llama"):
    status = {"expectedPods": expected, "disruptionsAllowed": allowed}
    return {"metadata": {"name": "pdb"}, "spec": {"selector": {"matchLabels": {"app": app}}}, "status": status}


def test_disruption_budgets():
    def told(found):
        return [check.outcome for check in checks(budgets={"prod": [found]}) if check.name == "disruption"]

    assert told(budget(0)) == [WARNING]
    assert told(budget(1)) == [OK]
    assert told(budget(0, expected=0)) == [OK]
    assert told(budget(0, app="else")) == []


def managed_by(manager, *, replicas, **metadata):
    found = deployment()
    fields = {"f:spec": {"f:replicas": {}} if replicas else {"f:template": {}}}
    found["metadata"] |= metadata
    found["metadata"]["managedFields"].append({"manager": manager, "time": before(hours=1), "fieldsV1": fields})
    return {("prod", "llama"): found}


GITOPS = {
    "Argo CD": ("argocd-controller", "jsonPointers: [/spec/replicas]"),
    "Flux": ("kustomize-controller", "Leave `replicas` out of the manifest"),
    "Flux's helm-controller": ("helm-controller", "driftDetection: {ignore: [{paths: [/spec/replicas]"),
    "Helm": ("helm", "Have the chart leave `replicas` out"),
}


@pytest.mark.parametrize(("tool", "manager", "remedy"), [(tool, *rest) for tool, rest in GITOPS.items()])
def test_gitops_that_sets_the_replicas(tool, manager, remedy):
    check = only(checks(deployments=managed_by(manager, replicas=True)), "GitOps")
    assert (check.outcome, check.message) == (FAILED, f"{tool} sets `replicas` of the Deployment")
    assert remedy in check.remedy
    assert "{{" not in check.remedy
    gentle = service(spec={"mode": "Recommend"})
    assert only(checks(deployments=managed_by(manager, replicas=True), services=[gentle]), "GitOps").outcome is WARNING
    leaves = only(checks(deployments=managed_by(manager, replicas=False)), "GitOps")
    assert (leaves.outcome, leaves.message) == (OK, f"{tool} manages the Deployment and leaves `replicas` alone")


def test_argo_cd_that_last_applied_replicas_from_the_client():
    applied = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"spec": {"replicas": 3}})}
    marks = {"annotations": applied | {"argocd.argoproj.io/tracking-id": "x"}}
    assert only(checks(deployments=managed_by("x", replicas=False, **marks)), "GitOps").outcome is FAILED
    # Without the mark it was somebody's kubectl.
    by_hand = checks(deployments=managed_by("x", replicas=False, annotations=applied))
    assert not [check for check in by_hand if check.name == "GitOps"]


def test_what_the_operator_says_is_passed_on():
    conditions = with_condition(condition("SLOAttainable", "False", "SLOUnreachable", "no"))
    check = only(checks(services=[service(status={"conditions": conditions})]), "status")
    assert (check.outcome, check.message) == (WARNING, "SLOAttainable is False, SLOUnreachable")
    assert check.command == "dynawatt explain prod/llama"
    unseen = only(checks(services=[{**service(), "status": {}}]), "status")
    assert (unseen.outcome, unseen.message) == (WARNING, "no operator has looked at it yet")


def test_deployments_or_pods_that_may_not_be_listed():
    for what in ("deployments", "pods"):
        [check] = checks(unread={what: "403: no"})
        assert (check.outcome, check.message) == (SKIPPED, "could not be read: 403: no")
        assert what in check.remedy


def test_facts_are_not_changed():
    known = facts()
    kept = copy.deepcopy((known.services, known.deployments, known.pods))
    list(check_services(known))
    assert (known.services, known.deployments, known.pods) == kept
