"""What each identity may do, tried with its own token on the real API server.

Every attempt is a dry run: it passes authorization and admission like any other
and changes nothing, so that the order of attempts does not matter.
"""

from collections.abc import Callable, Iterator, Mapping
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
from dynawatt.api.group import DEFAULT_NAMESPACE, LEASE_NAME
from dynawatt.api.switch import SWITCH_NAME
from dynawatt.sandbox.api import ApiServer
from dynawatt.sandbox.install import AGENT_ACCOUNT

from .access_attempts import AGENT, NOBODY_ELSE, OPERATOR, POD_CHANGES, WORKLOADS, Attempt
from .access_objects import (
    CLAIMED,
    CLAIMS,
    DEPLOYMENTS,
    GPUNODES,
    LEASES,
    NAMESPACE,
    POD,
    PODS,
    SERVICE,
    SERVICES,
    SWITCHES,
    VOLUME_CLAIM,
    deployment,
    gpunode,
    lease,
    metadata,
)

pytestmark = pytest.mark.integration

JSON_PATCH: Final = "application/json-patch+json"
METHODS: Final = {"get": "GET", "list": "GET", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}


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
