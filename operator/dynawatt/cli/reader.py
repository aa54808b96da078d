"""Reads a cluster for commands that tell about it: what may not be read is noted, and the rest goes on."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from kubernetes.client import ApiClient

from dynawatt.adapters.kubernetes.client import (
    API_ERRORS,
    KubernetesObject,
    describe_error,
    is_not_found,
    request_json,
    resource_path,
)

_Found = TypeVar("_Found")


class ClusterReader:
    """Every read is about something; ``unread`` says why what could not be read."""

    def __init__(self, api: ApiClient) -> None:
        """Use a connected client."""
        self._api = api
        self.unread: dict[str, str] = {}

    def get(
        self, what: str, api_version: str, plural: str, name: str, *, namespace: str | None = None
    ) -> KubernetesObject | None:
        """One object; None when it does not exist or could not be read."""
        path = resource_path(api_version, plural, namespace=namespace, name=name)
        return self._attempt(what, lambda: request_json(self._api, "GET", path), None)

    def items(
        self,
        what: str,
        api_version: str,
        plural: str,
        *,
        namespace: str | None = None,
        query: Mapping[str, str] | None = None,
    ) -> list[KubernetesObject]:
        """All objects, in one namespace or everywhere; none when the kind does not exist or could not be read."""
        path = resource_path(api_version, plural, namespace=namespace)

        def read() -> list[KubernetesObject]:
            found: list[KubernetesObject] = request_json(self._api, "GET", path, query=query)["items"]
            return found

        return self._attempt(what, read, [])

    def _attempt(self, what: str, read: Callable[[], _Found], otherwise: _Found) -> _Found:
        try:
            return read()
        except API_ERRORS as error:
            if not is_not_found(error):
                self.unread[what] = describe_error(error)
            return otherwise
