"""A user's Deployment and its sibling under the real Deployment, ReplicaSet and disruption controllers."""

import re

import httpx
import pytest
import yaml

from dynawatt.adapters.kubernetes.client import (
    API_ERRORS,
    MERGE_PATCH,
    api_client,
    is_conflict,
    request_json,
    resource_path,
)
from dynawatt.api.group import SHAPE_LABEL
from dynawatt.controller.shapes.budgets import allowance
from dynawatt.controller.shapes.leaving import deletion_cost_changes, is_ready, order_of_leaving
from dynawatt.controller.shapes.refusals import template_refusals
from dynawatt.controller.shapes.roll import is_behind, rolled
from dynawatt.controller.shapes.shape import Shape, shape_of
from dynawatt.controller.shapes.sibling import Rollout, sibling_of

from ..controller.shapes.manifests import kserve, one_gpu, production_stack

pytestmark = pytest.mark.integration

NAMESPACE = "default"
SERVICE = f"{NAMESPACE}/llama"
TP4 = Shape(4, max_num_batched_tokens=1024, gpu_product="NVIDIA-H100-80GB-HBM3")
DEPLOYMENTS = resource_path("apps/v1", "deployments", namespace=NAMESPACE)
REPLICA_SETS = resource_path("apps/v1", "replicasets", namespace=NAMESPACE)
PODS = resource_path("v1", "pods", namespace=NAMESPACE)
SERVICES = resource_path("v1", "services", namespace=NAMESPACE)
BUDGETS = resource_path("policy/v1", "poddisruptionbudgets", namespace=NAMESPACE)
WITHIN_S = 60.0

TEMPLATE = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  namespace: default
  labels: {{app: {name}, app.kubernetes.io/instance: {name}}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 20
      containers:
      - name: server
        image: vllm/vllm-openai:v0.32.0
        args: [meta-llama/Llama-3.1-8B-Instruct, -tp, "2", --shutdown-timeout, "10"]
        ports: [{{name: http, containerPort: 8000}}]
        resources:
          requests: {{cpu: "16", memory: 100Gi}}
          limits: {{memory: 100Gi, nvidia.com/gpu: 2}}
        livenessProbe: {{httpGet: {{path: /health, port: http}}}}
        readinessProbe: {{httpGet: {{path: /health, port: http}}}}
        lifecycle: {{preStop: {{sleep: {{seconds: 1}}}}}}
"""


class Service:
    """The Deployments of one LLMService, its template first."""

    def __init__(self, api, until, name):
        self.api, self.until, self.name = api, until, name
        self.send("POST", DEPLOYMENTS, yaml.safe_load(TEMPLATE.format(name=name)))
        self.sibling_name = None

    def send(self, method, path, body=None, **options):
        return request_json(self.api, method, path, body=body, **options)

    def deployment(self, name=None):
        return self.send("GET", f"{DEPLOYMENTS}/{name or self.name}")

    def sibling(self):
        return self.deployment(self.sibling_name)

    def make_sibling(self, shape=TP4, **options):
        made = self.send("POST", DEPLOYMENTS, sibling_of(self.deployment(), shape, service=SERVICE, **options))
        self.sibling_name = made["metadata"]["name"]
        return made

    def scale(self, replicas, name=None):
        self.send(
            "PATCH",
            f"{DEPLOYMENTS}/{name or self.name}/scale",
            {"spec": {"replicas": replicas}},
            content_type=MERGE_PATCH,
        )

    def roll(self, **options):
        """Put the sibling in its place as the template has it now, once more where its status changed meanwhile."""
        path = f"{DEPLOYMENTS}/{self.sibling_name}"
        while True:
            body = rolled(self.deployment(), self.sibling(), service=SERVICE, **options)
            try:
                return body, self.send("PUT", path, body)
            except API_ERRORS as error:
                if not is_conflict(error):
                    raise

    def all_pods(self):
        """Whatever the user's Service, which selects by the label app, would send requests to."""
        return self.send("GET", PODS, query={"labelSelector": f"app={self.name}"})["items"]

    def pods(self, shape=None):
        """Of the template, or of a shape."""
        digest = shape and shape.digest
        return [pod for pod in self.all_pods() if pod["metadata"]["labels"].get(SHAPE_LABEL) == digest]

    def settle(self, own, further, shape=TP4):
        """Wait until so many pods of template and sibling are Ready and all others gone."""

        def settled():
            found = [self.pods(), self.pods(shape)]
            counts = [[len(pods), sum(map(is_ready, pods))] for pods in found]
            return counts == [[own, own], [further, further]]

        self.until(settled, within_s=WITHIN_S)

    def owner_names(self, path, kind):
        """Name of the owner of every object of the service."""
        found = self.send("GET", path, query={"labelSelector": f"app={self.name}"})["items"]
        owners = {one["metadata"]["name"]: one["metadata"]["ownerReferences"] for one in found}
        assert {len(each) for each in owners.values()} <= {1}
        assert {each[0]["kind"] for each in owners.values()} <= {kind}
        return {name: each[0]["name"] for name, each in owners.items()}


def uids(pods):
    return {pod["metadata"]["uid"] for pod in pods}


@pytest.fixture(scope="module")
def api(sandbox):
    return api_client(sandbox.kubeconfig)


@pytest.fixture
def service(api, until, request):
    name = re.sub(r"\W+|_", "-", request.node.name)[5:35].strip("-")
    made = Service(api, until, name)
    yield made
    background = {"propagationPolicy": "Background"}
    for found in made.send("GET", DEPLOYMENTS)["items"]:
        if found["metadata"]["name"].startswith(name):
            made.send("DELETE", f"{DEPLOYMENTS}/{found['metadata']['name']}", background)
    until(lambda: not made.all_pods(), within_s=WITHIN_S)


@pytest.fixture
def shaped(service):
    """Two pods of the template and one of its sibling, all Ready."""
    service.make_sibling()
    service.scale(1, service.sibling_name)
    service.settle(2, 1)
    return service


def metric(pod, name):
    page = httpx.get(f"http://{pod['status']['podIP']}:8000/metrics").text
    return re.search(rf'{name}="(\d+)"', page)[1]


def test_a_sibling_serves_with_its_own_tensor_parallelism(shaped):
    [pod] = shaped.pods(TP4)
    own = shaped.pods()[0]
    container = pod["spec"]["containers"][0]
    assert container["args"][-2:] == ["--tensor-parallel-size=4", "--max-num-batched-tokens=1024"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "4", "memory": "200Gi"}
    assert container["resources"]["requests"] == {"nvidia.com/gpu": "4", "memory": "200Gi", "cpu": "32"}
    assert pod["spec"]["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    # Twice the GPUs hold more than twice the KV cache, because the weights take up less of each.
    assert int(metric(pod, "num_gpu_blocks")) > 2 * int(metric(own, "num_gpu_blocks"))


def test_the_users_service_reaches_both(shaped):
    spec = {"selector": {"app": shaped.name}, "ports": [{"port": 8000}]}
    made = shaped.send("POST", SERVICES, {"metadata": {"name": shaped.name}, "spec": spec}, query={"dryRun": "All"})
    selector = ",".join(f"{key}={value}" for key, value in made["spec"]["selector"].items())
    reached = shaped.send("GET", PODS, query={"labelSelector": selector})["items"]
    assert uids(reached) == uids(shaped.pods()) | uids(shaped.pods(TP4))
    assert len(reached) == 3


def test_template_and_sibling_leave_each_others_pods_alone(shaped):
    replica_sets = shaped.owner_names(REPLICA_SETS, "Deployment")
    assert sorted(replica_sets.values()) == sorted([shaped.name, shaped.sibling_name])
    owners = shaped.owner_names(PODS, "ReplicaSet").values()
    assert sorted(replica_sets[owner] for owner in owners) == sorted([shaped.name] * 2 + [shaped.sibling_name])
    # The template's selector matches the sibling's pods too, yet it counts only its own.
    assert [found["status"]["replicas"] for found in (shaped.deployment(), shaped.sibling())] == [2, 1]

    kept = uids(shaped.pods(TP4))
    shaped.scale(0)
    shaped.settle(0, 1)
    shaped.scale(1)
    shaped.settle(1, 1)
    assert uids(shaped.pods(TP4)) == kept
    own = uids(shaped.pods())
    shaped.scale(0, shaped.sibling_name)
    shaped.settle(1, 0)
    shaped.scale(2, shaped.sibling_name)
    shaped.settle(1, 2)
    assert uids(shaped.pods()) == own
    assert shaped.owner_names(REPLICA_SETS, "Deployment") == replica_sets


def test_a_pod_prefers_the_nodes_of_its_service(shaped):
    shaped.scale(1)
    shaped.scale(0, shaped.sibling_name)
    shaped.settle(1, 0)
    shaped.scale(1, shaped.sibling_name)  # the other node is empty
    shaped.settle(1, 1)
    assert len({pod["spec"]["nodeName"] for pod in shaped.all_pods()}) == 1


def edit(service, **container):
    body = {"spec": {"template": {"spec": {"containers": [{"name": "server", **container}]}}}}
    service.send("PATCH", f"{DEPLOYMENTS}/{service.name}", body, content_type="application/strategic-merge-patch+json")


def test_edits_of_the_template_roll_through(shaped):
    unrolled, before = uids(shaped.pods(TP4)), shaped.sibling()
    assert not is_behind(shaped.deployment(), before)
    # Written again from the same template nothing changes: what is rendered is what the API server makes of it.
    _, same = shaped.roll()
    assert same["metadata"]["generation"] == before["metadata"]["generation"]

    edit(shaped, env=[{"name": "EDITED", "value": "yes"}])
    assert is_behind(shaped.deployment(), shaped.sibling())
    shaped.until(lambda: {pod["spec"]["containers"][0].get("env") is not None for pod in shaped.pods()} == {True})
    shaped.settle(2, 1)
    assert uids(shaped.pods(TP4)) == unrolled  # not by itself

    outdated, _ = shaped.roll(rollout=Rollout.within(1))
    shaped.until(lambda: not unrolled & uids(shaped.pods(TP4)), within_s=WITHIN_S)
    shaped.settle(2, 1)
    [pod] = shaped.pods(TP4)
    assert pod["spec"]["containers"][0]["env"] == [{"name": "EDITED", "value": "yes"}]
    assert pod["spec"]["containers"][0]["args"][-2] == "--tensor-parallel-size=4"
    assert not is_behind(shaped.deployment(), shaped.sibling())
    assert shape_of(shaped.sibling()) == TP4

    with pytest.raises(API_ERRORS) as caught:  # rendered from a version that is not the present one
        shaped.send("PUT", f"{DEPLOYMENTS}/{shaped.sibling_name}", outdated)
    assert is_conflict(caught.value)


def test_a_sibling_deleted_without_its_pods_loses_them_to_the_template(shaped):
    """So siblings are deleted with their pods, after these have been drained; `--cascade=orphan` only looks kinder."""
    shaped.send("DELETE", f"{DEPLOYMENTS}/{shaped.sibling_name}", {"propagationPolicy": "Orphan"})
    shaped.settle(2, 0)
    assert set(shaped.owner_names(REPLICA_SETS, "Deployment").values()) == {shaped.name}


def test_the_chosen_pod_is_the_one_that_goes(shaped):
    shaped.scale(0)
    shaped.scale(3, shaped.sibling_name)
    shaped.settle(0, 3)
    pods = shaped.pods(TP4)
    on_node = {pod["spec"]["nodeName"]: 0 for pod in pods}
    for pod in pods:
        on_node[pod["spec"]["nodeName"]] += 1
    chosen = order_of_leaving(pods, running_requests={}, pods_on_node=on_node)[:1]
    [(name, cost)] = deletion_cost_changes(pods, chosen).items()
    annotations = {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": cost}}}
    shaped.send("PATCH", f"{PODS}/{name}", annotations, content_type=MERGE_PATCH)
    shaped.scale(2, shaped.sibling_name)
    shaped.settle(0, 2)
    assert uids(shaped.pods(TP4)) == uids(pods) - uids(chosen)


def test_a_disruption_budget_counts_the_pods_of_all_shapes(shaped):
    budget = f"{BUDGETS}/{shaped.name}"
    spec = {"minAvailable": 2, "selector": {"matchLabels": {"app": shaped.name}}}
    shaped.send("POST", BUDGETS, {"metadata": {"name": shaped.name}, "spec": spec})

    def allowed():
        return allowance([shaped.send("GET", budget)], shaped.pods()).pods

    try:
        shaped.until(lambda: allowed() == 1)
        shaped.scale(0, shaped.sibling_name)
        shaped.settle(2, 0)
        shaped.until(lambda: allowed() == 0)
    finally:
        shaped.send("DELETE", budget)


def test_the_template_can_be_copied(service):
    assert template_refusals(service.deployment(), volume_claims={}) == []


@pytest.mark.parametrize("shape", [Shape(1), TP4, Shape(8, max_num_seqs=64, long_prefill_token_threshold=0)])
@pytest.mark.parametrize("make", [production_stack, kserve, one_gpu])
def test_the_api_server_takes_siblings_of_all_kinds(api, make, shape):
    """Template and sibling, with every field known to the API server."""
    template = make() | {"apiVersion": "apps/v1", "kind": "Deployment"}
    for name in ("uid", "resourceVersion", "managedFields", "ownerReferences"):
        template["metadata"].pop(name, None)
    template["metadata"]["namespace"] = NAMESPACE
    dry_run = {"dryRun": "All", "fieldValidation": "Strict"}
    template = request_json(api, "POST", DEPLOYMENTS, query=dry_run, body=template)
    sibling = sibling_of(template, shape, service=SERVICE, startup_s=400.0, rollout=Rollout.within(2))
    made = request_json(api, "POST", DEPLOYMENTS, query=dry_run, body=sibling)
    assert shape_of(made) == shape
    assert made["spec"]["template"] == sibling["spec"]["template"]  # nothing had to be defaulted or written otherwise
