"""A user's Deployment as the template of further shapes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.adapters.vllm_args import VllmSettings, find_vllm_container, vllm_settings
from dynawatt.controller.shapes.gpus import GpuRequest, requested_gpus


@dataclass(frozen=True, slots=True)
class Template:
    """A Deployment and what was read from it."""

    deployment: KubernetesObject
    container: Mapping[str, Any]
    """The one that runs vLLM."""
    settings: VllmSettings

    @property
    def name(self) -> str:
        """Of the Deployment."""
        name: str = self.deployment["metadata"]["name"]
        return name

    @property
    def pod_template(self) -> Mapping[str, Any]:
        """What its pods are made from."""
        template: Mapping[str, Any] = self.deployment["spec"]["template"]
        return template

    @property
    def pod_spec(self) -> Mapping[str, Any]:
        """The spec of its pods."""
        spec: Mapping[str, Any] = self.pod_template["spec"]
        return spec

    @property
    def pod_labels(self) -> Mapping[str, str]:
        """The labels of its pods."""
        return (self.pod_template.get("metadata") or {}).get("labels") or {}

    @property
    def gpus(self) -> GpuRequest | None:
        """What vLLM's container asks for."""
        return requested_gpus(self.container)

    @property
    def replica_gpus(self) -> int:
        """GPUs that vLLM uses by its arguments."""
        settings = self.settings
        return settings.tensor_parallel_size * settings.pipeline_parallel_size * settings.data_parallel_size


def read_template(deployment: KubernetesObject, container: str | None = None) -> Template:
    """Understand a Deployment, by the name of its container where it has several. Raises VllmPodError."""
    found = find_vllm_container(deployment["spec"]["template"]["spec"], container)
    return Template(deployment, found, vllm_settings(found))
