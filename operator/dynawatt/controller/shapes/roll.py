"""Edits of the user's template, carried over to its siblings."""

from typing import Final

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.controller.shapes.shape import shape_of
from dynawatt.controller.shapes.sibling import (
    IN_PLACE,
    TEMPLATE_DIGEST_ANNOTATION,
    Rollout,
    sibling_of,
    template_digest,
)
from dynawatt.errors import InvalidInputError

_ROLLED: Final = ("template", "strategy", "progressDeadlineSeconds", "minReadySeconds")


def is_behind(template: KubernetesObject, sibling: KubernetesObject) -> bool:
    """Whether a Deployment's pod template was edited since a sibling was made from it.

    False while the user holds the Deployment's own rollout (`kubectl rollout pause`).
    """
    recorded = (sibling["metadata"].get("annotations") or {}).get(TEMPLATE_DIGEST_ANNOTATION)
    return not template["spec"].get("paused", False) and recorded != template_digest(template)


def rolled(
    template: KubernetesObject,
    sibling: KubernetesObject,
    *,
    service: str,
    container: str | None = None,
    rollout: Rollout = IN_PLACE,
    startup_s: float | None = None,
) -> KubernetesObject:
    """A sibling brought up to its template, to be put in its place.

    Its number of replicas is as it was, and so is the version that was read: the API server refuses it (409) when
    somebody changed or scaled the sibling since. Its pods are replaced one by one unless they are rendered as before.

    Raises:
        InvalidInputError: The sibling is not of this template, or its shape cannot be read.
        VllmPodError: Nothing can be added to vLLM's arguments any more.
    """
    shape, metadata = shape_of(sibling), sibling["metadata"]
    if shape is None:
        raise InvalidInputError(f"Deployment {metadata['name']!r} is no sibling: it has no label for its shape")
    wanted = sibling_of(template, shape, service=service, container=container, rollout=rollout, startup_s=startup_s)
    if wanted["spec"]["selector"] != sibling["spec"]["selector"]:
        raise InvalidInputError(
            f"Deployment {metadata['name']!r}: its selector is not that of {template['metadata']['name']!r}, and "
            "selectors cannot change: delete it, and it is made anew"
        )
    spec = {"minReadySeconds": 0, **wanted["spec"]}
    kept = {name: value for name, value in metadata.items() if name != "managedFields"}
    annotations = {**(metadata.get("annotations") or {}), **wanted["metadata"]["annotations"]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**kept, "annotations": annotations},
        "spec": {**sibling["spec"], **{name: spec[name] for name in _ROLLED}},
    }
