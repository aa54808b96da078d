"""Which rights operator and agents need, and which of them the API server grants.

What they need is read from the manifest that grants it, so that nothing is
written down twice. Everything is asked for by reviews, which change nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from kubernetes.client import ApiClient

from dynawatt.adapters.kubernetes.client import API_ERRORS, describe_error, request_json
from dynawatt.cli.doctor.check import About, Check, some

_AUTHORIZATION: Final = "/apis/authorization.k8s.io/v1"
_AT_ONCE: Final = 8
_SIBLINGS: Final = "dynawatt-operator-siblings"
"""The role that only the knob Shape needs, and that may be bound in single namespaces."""


@dataclass(frozen=True, slots=True)
class Right:
    """One verb on one kind of object."""

    role: str
    """That grants it."""
    group: str
    resource: str
    """With its subresource behind a slash."""
    verb: str
    namespace: str = ""
    """Empty everywhere."""
    name: str = ""
    """Of the only object; empty for all."""

    def __str__(self) -> str:
        """As ``patch pods``."""
        return f"{self.verb} {self.resource}" + (f" {self.name}" if self.name else "")

    @property
    def attributes(self) -> dict[str, str]:
        """As a review takes it."""
        resource, _, subresource = self.resource.partition("/")
        return {
            "group": self.group,
            "resource": resource,
            "subresource": subresource,
            "verb": self.verb,
            "namespace": self.namespace,
            "name": self.name,
        }


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What a ServiceAccount may and may not."""

    account: str
    """As ``namespace/name``."""
    asked: int
    missing: Sequence[Right]
    problem: str = ""
    """Why it could not be asked; empty when it was."""


def needed_rights(documents: Sequence[Mapping[str, Any]], account: str, *, namespace: str) -> list[Right]:
    """The rights that manifests grant a ServiceAccount; ``namespace`` takes the place of theirs."""
    roles = {(each["kind"], each["metadata"]["name"]): each for each in documents if "rules" in each}
    return [
        right
        for binding in documents
        if any(subject["kind"] == "ServiceAccount" and subject["name"] == account for subject in _subjects(binding))
        for right in _granted(
            roles[binding["roleRef"]["kind"], binding["roleRef"]["name"]],
            namespace if binding["kind"] == "RoleBinding" else "",
        )
    ]


def review(api: ApiClient, account: str, rights: Sequence[Right], *, namespace: str) -> Reviewed:
    """Ask the API server whether a ServiceAccount has the rights; whoever is it asks for himself."""
    user = f"system:serviceaccount:{namespace}:{account}"
    label = f"{namespace}/{account}"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    own = _whoami(api) == user
    kind = "SelfSubjectAccessReview" if own else "SubjectAccessReview"

    def is_allowed(right: Right) -> bool:
        spec: dict[str, Any] = {"resourceAttributes": right.attributes}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
        if not own:
            spec |= {"user": user, "groups": groups}
        answer = request_json(api, "POST", f"{_AUTHORIZATION}/{kind.lower()}s", body=body)
        return bool(answer["status"].get("allowed"))

    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            allowed = list(pool.map(is_allowed, rights))
    except API_ERRORS as error:
        return Reviewed(label, 0, [], describe_error(error))
    return Reviewed(label, len(rights), [right for right, granted in zip(rights, allowed, strict=True) if not granted])


def check_rights(reviewed: Reviewed, *, about: About, scales_shapes: bool) -> Iterator[Check]:
    """Whether the account has what it needs; ``scales_shapes`` tells whether any LLMService has the knob Shape."""
    if reviewed.problem:
        remedy = "Run it as somebody who may create subjectaccessreviews."
        yield about.skipped("rights", f"what {reviewed.account} may do could not be asked: {reviewed.problem}", remedy)
        return
    missing = [right for right in reviewed.missing if right.role != _SIBLINGS]
    if missing:
        roles = some({f"{right.role}" for right in missing})
        yield about.failed(
            "rights",
            f"{reviewed.account} may not {', '.join(map(str, missing))}",
            f"Apply dynawatt's roles and bindings again ({roles}).",
        )
    else:
        yield about.ok("rights", f"{reviewed.account} has all {reviewed.asked - len(reviewed.missing)} it needs")
    siblings = [right for right in reviewed.missing if right.role == _SIBLINGS]
    if siblings:
        message = f"{reviewed.account} may not {', '.join(map(str, siblings))} in every namespace"
        remedy = f"Bind ClusterRole {_SIBLINGS} in the namespaces whose LLMServices have the knob Shape."
        if scales_shapes:
            yield about.warning("rights", message, remedy)
        else:
            yield about.ok("rights", f"{message}: only the knob Shape needs it, and no LLMService has it")


def _whoami(api: ApiClient) -> str:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        answer = request_json(api, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=body)
    except API_ERRORS:
        return ""
    return str(answer["status"]["userInfo"].get("username", ""))


def _granted(role: Mapping[str, Any], namespace: str) -> Iterator[Right]:
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    for name in rule.get("resourceNames") or ("",):
                        yield Right(role["metadata"]["name"], group, resource, verb, namespace, name)


def _subjects(binding: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return binding.get("subjects") or () if "roleRef" in binding else ()
