import json
import time
import urllib.parse
import urllib.request

import pytest

from ..definitions.of_others import served

pytestmark = pytest.mark.integration

WAIT_S = 90.0
TICKS_S = 4.0  # a few looks of the operator
SCALERS = {"ScaledObject": ("keda.sh", "v1alpha1"), "VerticalPodAutoscaler": ("autoscaling.k8s.io", "v1")}


@pytest.fixture(scope="module")
def installed(dynawatt_sandbox, dynawatt_kubectl):
    """KEDA's and the VPA's kinds. The operator looks for missing ones only every few minutes, and when it starts."""
    with served(dynawatt_kubectl, *SCALERS):
        dynawatt_sandbox.stop_operator()
        dynawatt_sandbox.start_operator()
        yield


@pytest.fixture(scope="module")
def service(managed, installed):
    """Under load for as long as the module runs; one of its two replicas would do."""
    service = managed("shared")
    service.deploy(replicas=2)
    load = service.load()
    yield service
    assert load.stop().failed == 0


@pytest.fixture
def observed(service, until):
    """Its two replicas are its own again, and a plan can be made."""
    service.manage(mode="Recommend")
    service.until("Ready", "True", "Recommending")
    until(lambda: service.settled(2), within_s=WAIT_S)
    return service


@pytest.fixture
def create(dynawatt_kubectl):
    """Creates objects that are gone after the test."""
    made = []

    def apply(kind, api_version, name, spec):
        body = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}
        dynawatt_kubectl("apply", "--filename=-", stdin=json.dumps(body))
        made.append((kind, name))

    yield apply
    for kind, name in made:
        dynawatt_kubectl("delete", kind, name)


def scaler_of(service):
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": service.name}


def scaled_object_spec(service):
    trigger = {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "80"}}
    return {"scaleTargetRef": scaler_of(service), "triggers": [trigger]}


def vpa_spec(service):
    return {"targetRef": scaler_of(service), "updatePolicy": {"updateMode": "Recreate"}}


def hpa_spec(service):
    resource = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    metrics = [{"type": "Resource", "resource": resource}]
    return {"scaleTargetRef": scaler_of(service), "minReplicas": 2, "maxReplicas": 4, "metrics": metrics}


@pytest.mark.parametrize(
    ("kind", "spec", "reason"),
    [("ScaledObject", scaled_object_spec, "ScaledByKEDA"), ("VerticalPodAutoscaler", vpa_spec, "ResizedByVPA")],
)
def test_another_autoscaler_keeps_its_replicas(observed, create, until, kind, spec, reason):
    generation = observed.deployment()["metadata"]["generation"]
    create(kind, "/".join(SCALERS[kind]), "theirs", spec(observed))
    if kind == "ScaledObject":  # KEDA makes an HPA of its own, which it is no use to delete
        create("HorizontalPodAutoscaler", "autoscaling/v2", "keda-hpa-theirs", hpa_spec(observed))
    observed.manage()
    message = observed.until("Conflicting", "True", reason)
    assert message.startswith(f"{kind} theirs changes the same Deployment")
    assert "`spec.replicas.scaledBy: External`" in message
    until(lambda: observed.condition("Ready")[:2] == ("False", reason), within_s=WAIT_S)
    until(observed.claimed, within_s=WAIT_S)  # clocks still follow the load
    assert observed.deployment()["metadata"]["generation"] == generation


def test_when_the_other_autoscaler_is_gone_it_goes_on(observed, dynawatt_kubectl, create, until):
    create("ScaledObject", "/".join(SCALERS["ScaledObject"]), "theirs", scaled_object_spec(observed))
    observed.manage()
    observed.until("Conflicting", "True", "ScaledByKEDA")
    dynawatt_kubectl(
        "patch", "scaledobject", "theirs", "--type=merge", '--patch={"spec":{"scaleTargetRef":{"name":"x"}}}'
    )
    observed.until("Conflicting", "False", "NoConflict")
    until(lambda: observed.replicas() == 1, within_s=WAIT_S)


def test_gitops_is_told_what_to_ignore_and_not_fought(observed, dynawatt_kubectl, until):
    observed.manage()
    until(lambda: observed.replicas() == 1, within_s=WAIT_S)
    until(lambda: observed.status()["adopted"].get("commanded") == 1, within_s=WAIT_S)
    manager = "--field-manager=argocd-controller"
    dynawatt_kubectl("patch", "deployment", observed.name, manager, "--type=merge", '--patch={"spec":{"replicas":2}}')
    generation = observed.deployment()["metadata"]["generation"]
    message = observed.until("Conflicting", "True", "ForeignWrite")
    assert "'argocd-controller' set 2 replicas" in message
    assert "ignore differences in `/spec/replicas`" in message
    time.sleep(TICKS_S)
    assert observed.deployment()["metadata"]["generation"] == generation


def desired_replicas(sandbox, service):
    query = urllib.parse.urlencode({"query": f'dynawatt_desired_replicas{{llmservice="{service.name}"}}'})
    with urllib.request.urlopen(f"{sandbox.prometheus_url}/api/v1/query?{query}", timeout=10) as answer:
        found = json.load(answer)["data"]["result"]
    return [float(one["value"][1]) for one in found]


def test_an_external_scaler_is_told_a_number_and_nothing_is_written(observed, create, dynawatt_sandbox, until):
    create("HorizontalPodAutoscaler", "autoscaling/v2", "theirs", hpa_spec(observed))
    generation = observed.deployment()["metadata"]["generation"]
    observed.manage(replicas={"min": 1, "max": 4, "scaledBy": "External"})
    observed.until("Ready", "True", "Reconciled")
    observed.until("Conflicting", "False", "NoConflict")
    until(lambda: desired_replicas(dynawatt_sandbox, observed) == [1.0], within_s=WAIT_S)
    until(observed.claimed, within_s=WAIT_S)
    time.sleep(TICKS_S)
    assert observed.deployment()["metadata"]["generation"] == generation
    assert observed.replicas() == 2
    assert "adopted" not in observed.status()
