"""Talking to the Kubernetes API: one way to connect, plain JSON requests, errors as sentences.

Objects are plain dictionaries as the API sends them. The generated model
classes are left aside: they cost seconds of CPU on long lists and know no
custom resources. Every request has a connect and a read timeout, and urllib3
retries nothing by itself, so that a call takes no longer than it says; whoever
calls decides whether to try again.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import urllib3
import yaml
from kubernetes import config
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException

from dynawatt.errors import InvalidInputError, OperationError

KubernetesObject: TypeAlias = dict[str, Any]

CONNECT_TIMEOUT_S: Final = 5.0
READ_TIMEOUT_S: Final = 20.0

API_ERRORS: Final = (ApiException, urllib3.exceptions.HTTPError, OSError)
"""What a request raises when the API refuses (ApiException) or cannot be reached (the others)."""

MERGE_PATCH: Final = "application/merge-patch+json"


def api_client(kubeconfig: Path | None) -> ApiClient:
    """Connect as a kubeconfig says, or as the pod's own service account when there is none.

    Raises:
        InvalidInputError: The kubeconfig cannot be used.
        OperationError: No kubeconfig was given and this process does not run in a pod.
    """
    settings = Configuration()
    settings.retries = False
    if kubeconfig is None:
        try:
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        except config.ConfigException as error:
            raise OperationError(
                f"no cluster to connect to: this is not a pod with a service account ({error}); give --kubeconfig FILE"
            ) from error
    else:
        try:
            kubeconfig.open().close()  # the library does not tell a missing file from an empty one
            config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=str(kubeconfig), client_configuration=settings
            )
        except (config.ConfigException, OSError, ValueError, yaml.YAMLError, TypeError, AttributeError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or str(error).splitlines()[0]
            if isinstance(error, (ValueError, TypeError, AttributeError)):  # binary, or YAML of another kind
                reason = "is not a kubeconfig"
            raise InvalidInputError(
                f"--kubeconfig {kubeconfig}: {reason}; give a readable kubeconfig with a current context"
            ) from error
        if not settings.host.startswith(("http://", "https://")):
            raise InvalidInputError(
                f"--kubeconfig {kubeconfig}: server {settings.host}: must start with https:// or http://"
            )
    return ApiClient(settings)


def timeouts(read_s: float = READ_TIMEOUT_S) -> tuple[float, float]:
    """The (connect, read) pair in seconds that every call passes as ``_request_timeout``."""
    return (CONNECT_TIMEOUT_S, read_s)


def resource_path(api_version: str, plural: str, *, namespace: str | None = None, name: str | None = None) -> str:
    """URL path of a collection, or of one object when ``name`` is given; ``namespace`` None means cluster-wide."""
    root = "/api/v1" if api_version == "v1" else f"/apis/{api_version}"
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{scope}/{plural}" + (f"/{name}" if name else "")


def open_response(
    api: ApiClient,
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"],
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    body: object = None,
    content_type: str = "application/json",
    read_s: float = READ_TIMEOUT_S,
) -> urllib3.BaseHTTPResponse:
    """Send a request and return the response with its body unread. Raises API_ERRORS."""
    request = api.param_serialize(
        method,
        path,
        query_params=list((query or {}).items()),
        header_params={"Accept": "application/json", "Content-Type": content_type},
        body=body,
        auth_settings=["BearerToken"],
    )
    response: urllib3.BaseHTTPResponse = api.call_api(*request, _request_timeout=timeouts(read_s)).response
    if not 200 <= response.status <= 299:
        raise ApiException(response.status, response.reason, body=response.data.decode(errors="replace"))
    return response


def request_json(
    api: ApiClient,
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"],
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    body: object = None,
    content_type: str = "application/json",
    read_s: float = READ_TIMEOUT_S,
) -> KubernetesObject:
    """Send a request and return the decoded answer. Raises API_ERRORS."""
    response = open_response(api, method, path, query=query, body=body, content_type=content_type, read_s=read_s)
    answer: KubernetesObject = json.loads(response.data)
    return answer


def is_conflict(error: BaseException) -> bool:
    """Whether somebody else changed or created the object first (409)."""
    return isinstance(error, ApiException) and error.status == 409


def is_not_found(error: BaseException) -> bool:
    """Whether the object or its kind does not exist (404)."""
    return isinstance(error, ApiException) and error.status == 404


def describe_error(error: BaseException) -> str:
    """One line on why a request failed: the API server's own message when it sent one."""
    if isinstance(error, ApiException):
        try:
            message = str(json.loads(error.body or "")["message"])
        except (ValueError, KeyError, TypeError):
            message = str(error.reason)
        return f"{error.status}: {message}" if error.status else " ".join(message.split())
    return " ".join(str(error).split()) or type(error).__name__
