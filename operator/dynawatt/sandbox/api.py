"""The few requests that the sandbox itself sends to its API server."""

import base64
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from dynawatt.errors import OperationError

LONGEST_TOKEN_S: Final = 2**32
"""The most that Kubernetes grants: nobody is here to renew tokens, so they are to outlive the sandbox."""
_COLLECTIONS: Final = {
    "Namespace": "/api/v1/namespaces",
    "Node": "/api/v1/nodes",
    "Pod": "/api/v1/namespaces/{namespace}/pods",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "RuntimeClass": "/apis/node.k8s.io/v1/runtimeclasses",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
    "ValidatingAdmissionPolicy": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
}


class ApiServer:
    """The sandbox's API server, as its administrator. A context manager; every method may raise OperationError."""

    def __init__(self, kubeconfig: Path) -> None:
        """Read a kubeconfig file that the sandbox wrote; connect on the first request."""
        content = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode("ascii")
        self._client = httpx.Client(
            base_url=cluster["server"],
            verify=ssl.create_default_context(cadata=authority),
            headers={"Authorization": f"Bearer {user['token']}"},
            timeout=30.0,
            trust_env=False,
        )

    def __enter__(self) -> "ApiServer":
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close its connections."""
        self._client.close()

    def get(self, path: str) -> dict[str, Any] | None:
        """One object or list; None when there is none."""
        answer = self._send("GET", path)
        return None if answer.status_code == httpx.codes.NOT_FOUND else self._content(answer)

    def serves(self, path: str) -> bool:
        """Whether the path can be read by now."""
        return self._send("GET", path).is_success

    def apply(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create the object or make it as given, by server-side apply; the object as it is then."""
        metadata = manifest["metadata"]
        collection = _COLLECTIONS[manifest["kind"]].format(namespace=metadata.get("namespace", ""))
        answer = self._send(
            "PATCH",
            f"{collection}/{metadata['name']}?fieldManager=dynawatt-sandbox&force=true",
            content=json.dumps(manifest),  # JSON is YAML
            content_type="application/apply-patch+yaml",
        )
        return self._content(answer)

    def service_account_token(self, *, namespace: str, name: str, pod: Mapping[str, Any] | None = None) -> str:
        """A new token of a ServiceAccount.

        Bound to a pod that runs as this account, it names the pod's node to the API server and dies with the pod.
        """
        spec: dict[str, Any] = {"expirationSeconds": LONGEST_TOKEN_S}
        if pod is not None:
            identity = {key: pod["metadata"][key] for key in ("name", "uid")}
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", **identity}
        answer = self._send(
            "POST",
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
            content=json.dumps({"spec": spec}),
            content_type="application/json",
        )
        return str(self._content(answer)["status"]["token"])

    def _send(self, method: str, path: str, *, content: str = "", content_type: str = "") -> httpx.Response:
        headers = {"Content-Type": content_type} if content_type else {}
        try:
            return self._client.request(method, path, content=content or None, headers=headers)
        except httpx.HTTPError as error:
            raise OperationError(f"kube-apiserver did not answer {method} {path}: {error}") from error

    @staticmethod
    def _content(answer: httpx.Response) -> dict[str, Any]:
        if answer.is_error:
            request = answer.request
            raise OperationError(f"kube-apiserver refused {request.method} {request.url.path}: {answer.text[:500]}")
        content: dict[str, Any] = answer.json()
        return content
