"""What the cluster knows of one LLMService, read once; what may not be read is named instead."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from kubernetes.client import ApiClient

from dynawatt.adapters.kubernetes.client import (
    API_ERRORS,
    KubernetesObject,
    describe_error,
    is_not_found,
    request_json,
    resource_path,
)
from dynawatt.adapters.kubernetes.selectors import label_selector
from dynawatt.api.group import (
    API_VERSION,
    GPUNODE_PLURAL,
    LEASE_NAME,
    LLMSERVICE_KIND,
    LLMSERVICE_PLURAL,
    SERVICE_ANNOTATION,
    SHAPE_LABEL,
)
from dynawatt.api.switch import SWITCH_NAME
from dynawatt.cli.reader import ClusterReader
from dynawatt.errors import InvalidInputError, OperationError, nearest_names

_NAMED: Final = 4


@dataclass(frozen=True, slots=True)
class Findings:
    """Objects as the API sends them."""

    service: KubernetesObject
    deployments: Sequence[KubernetesObject] = ()
    """The one that `deploymentRef` names, if it exists, then its siblings."""
    pods: Sequence[KubernetesObject] = ()
    gpu_nodes: Mapping[str, KubernetesObject] = field(default_factory=dict)
    """GPUNodes by name."""
    events: Sequence[KubernetesObject] = ()
    lease: KubernetesObject | None = None
    switch: KubernetesObject | None = None
    unread: Mapping[str, str] = field(default_factory=dict)
    """Why something could not be read, by what it is: the fields of the same name are empty then."""


def gather(api: ApiClient, namespace: str, name: str, *, operator_namespace: str) -> Findings:
    """Read everything about a service.

    Raises InvalidInputError when it does not exist, and OperationError when the API does not answer for it.
    """
    service = _service(api, namespace, name)
    reader = ClusterReader(api)
    deployment_name = str(service["spec"]["deploymentRef"]["name"])
    deployment = reader.get("deployments", "apps/v1", "deployments", deployment_name, namespace=namespace)
    shaped = {"labelSelector": SHAPE_LABEL}
    siblings = [
        sibling
        for sibling in reader.items("siblings", "apps/v1", "deployments", namespace=namespace, query=shaped)
        if (sibling["metadata"].get("annotations") or {}).get(SERVICE_ANNOTATION) == f"{namespace}/{name}"
    ]
    deployments = [*([deployment] if deployment else []), *siblings]
    pods: list[KubernetesObject] = []
    if deployments:  # siblings keep the labels of the template, so that one question finds all pods
        selected = {"labelSelector": label_selector(deployments[0]["spec"]["selector"])}
        pods = reader.items("pods", "v1", "pods", namespace=namespace, query=selected)
    about = {"fieldSelector": f"involvedObject.kind={LLMSERVICE_KIND},involvedObject.name={name}"}
    return Findings(
        service=service,
        deployments=deployments,
        pods=pods,
        gpu_nodes={node["metadata"]["name"]: node for node in reader.items("gpu_nodes", API_VERSION, GPUNODE_PLURAL)},
        events=reader.items("events", "v1", "events", namespace=namespace, query=about),
        lease=reader.get("lease", "coordination.k8s.io/v1", "leases", LEASE_NAME, namespace=operator_namespace),
        switch=reader.get("switch", "v1", "configmaps", SWITCH_NAME, namespace=operator_namespace),
        unread=reader.unread,
    )


def _service(api: ApiClient, namespace: str, name: str) -> KubernetesObject:
    try:
        return request_json(api, "GET", resource_path(API_VERSION, LLMSERVICE_PLURAL, namespace=namespace, name=name))
    except API_ERRORS as error:
        if not is_not_found(error):
            raise OperationError(f"cannot read LLMService {namespace}/{name}: {describe_error(error)}") from error
    raise InvalidInputError(f"LLMService {namespace}/{name}: does not exist; {_where_to_look(api, namespace, name)}")


def _where_to_look(api: ApiClient, namespace: str, name: str) -> str:
    """The service that was probably meant. Raises OperationError where there can be none."""
    listed = None
    for where in (None, namespace):  # who may not look everywhere may look here
        try:
            listed = request_json(api, "GET", resource_path(API_VERSION, LLMSERVICE_PLURAL, namespace=where))["items"]
            break
        except API_ERRORS as error:
            if is_not_found(error):
                raise OperationError(
                    "the cluster knows no LLMServices: install the CRDs with "
                    "`dynawatt crds | kubectl apply --server-side -f -`"
                ) from error
    if listed is None:
        return "and which ones do may not be listed: check the name"
    known = [(found["metadata"]["namespace"], found["metadata"]["name"], found["spec"]) for found in listed]
    here = [other for where, other, _ in known if where == namespace]
    managing = [other for where, other, spec in known if where == namespace and spec["deploymentRef"]["name"] == name]
    elsewhere = [f"{where}/{other}" for where, other, _ in known if other == name]
    if managing:
        return f"{managing[0]} manages the Deployment of that name"
    if elsewhere:
        return f"there is {', '.join(elsewhere[:_NAMED])}"
    if here:
        return nearest_names(name, here)
    others = sorted(f"{where}/{other}" for where, other, _ in known)[:_NAMED]
    return f"there is {', '.join(others)}" if others else "there are none: create one"
