"""What each identity may do, tried with its own token on the real API server.

Every attempt is a dry run: it passes authorization and admission like any other
and changes nothing, so that the order of attempts does not matter.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml
from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException

from dynawatt.adapters.kubernetes.client import (
    MERGE_PATCH,
    api_client,
    describe_error,
    request_json,
    resource_path,
)
from dynawatt.adapters.kubernetes.cluster import Cluster
from dynawatt.api.group import (
    API_VERSION,
    CLAIM_ANNOTATION,
    DEFAULT_NAMESPACE,
    FINALIZER,
    GPUNODE_KIND,
    GPUNODE_PLURAL,
    LEASE_NAME,
    LLMSERVICE_KIND,
    LLMSERVICE_PLURAL,
    SHAPE_LABEL,
)
from dynawatt.api.switch import SWITCH_NAME
from dynawatt.sandbox.api import ApiServer
from dynawatt.sandbox.install import AGENT_ACCOUNT

pytestmark = pytest.mark.integration

NAMESPACE: Final = "access-test"
JSON_PATCH: Final = "application/json-patch+json"
DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
METHODS: Final = {"get": "GET", "list": "GET", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}

GPUNODES = resource_path(API_VERSION, GPUNODE_PLURAL)
SERVICES = resource_path(API_VERSION, LLMSERVICE_PLURAL, namespace=NAMESPACE)
PODS = resource_path("v1", "pods", namespace=NAMESPACE)
DEPLOYMENTS = resource_path("apps/v1", "deployments", namespace=NAMESPACE)
CLAIMS = resource_path("v1", "persistentvolumeclaims", namespace=NAMESPACE)
SECRETS = resource_path("v1", "secrets", namespace=NAMESPACE)
NODES = resource_path("v1", "nodes")
LEASES = resource_path("coordination.k8s.io/v1", "leases", namespace=DEFAULT_NAMESPACE)
SWITCHES = resource_path("v1", "configmaps", namespace=DEFAULT_NAMESPACE)
TOKENS = resource_path("v1", "serviceaccounts", namespace=DEFAULT_NAMESPACE, name=AGENT_ACCOUNT) + "/token"
POLICIES = resource_path("admissionregistration.k8s.io/v1", "validatingadmissionpolicies")
ROLES = resource_path("rbac.authorization.k8s.io/v1", "clusterrolebindings")

CONTAINER = {"name": "vllm", "image": "vllm/vllm-openai:v0.32.0"}
POD: dict[str, Any] = {
    "metadata": {
        "name": "vllm",
        "labels": {"app": "vllm"},
        "annotations": {CLAIM_ANNOTATION: "{}", "example.com/owner": "team"},
        "finalizers": ["example.com/keep"],
    },
    "spec": {"schedulerName": "nobody", "containers": [CONTAINER]},
}
VOLUME_CLAIM: dict[str, Any] = {
    "metadata": {"name": "weights"},
    "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
}
SERVICE: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "kind": LLMSERVICE_KIND,
    "metadata": {"name": "vllm"},
    "spec": {
        "deploymentRef": {"name": "vllm"},
        "slo": {"interTokenMilliseconds": 100, "timeToFirstToken": [{"milliseconds": 2000}]},
    },
}


def deployment(name: str, shape: str | None = None) -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [CONTAINER]}}
    return {
        "metadata": {"name": name, "labels": {"app": name} | ({} if shape is None else {SHAPE_LABEL: shape})},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
    }


def gpunode(name: str, **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": GPUNODE_KIND, "metadata": {"name": name, **metadata}}


def lease(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"holderIdentity": "test"}}


def metadata(**fields: Any) -> dict[str, Any]:
    return {"metadata": fields}


def annotations(**fields: str | None) -> dict[str, Any]:
    return metadata(annotations=fields)


def scale(replicas: int) -> dict[str, Any]:
    body = {"metadata": {"name": "vllm"}, "spec": {"replicas": replicas}}
    return {"apiVersion": "autoscaling/v1", "kind": "Scale", **body}


@dataclass(frozen=True)
class Attempt:
    who: str
    verb: str
    path: str
    change: str = ""
    """The change in words, where several are tried on one object."""
    body: Any = None
    denied: str = ""
    """What the refusal says; empty when it is allowed."""

    def __str__(self) -> str:
        words = [self.who, self.verb, *self.path.split("/")[-2:], self.change, "no" if self.denied else "yes"]
        return " ".join(word for word in words if word)


OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}
CLAIMED = {"status": {"summary": {"product": "H100", "gpuCount": 8, "allocated": 0, "claimed": 0}}}
ELSEWHERE = "an agent writes only the GPUNode of its own node: it runs on gpu-node-1, not on gpu-node-0"
NO_NODE = "an agent needs a token that is bound to its Pod, and this one names no node"
NAME_ONLY = "an agent creates its GPUNode with a name and no other metadata"

# The GPUNode of gpu-node-0 exists, that of gpu-node-1 does not.
AGENT = [
    Attempt("agent-0", "get", f"{GPUNODES}/gpu-node-0"),
    Attempt("agent-1", "create", GPUNODES, "own", gpunode("gpu-node-1")),
    Attempt("agent-1", "create", GPUNODES, "another's", gpunode("gpu-node-0"), ELSEWHERE),
    Attempt("agent-1", "create", GPUNODES, "labels", gpunode("gpu-node-1", labels={"a": "b"}), NAME_ONLY),
    Attempt("agent-1", "create", GPUNODES, "annotations", gpunode("gpu-node-1", annotations={"a": "b"}), NAME_ONLY),
    Attempt("agent-1", "create", GPUNODES, "finalizer", gpunode("gpu-node-1", finalizers=["a/b"]), NAME_ONLY),
    Attempt("agent-1", "create", GPUNODES, "owner", gpunode("gpu-node-1", ownerReferences=[OWNER]), NAME_ONLY),
    Attempt("agent-0", "patch", f"{GPUNODES}/gpu-node-0/status", "own", CLAIMED),
    Attempt("agent-1", "patch", f"{GPUNODES}/gpu-node-0/status", "another's", CLAIMED, ELSEWHERE),
    Attempt("agent-0", "patch", f"{GPUNODES}/gpu-node-0", "", metadata(), 'cannot patch resource "gpunodes"'),
    Attempt("agent-0", "delete", f"{GPUNODES}/gpu-node-0", denied='cannot delete resource "gpunodes"'),
    Attempt("unbound-agent", "create", GPUNODES, "", gpunode("gpu-node-1"), NO_NODE),
    Attempt("unbound-agent", "patch", f"{GPUNODES}/gpu-node-0/status", "", CLAIMED, NO_NODE),
    Attempt("agent-0", "list", resource_path("v1", "pods") + "?fieldSelector=spec.nodeName=gpu-node-0"),
    Attempt("agent-0", "patch", f"{PODS}/vllm", "", annotations(**{CLAIM_ANNOTATION: None}), 'patch resource "pods"'),
    Attempt("agent-0", "create", PODS, "", POD, 'cannot create resource "pods"'),
    Attempt("agent-0", "delete", f"{PODS}/vllm", denied='cannot delete resource "pods"'),
    Attempt("agent-0", "create", f"{PODS}/vllm/exec?command=id", denied='cannot create resource "pods/exec"'),
    Attempt("agent-0", "get", f"{PODS}/vllm/log", denied='cannot get resource "pods/log"'),
    Attempt("agent-0", "list", SECRETS, denied='cannot list resource "secrets"'),
    Attempt("agent-0", "get", f"{LEASES}/{LEASE_NAME}"),
    Attempt("agent-0", "list", f"{LEASES}?fieldSelector=metadata.name={LEASE_NAME}"),
    Attempt("agent-0", "list", LEASES, denied='cannot list resource "leases"'),
    Attempt("agent-0", "update", f"{LEASES}/{LEASE_NAME}", "", lease(LEASE_NAME), 'cannot update resource "leases"'),
    Attempt("agent-0", "create", LEASES, "", lease("new"), 'cannot create resource "leases"'),
    Attempt("agent-0", "get", f"{SWITCHES}/{SWITCH_NAME}"),
    Attempt("agent-0", "list", f"{SWITCHES}?fieldSelector=metadata.name={SWITCH_NAME}"),
    Attempt("agent-0", "get", f"{SWITCHES}/kube-root-ca.crt", denied='cannot get resource "configmaps"'),
    Attempt("agent-0", "patch", f"{SWITCHES}/{SWITCH_NAME}", "", {"data": {}}, 'cannot patch resource "configmaps"'),
    Attempt("agent-0", "get", f"{NODES}/gpu-node-0", denied='cannot get resource "nodes"'),
    Attempt("agent-0", "get", f"{DEPLOYMENTS}/vllm", denied='cannot get resource "deployments"'),
    Attempt("agent-0", "create", TOKENS, "", {"spec": {}}, 'cannot create resource "serviceaccounts/token"'),
]

ANNOTATIONS_ONLY = "the operator changes only annotations of a pod, not its "
FOREIGN = (
    "the operator changes only the annotations dynawatt.dev/*, the deletion cost and what keeps autoscalers away "
    "of a pod, not "
)
VLLM_POD = f"{PODS}/vllm"
TOLERATIONS = [{"op": "add", "path": "/spec/tolerations/-", "value": {"key": "new", "operator": "Exists"}}]


def annotating(change: str, denied: str = "", **fields: str | None) -> Attempt:
    return Attempt("operator", "patch", VLLM_POD, change, annotations(**fields), denied and FOREIGN + denied)


POD_CHANGES = [
    annotating("claim", **{CLAIM_ANNOTATION: "{}{}"}),
    annotating("no claim", **{CLAIM_ANNOTATION: None}),
    annotating("deletion cost", **{DELETION_COST: "-5"}),
    annotating("protection", **{"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}),
    annotating("other protection", **{"karpenter.sh/do-not-disrupt": "true"}),
    annotating("foreign annotation", "example.com/new", **{"example.com/new": "x"}),
    annotating("foreign annotation changed", "example.com/owner", **{"example.com/owner": "us"}),
    annotating("foreign annotation removed", "example.com/owner", **{"example.com/owner": None}),
    annotating("claim and foreign annotation", "example.com/new", **{CLAIM_ANNOTATION: "", "example.com/new": ""}),
    annotating("similar prefix", "dynawatt.dev.example.com/new", **{"dynawatt.dev.example.com/new": "x"}),
    annotating("similar suffix", "x.dynawatt.dev/new", **{"x.dynawatt.dev/new": "x"}),
    annotating("similar key", f"{DELETION_COST}s", **{f"{DELETION_COST}s": "1"}),
    annotating("no annotation at all", "example.com/owner", **{CLAIM_ANNOTATION: None, "example.com/owner": None}),
    *(
        Attempt("operator", "patch", VLLM_POD, change, body, ANNOTATIONS_ONLY + denied)
        for change, body, denied in [
            ("label", metadata(labels={"new": "x"}), "labels"),
            ("label changed", metadata(labels={"app": "other"}), "labels"),
            ("claim and label", metadata(labels={"app": None}, annotations={CLAIM_ANNOTATION: "{}{}"}), "labels"),
            ("finalizer", metadata(finalizers=["example.com/keep", FINALIZER]), "finalizers"),
            ("finalizer removed", metadata(finalizers=None), "finalizers"),
            ("owner", metadata(ownerReferences=[OWNER]), "owner references"),
            ("generateName", metadata(generateName="vllm-"), "generateName"),
            ("deadline", {"spec": {"activeDeadlineSeconds": 1}}, "spec"),
            ("toleration", TOLERATIONS, "spec"),
            ("image", [{"op": "replace", "path": "/spec/containers/0/image", "value": "other"}], "spec"),
        ]
    ),
    *(
        Attempt("operator", verb, path, "", body, f'cannot {verb} resource "{resource}"')
        for verb, path, body, resource in [
            ("update", VLLM_POD, POD, "pods"),
            ("create", PODS, POD, "pods"),
            ("delete", VLLM_POD, None, "pods"),
            ("patch", f"{VLLM_POD}/status", {"status": {}}, "pods/status"),
            ("patch", f"{VLLM_POD}/ephemeralcontainers", {"spec": {}}, "pods/ephemeralcontainers"),
            ("patch", f"{VLLM_POD}/resize", {"spec": {}}, "pods/resize"),
            ("create", f"{VLLM_POD}/eviction", metadata(name="vllm"), "pods/eviction"),
            ("create", f"{VLLM_POD}/binding", {"target": {"name": "gpu-node-0"}}, "pods/binding"),
            ("create", f"{VLLM_POD}/exec?command=id", None, "pods/exec"),
        ]
    ),
]

USERS = f"{DEPLOYMENTS}/vllm"
SIBLING = f"{DEPLOYMENTS}/vllm-0123ab"
UNLABELLED = f"and this Deployment has no label {SHAPE_LABEL}"
OTHERS_PLACE = "the operator changes no workloads in namespace "


def changing(change: str, path: str, shape: str | None, denied: str = "", *, replicas: int = 0) -> Attempt:
    body = deployment(path.rpartition("/")[2], shape)
    body["spec"]["replicas"] = replicas
    return Attempt("operator", "update", path, change, body, denied)


WORKLOADS = [
    Attempt("operator", "list", resource_path("apps/v1", "deployments")),
    Attempt("operator", "get", USERS, denied='cannot get resource "deployments"'),
    Attempt("operator", "update", f"{USERS}/scale", "", scale(1)),
    Attempt("operator", "create", DEPLOYMENTS, "sibling", deployment("vllm-456789", "456789")),
    Attempt("operator", "delete", SIBLING),
    changing("replicas", SIBLING, "0123ab", replicas=1),
    Attempt("operator", "create", DEPLOYMENTS, "no label", deployment("new"), f"creates only siblings, {UNLABELLED}"),
    Attempt("operator", "create", DEPLOYMENTS, "empty", deployment("new", ""), f"creates only siblings, {UNLABELLED}"),
    Attempt("operator", "delete", USERS, denied=f"the operator deletes only siblings, {UNLABELLED}"),
    changing("replicas", USERS, None, f"the operator changes only siblings, {UNLABELLED}", replicas=1),
    changing("into a sibling", USERS, "x", f"changes only siblings, {UNLABELLED}"),
    changing("of no shape", SIBLING, None, "a sibling keeps its shape"),
    changing("of another shape", SIBLING, "x", "a sibling keeps its shape"),
    Attempt("operator", "delete", DEPLOYMENTS, "all", denied='cannot deletecollection resource "deployments"'),
    *(
        Attempt("operator", verb, path.replace(NAMESPACE, namespace), "", body, OTHERS_PLACE + namespace)
        for namespace in ("kube-system", DEFAULT_NAMESPACE)
        for verb, path, body in [
            ("create", DEPLOYMENTS, deployment("vllm-456789", "456789")),
            ("delete", SIBLING, None),
            ("update", f"{USERS}/scale", scale(1)),
            ("patch", VLLM_POD, annotations(**{CLAIM_ANNOTATION: "{}{}"})),
        ]
    ),
]

SPEC = f"the spec of an {LLMSERVICE_KIND} is its owner's, and the operator does not change it"

OPERATOR = [
    Attempt("operator", "list", SERVICES),
    Attempt("operator", "patch", f"{SERVICES}/vllm", "finalizer", metadata(finalizers=[FINALIZER])),
    Attempt("operator", "patch", f"{SERVICES}/vllm", "mode", {"spec": {"mode": "Auto"}}, SPEC),
    Attempt("operator", "patch", f"{SERVICES}/vllm/status", "", {"status": {"conditions": []}}),
    Attempt("operator", "delete", f"{SERVICES}/vllm", denied='cannot delete resource "llmservices"'),
    Attempt("operator", "get", f"{LEASES}/{LEASE_NAME}"),
    Attempt("operator", "create", LEASES, "other", lease("new"), "the operator creates no Lease but dynawatt-operator"),
    Attempt("operator", "update", f"{LEASES}/other", "", lease("other"), 'cannot update resource "leases"'),
    Attempt("operator", "delete", f"{LEASES}/{LEASE_NAME}", denied='cannot delete resource "leases"'),
    Attempt("operator", "get", f"{SWITCHES}/{SWITCH_NAME}"),
    Attempt("operator", "list", SWITCHES, denied='cannot list resource "configmaps"'),
    Attempt("operator", "patch", f"{SWITCHES}/{SWITCH_NAME}", "", {"data": {}}, 'cannot patch resource "configmaps"'),
    Attempt("operator", "list", SECRETS, denied='cannot list resource "secrets"'),
    *(
        Attempt("operator", "list", resource_path(api_version, plural))
        for api_version, plural in [
            ("v1", "nodes"),
            ("v1", "pods"),
            (API_VERSION, GPUNODE_PLURAL),
            ("policy/v1", "poddisruptionbudgets"),
            ("autoscaling/v2", "horizontalpodautoscalers"),
        ]
    ),
    Attempt("operator", "get", f"{CLAIMS}/weights"),
    Attempt("operator", "list", CLAIMS, denied='cannot list resource "persistentvolumeclaims"'),
    Attempt("operator", "patch", f"{NODES}/gpu-node-0", "", metadata(labels={}), 'cannot patch resource "nodes"'),
    Attempt("operator", "patch", f"{GPUNODES}/gpu-node-0/status", "", CLAIMED, "cannot patch resource"),
    Attempt("operator", "create", TOKENS, "", {"spec": {}}, 'cannot create resource "serviceaccounts/token"'),
    Attempt("operator", "delete", f"{POLICIES}/dynawatt-operator-pods", denied="cannot delete resource"),
    Attempt("operator", "create", ROLES, "", metadata(name="x"), "cannot create resource"),
]

NOBODY_ELSE = [
    Attempt("admin", "create", GPUNODES, "", gpunode("gpu-node-1", labels={"a": "b"})),
    Attempt("admin", "patch", VLLM_POD, "", metadata(labels={"new": "x"}, finalizers=None)),
    Attempt("admin", "create", DEPLOYMENTS, "", deployment("new")),
    Attempt("admin", "delete", USERS),
    Attempt("admin", "patch", VLLM_POD.replace(NAMESPACE, "kube-system"), "", annotations(new="x")),
    Attempt("admin", "patch", f"{SERVICES}/vllm", "", {"spec": {"mode": "Auto"}}),
    Attempt("admin", "create", LEASES, "", lease("new")),
]


@pytest.fixture(scope="module")
def apis(sandbox: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, ApiClient]]:
    """A client for every identity."""
    unbound = tmp_path_factory.mktemp("access") / "kubeconfig"
    content = yaml.safe_load(sandbox.kubeconfig.read_text())
    with ApiServer(sandbox.kubeconfig) as server:
        token = server.service_account_token(namespace=DEFAULT_NAMESPACE, name=AGENT_ACCOUNT)
    content["users"][0]["user"]["token"] = token
    unbound.write_text(yaml.safe_dump(content))
    files = {
        "admin": sandbox.kubeconfig,
        "operator": sandbox.operator_kubeconfig(),
        "agent-0": sandbox.agent_kubeconfig("gpu-node-0"),
        "agent-1": sandbox.agent_kubeconfig("gpu-node-1"),
        "unbound-agent": unbound,
    }
    clients = {who: api_client(path) for who, path in files.items()}
    yield clients
    for node in sandbox.options.node_names():
        delete(clients["admin"], agent_pod_path(node))


@pytest.fixture(scope="module")
def cluster(apis: Mapping[str, ApiClient], until: Callable[..., Any]) -> Iterator[None]:
    """What the attempts are made on."""
    admin = apis["admin"]
    request_json(admin, "POST", resource_path("v1", "namespaces"), body=metadata(name=NAMESPACE))
    account = resource_path("v1", "serviceaccounts", namespace=NAMESPACE, name="default")
    until(lambda: refusal(admin, Attempt("admin", "get", account)) is None)
    made = [
        (collection.replace(NAMESPACE, namespace), body)
        for namespace in (NAMESPACE, "kube-system", DEFAULT_NAMESPACE)
        for collection, body in [
            (PODS, POD),
            (DEPLOYMENTS, deployment("vllm")),
            (DEPLOYMENTS, deployment("vllm-0123ab", "0123ab")),
        ]
    ]
    made += [
        (SERVICES, SERVICE),
        (GPUNODES, gpunode("gpu-node-0")),
        (LEASES, lease(LEASE_NAME)),
        (LEASES, lease("other")),
        (SWITCHES, metadata(name=SWITCH_NAME)),
        (CLAIMS, VOLUME_CLAIM),
    ]
    for collection, body in made:
        request_json(admin, "POST", collection, body=body)
    yield
    for collection, body in made:
        path = f"{collection}/{body['metadata']['name']}"
        if collection.endswith("/pods"):
            request_json(admin, "PATCH", path, body=metadata(finalizers=None), content_type=MERGE_PATCH)
        delete(admin, path)
    delete(admin, resource_path("v1", "namespaces", name=NAMESPACE))


def agent_pod_path(node: str) -> str:
    return resource_path("v1", "pods", namespace=DEFAULT_NAMESPACE, name=f"{AGENT_ACCOUNT}-{node}")


def delete(admin: ApiClient, path: str) -> None:
    request_json(admin, "DELETE", path, query={"gracePeriodSeconds": "0"})


def refusal(api: ApiClient, attempt: Attempt) -> str | None:
    """What the API server answers when it denies the attempt; None when it allows it."""
    path = urlsplit(attempt.path)
    query = dict(parse_qsl(path.query)) | ({} if METHODS[attempt.verb] == "GET" else {"dryRun": "All"})
    content_type = "application/json"
    if attempt.verb == "patch":
        content_type = JSON_PATCH if isinstance(attempt.body, list) else MERGE_PATCH
    try:
        request_json(api, METHODS[attempt.verb], path.path, query=query, body=attempt.body, content_type=content_type)
    except ApiException as error:
        return describe_error(error)
    return None


@pytest.mark.parametrize("attempt", [*AGENT, *POD_CHANGES, *WORKLOADS, *OPERATOR, *NOBODY_ELSE], ids=str)
def test_everybody_may_do_their_own_work_and_nothing_else(apis: Any, cluster: None, attempt: Attempt) -> None:
    answer = refusal(apis[attempt.who], attempt)
    if not attempt.denied:
        assert answer is None
    else:
        assert answer is not None
        assert answer.startswith("403: ")
        assert attempt.denied in answer


def test_a_status_carries_no_metadata(apis: Any, cluster: None) -> None:
    path = f"{GPUNODES}/gpu-node-0/status"
    body = CLAIMED | metadata(labels={"new": "x"}, finalizers=["example.com/keep"])
    written = request_json(apis["agent-0"], "PATCH", path, body=body, content_type=MERGE_PATCH)
    assert written["status"] == CLAIMED["status"]
    assert not {"labels", "finalizers"} & written["metadata"].keys()


def test_the_operator_renews_its_lease(apis: Any, cluster: None) -> None:
    operator = Cluster(apis["operator"])
    found = operator.lease(DEFAULT_NAMESPACE, LEASE_NAME)
    assert found is not None
    found["spec"]["holderIdentity"] = "renewed"
    written = operator.write_lease(found)
    assert written is not None
    assert written["spec"]["holderIdentity"] == "renewed"


def test_a_token_dies_with_the_pod_of_its_agent(apis: Any, cluster: None, sandbox: Any, until: Any) -> None:
    read = Attempt("agent-1", "get", f"{GPUNODES}/gpu-node-0")
    assert refusal(apis["agent-1"], read) is None
    delete(apis["admin"], agent_pod_path("gpu-node-1"))
    # The API server remembers for ten seconds whom a token belongs to.
    until(lambda: (refusal(apis["agent-1"], read) or "").startswith("401: "), within_s=30.0)
    successor = api_client(sandbox.agent_kubeconfig("gpu-node-1"))
    assert refusal(successor, read) is None
    assert refusal(successor, Attempt("agent-1", "create", GPUNODES, "", gpunode("gpu-node-1"))) is None
