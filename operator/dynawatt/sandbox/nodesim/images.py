"""Which pods run dynawatt's own images: they are run as processes of this machine (see ``processes``)."""

from collections.abc import Mapping
from typing import Any, Final

IMAGES: Final = ("dynawatt-operator", "dynawatt-agent")
"""Their names without registry and tag; ``manifests/stages.yaml`` has KWOK leave pods of these alone."""


def is_own_image(image: str) -> bool:
    """Whether a container image is one of dynawatt's, whatever its registry and version."""
    return image.rpartition("/")[2].partition("@")[0].partition(":")[0] in IMAGES


def is_own_pod(pod_spec: Mapping[str, Any]) -> bool:
    """Whether a pod runs dynawatt's own program."""
    return any(is_own_image(container.get("image", "")) for container in pod_spec.get("containers") or ())
