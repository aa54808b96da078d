"""What each identity tries, and what the API server says when it may not."""

from dataclasses import dataclass
from typing import Any, Final

from dynawatt.adapters.kubernetes.client import resource_path
from dynawatt.api.group import (
    API_VERSION,
    CLAIM_ANNOTATION,
    DEFAULT_NAMESPACE,
    FINALIZER,
    GPUNODE_PLURAL,
    LEASE_NAME,
    LLMSERVICE_KIND,
    SHAPE_LABEL,
)
from dynawatt.api.switch import SWITCH_NAME

from .access_objects import (
    CLAIMED,
    CLAIMS,
    DEPLOYMENTS,
    GPUNODES,
    LEASES,
    NAMESPACE,
    NODES,
    OWNER,
    POD,
    PODS,
    POLICIES,
    ROLES,
    SECRETS,
    SERVICES,
    SWITCHES,
    TOKENS,
    annotations,
    deployment,
    gpunode,
    lease,
    metadata,
    scale,
)

DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"


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
