"""A cluster in memory: what `Cluster` writes and `Mirror` shows, with the API server's optimistic locking."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from dynawatt.api.group import CLAIM_ANNOTATION, SERVICE_ANNOTATION, SHAPE_LABEL

H100 = "NVIDIA-H100-80GB-HBM3"


class MemoryCluster:
    """Objects as the API server sends them, by kind. Whoever tests may change them behind the operator's back."""

    def __init__(self) -> None:
        self.deployments_: dict[str, dict[str, Any]] = {}
        self.pods_: list[dict[str, Any]] = []
        self.lease_: dict[str, Any] | None = None
        self.problem_: str | None = None
        self.nodes_ = [make_node("n")]
        self.gpunodes_: list[dict[str, Any]] = []
        self.budgets_: list[dict[str, Any]] = []
        self.claims_: dict[str, list[str]] = {}
        """Access modes of PersistentVolumeClaims."""
        self.autoscalers_: list[tuple[str, str]] = []
        self.switch_: dict[str, Any] | None = None
        self.writes: list[Any] = []
        self.outdated = False
        """Whether every Deployment has changed since it was read."""
        self.failing: Exception | None = None
        self.on_write: Callable[[Any], None] = lambda write: None
        """Is told of each write before it takes place."""

    @property
    def deployment_(self) -> dict[str, Any] | None:
        """The user's own Deployment."""
        return self.deployments_.get("llama")

    @deployment_.setter
    def deployment_(self, deployment: dict[str, Any] | None) -> None:
        self.deployments_.pop("llama", None)
        if deployment is not None:
            self.deployments_["llama"] = deployment

    def replicas(self) -> dict[str, int]:
        """That the Deployments ask for; of further shapes by their tensor-parallel size."""
        return {self.short(name): found["spec"]["replicas"] for name, found in self.deployments_.items()}

    def short(self, name: str) -> str:
        labels = self.deployments_[name]["metadata"].get("labels") or {}
        return f"tp{labels['dynawatt.dev/tensor-parallel-size']}" if SHAPE_LABEL in labels else name

    def named(self, short: str) -> dict[str, Any]:
        """The Deployment that ``replicas`` calls so."""
        return next(one for name, one in self.deployments_.items() if self.short(name) == short)

    # What Mirror shows.

    def problem(self) -> str | None:
        return self.problem_

    def deployment(self, namespace: str, name: str) -> dict[str, Any] | None:
        return self._read(self.deployments_.get(name))

    def siblings(self, namespace: str, service: str) -> list[dict[str, Any]]:
        return self._read([one for one in self.deployments_.values() if _is_sibling(one, service)])

    def pods_of(self, namespace: str, deployment: str) -> list[dict[str, Any]]:
        return self._read([pod for pod in self.pods_ if owner_of(pod) == deployment])

    def pods(self, namespace: str | None = None) -> list[dict[str, Any]]:
        return self._read(self.pods_)

    def nodes(self) -> list[dict[str, Any]]:
        return self._read(self.nodes_)

    def gpunodes(self) -> list[dict[str, Any]]:
        return self._read(self.gpunodes_)

    def budgets(self, namespace: str) -> list[dict[str, Any]]:
        return self.budgets_

    def autoscalers(self, namespace: str, deployment: str) -> list[tuple[str, str]]:
        return self.autoscalers_

    # What Cluster writes.

    def scale(self, deployment: dict[str, Any], replicas: int) -> bool:
        found = self._current(deployment)
        if found is None:
            return False
        self._wrote(("scale", self.short(found["metadata"]["name"]), replicas))
        found["spec"]["replicas"] = replicas
        self.bump(found, writes_replicas=True)
        return True

    def create_deployment(self, deployment: dict[str, Any]) -> bool:
        name = deployment["metadata"]["name"]
        if name in self.deployments_:
            return False
        self._wrote(("create", name, deployment["spec"]["replicas"]))
        made = copy.deepcopy(deployment)
        made["metadata"] |= {"uid": f"uid-{name}", "resourceVersion": "0", "generation": 0, "managedFields": []}
        self.deployments_[name] = made
        self.bump(made, writes_replicas=True)
        return True

    def replace_deployment(self, deployment: dict[str, Any]) -> bool:
        found = self._current(deployment)
        if found is None:
            return False
        self._wrote(("replace", self.short(found["metadata"]["name"])))
        fields = found["metadata"]["managedFields"]
        found.update(copy.deepcopy(deployment))
        found["metadata"]["managedFields"] = fields
        self.bump(found)
        return True

    def delete_deployment(self, deployment: dict[str, Any]) -> bool:
        found = self._current(deployment)
        if found is None:
            return False
        self._wrote(("delete", self.short(found["metadata"]["name"])))
        del self.deployments_[found["metadata"]["name"]]
        return True

    def annotate_pod(self, pod: dict[str, Any], annotations: Mapping[str, str | None]) -> bool:
        found = next((one for one in self.pods_ if one["metadata"]["uid"] == pod["metadata"]["uid"]), None)
        if found is None:
            return False
        self._wrote(("annotate", pod["metadata"]["name"], dict(annotations)))
        kept = {**(found["metadata"].get("annotations") or {}), **annotations}
        found["metadata"]["annotations"] = {key: text for key, text in kept.items() if text is not None}
        return True

    def access_modes(self, namespace: str, claim: str) -> list[str] | None:
        return self._read(self.claims_.get(claim))

    def claims(self) -> list[str | None]:
        return [(pod["metadata"].get("annotations") or {}).get(CLAIM_ANNOTATION) for pod in self.pods_]

    # What both the Lease's holder and the switch do.

    def lease(self, namespace: str, name: str) -> dict[str, Any] | None:
        return self._read(self.lease_)

    def config_map(self, namespace: str, name: str) -> dict[str, Any] | None:
        assert name == "dynawatt-switch"
        return self._read(self.switch_)

    def write_lease(self, lease: dict[str, Any]) -> dict[str, Any] | None:
        present = None if self.lease_ is None else self.lease_["metadata"]["resourceVersion"]
        if lease["metadata"].get("resourceVersion") != present:
            return None
        self.lease_ = copy.deepcopy(lease)
        self.lease_["metadata"]["resourceVersion"] = str(int(present or 0) + 1)
        return self.lease_

    # What others do.

    def scaled_by(self, writer: str, name: str, replicas: int) -> None:
        """Somebody else sets the replicas of a Deployment, which ``replicas`` calls so."""
        found = self.named(name)
        found["spec"]["replicas"] = replicas
        self.bump(found, writes_replicas=True, writer=writer)

    def _read(self, found: Any) -> Any:
        if self.failing is not None:
            raise self.failing
        return copy.deepcopy(found)

    def _wrote(self, write: Any) -> None:
        self.on_write(write)
        self.writes.append(write)

    def _current(self, read: dict[str, Any]) -> dict[str, Any] | None:
        """The Deployment as it is, if it still is as it was read."""
        found = self.deployments_.get(read["metadata"]["name"])
        same = found is not None and found["metadata"]["resourceVersion"] == read["metadata"]["resourceVersion"]
        return found if same and not self.outdated else None

    @staticmethod
    def bump(deployment: dict[str, Any], *, writes_replicas: bool = False, writer: str = "dynawatt") -> None:
        """Another version of a Deployment, after a change of its spec."""
        metadata = deployment["metadata"]
        metadata["resourceVersion"] = str(int(metadata["resourceVersion"]) + 1)
        metadata["generation"] = metadata.get("generation", 1) + 1
        if writes_replicas:
            metadata["managedFields"] = [replicas_owner(writer)]


def make_node(name: str = "n", gpus: int = 8, **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"nvidia.com/gpu.product": H100, **labels}},
        "spec": {},
        "status": {
            "allocatable": {"nvidia.com/gpu": str(gpus)},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def replicas_owner(manager: str) -> dict[str, Any]:
    return {"manager": manager, "time": "2026-01-01T00:00:09Z", "fieldsV1": {"f:spec": {"f:replicas": {}}}}


def owner_of(pod: dict[str, Any]) -> str:
    """The Deployment that made a pod."""
    name: str = pod["metadata"]["ownerReferences"][0]["name"]
    return name.removesuffix("-hash")


def owned_by(deployment: str) -> list[dict[str, str]]:
    return [{"kind": "ReplicaSet", "name": f"{deployment}-hash"}]


def _is_sibling(deployment: dict[str, Any], service: str) -> bool:
    metadata = deployment["metadata"]
    is_ours = (metadata.get("annotations") or {}).get(SERVICE_ANNOTATION) == service
    return SHAPE_LABEL in (metadata.get("labels") or {}) and is_ours
