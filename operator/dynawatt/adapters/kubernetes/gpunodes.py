"""One GPUNode object: created when missing, its status replaced as a whole."""

from kubernetes.client import ApiClient
from pydantic import ValidationError

from dynawatt.adapters.kubernetes.client import (
    API_ERRORS,
    MERGE_PATCH,
    KubernetesObject,
    describe_error,
    is_conflict,
    is_not_found,
    request_json,
    resource_path,
)
from dynawatt.api.gpunode import GPUNodeStatus
from dynawatt.api.group import API_VERSION, GPUNODE_KIND, GPUNODE_PLURAL
from dynawatt.errors import OperationError

_READ_S = 10.0


class GpuNodeStore:
    """The GPUNode of one node; only that node's agent writes it."""

    def __init__(self, api: ApiClient, node: str) -> None:
        self._api = api
        self._node = node
        self._path = resource_path(API_VERSION, GPUNODE_PLURAL, name=node)

    def load(self) -> GPUNodeStatus:
        """The status as it stands, empty for a new object or one that cannot be understood. Raises OperationError."""
        try:
            found = self._get_or_create()
        except API_ERRORS as error:
            hint = " (is the CRD installed? `dynawatt crds`)" if is_not_found(error) else ""
            raise OperationError(f"cannot read GPUNode {self._node}: {describe_error(error)}{hint}") from error
        try:
            return GPUNodeStatus.model_validate(found.get("status") or {})
        except ValidationError:
            return GPUNodeStatus()

    def save(self, status: GPUNodeStatus) -> None:
        """Replace the status. Raises OperationError."""
        # A merge patch replaces lists as a whole, which is right here: nobody else writes into them.
        body = {"status": status.to_dict()}
        try:
            request_json(
                self._api, "PATCH", f"{self._path}/status", body=body, content_type=MERGE_PATCH, read_s=_READ_S
            )
        except API_ERRORS as error:
            raise OperationError(f"cannot write GPUNode {self._node}: {describe_error(error)}") from error

    def _get_or_create(self) -> KubernetesObject:
        try:
            return request_json(self._api, "GET", self._path, read_s=_READ_S)
        except API_ERRORS as error:
            if not is_not_found(error):
                raise
        body = {"apiVersion": API_VERSION, "kind": GPUNODE_KIND, "metadata": {"name": self._node}}
        try:
            return request_json(
                self._api, "POST", resource_path(API_VERSION, GPUNODE_PLURAL), body=body, read_s=_READ_S
            )
        except API_ERRORS as error:
            if is_conflict(error):  # created between our two requests
                return request_json(self._api, "GET", self._path, read_s=_READ_S)
            raise
