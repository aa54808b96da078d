"""The GPUs that a container asks for, and the ones its nodes must have."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

PRODUCT_LABEL: Final = "nvidia.com/gpu.product"
"""GPU feature discovery's name of a node's GPUs."""


class GpuRequest(NamedTuple):
    """So many of an extended resource."""

    resource: str
    """As in ``nvidia.com/gpu``."""
    number: int


def requested_gpus(container: Mapping[str, Any]) -> GpuRequest | None:
    """Whole GPUs in a container's limits; None where there are none, or more than one kind."""
    limits = (container.get("resources") or {}).get("limits") or {}
    found = [GpuRequest(name, int(count)) for name, count in limits.items() if name.endswith("/gpu") and int(count)]
    return found[0] if len(found) == 1 else None


def holds_gpus(container: Mapping[str, Any]) -> bool:
    """Whether a container asks for GPUs or parts of them, in whatever form."""
    resources = container.get("resources") or {}
    names = {*(resources.get("limits") or {}), *(resources.get("requests") or {})}
    return bool(resources.get("claims")) or any("/gpu" in name or "/mig-" in name for name in names)


def with_gpu_count(resources: Mapping[str, Any], gpus: GpuRequest) -> dict[str, Any]:
    """A container's resources with another number of GPUs, in the limits and, where they stand there, the requests."""
    changed = {**resources, "limits": {**(resources.get("limits") or {}), gpus.resource: str(gpus.number)}}
    if gpus.resource in (resources.get("requests") or {}):
        changed["requests"] = {**resources["requests"], gpus.resource: str(gpus.number)}
    return changed


def with_gpu_product(pod_spec: Mapping[str, Any], product: str | None) -> dict[str, Any]:
    """A pod spec for nodes with one GPU product, which a selector of its own for another one is not changed to."""
    selector = pod_spec.get("nodeSelector") or {}
    if product is None or PRODUCT_LABEL in selector:
        return dict(pod_spec)
    return {**pod_spec, "nodeSelector": {**selector, PRODUCT_LABEL: product}}


def admits_product(pod_spec: Mapping[str, Any], product: str) -> bool:
    """Whether node selector and required node affinity let pods onto nodes with this product."""
    selected = (pod_spec.get("nodeSelector") or {}).get(PRODUCT_LABEL, product)
    required = ((pod_spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    terms = (required or {}).get("nodeSelectorTerms") or [{}]
    return selected == product and any(all(_product_conditions(term, product)) for term in terms)


def _product_conditions(term: Mapping[str, Any], product: str) -> Iterator[bool]:
    for expression in term.get("matchExpressions") or ():
        if expression["key"] != PRODUCT_LABEL:
            continue
        is_listed = product in (expression.get("values") or ())
        yield {"In": is_listed, "NotIn": not is_listed, "DoesNotExist": False}.get(expression["operator"], True)
