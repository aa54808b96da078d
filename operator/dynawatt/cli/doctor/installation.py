"""Checks of what an installation puts into a cluster: resource types, admission policies."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.api.crd import crd_documents
from dynawatt.cli.doctor.check import About, Check, some
from dynawatt.cli.doctor.facts import Facts
from dynawatt.sandbox.install import access_documents

_APPLY: Final = "dynawatt crds | kubectl apply --server-side -f -"
_STEPS: Final = frozenset({"schema", "openAPIV3Schema", "properties", "items"})
"""Words in the path of a field that users do not know."""
_OLDEST: Final = (1, 30)
_ABOUT: Final = About("cluster")


def check_version(version: str, user_sees: str) -> Check:
    """Whether the API server is new enough; ``user_sees`` is where it was reached."""
    numbers = version.lstrip("v").split(".")[:2]
    digits = ["".join(filter(str.isdigit, number)) for number in numbers]
    message = f"Kubernetes {version} at {user_sees}"
    if len(digits) == 2 and all(digits) and tuple(map(int, digits)) < _OLDEST:
        remedy = "Update Kubernetes to 1.30 or later: without admission policies the agents cannot write at all."
        return _ABOUT.failed("API server", message, remedy)
    return _ABOUT.ok("API server", message)


def check_crds(facts: Facts) -> Iterator[Check]:
    """Whether each resource type is there, served, and as this version has it."""
    for document in crd_documents():
        name = f"CRD {document['spec']['names']['kind']}"
        if "crds" in facts.unread:
            remedy = "Run it as somebody who may list customresourcedefinitions."
            yield _ABOUT.skipped(name, f"could not be read: {facts.unread['crds']}", remedy)
            continue
        installed = facts.crds.get(document["metadata"]["name"])
        if installed is None:
            yield _ABOUT.failed(name, "is not installed", "Install it:", _APPLY)
            continue
        yield _compared(name, document, installed)


def check_policies(facts: Facts) -> Check:
    """Whether what operator and agents may write is limited."""
    if "policies" in facts.unread:
        remedy = "Run it as somebody who may list validatingadmissionpolicies."
        return _ABOUT.skipped("policies", f"could not be read: {facts.unread['policies']}", remedy)
    shipped = [each for each in access_documents() if each["kind"] == "ValidatingAdmissionPolicy"]
    bound = {binding["spec"].get("policyName") for binding in facts.policy_bindings}
    names = [policy["metadata"]["name"] for policy in shipped]
    missing = [name for name in names if name not in facts.policies or name not in bound]
    if missing:
        return _ABOUT.warning(
            "policies",
            f"nothing limits which objects operator and agents write: missing or not bound are {some(missing)}",
            "Apply dynawatt's ValidatingAdmissionPolicies and their bindings (docs/security.md).",
        )
    accounts = f"system:serviceaccount:{facts.namespace}:"
    blind = [name for name in names if accounts not in str(facts.policies[name]["spec"].get("matchConditions"))]
    if blind:
        return _ABOUT.warning(
            "policies",
            f"{some(blind)} are about accounts of another namespace than {facts.namespace}",
            f"Put {facts.namespace} into their matchConditions.",
        )
    return _ABOUT.ok("policies", f"all {len(names)} admission policies are there and bound")


def _compared(name: str, document: Mapping[str, Any], installed: KubernetesObject) -> Check:
    conditions = {each["type"]: each for each in (installed.get("status") or {}).get("conditions") or ()}
    established = conditions.get("Established", {})
    if established.get("status") != "True":
        message = f"is not served: {established.get('message') or 'not established yet'}"
        return _ABOUT.failed(
            name, message, "Wait a moment; if it stays:", f"kubectl describe crd {document['metadata']['name']}"
        )
    lacking = list(_lacking(document["spec"], installed["spec"]))
    if lacking:
        return _ABOUT.failed(name, f"is not this version's: {some(lacking)} missing or other", "Update it:", _APPLY)
    unknown = list(_lacking(installed["spec"]["versions"], document["spec"]["versions"]))
    if unknown:
        remedy = "Use the dynawatt that belongs to it, or go back to this version's:"
        return _ABOUT.warning(name, f"has what this version does not know: {some(unknown)}", remedy, _APPLY)
    return _ABOUT.ok(name, "is installed as this version has it")


def _lacking(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """Paths of what is not, or not equally, in the other one; what the API server adds does not count."""
    if isinstance(ours, Mapping):
        for key, value in ours.items():
            inner = path if key in _STEPS else f"{path}.{key}".lstrip(".")
            if key == "description":
                continue
            if not isinstance(theirs, Mapping) or key not in theirs:
                if value not in ({}, [], None, False):  # which the API server leaves out
                    yield inner
            else:
                yield from _lacking(value, theirs[key], inner)
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for mine, other in zip(ours, theirs, strict=True):
            yield from _lacking(mine, other, path.removeprefix("versions"))
    elif ours != theirs:
        yield path
