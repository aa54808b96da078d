"""What a Deployment runs, from its manifest: in a file, or as the API server sends it."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from dynawatt.adapters.vllm_args import VllmPodError, VllmSettings, find_vllm_container, vllm_settings
from dynawatt.errors import InvalidInputError, nearest_names

GPU_LABEL: Final = "nvidia.com/gpu.product"
STDIN: Final = Path("-")


@dataclass(frozen=True, slots=True)
class RunningDeployment:
    """A Deployment, or anything else with a pod template, that runs vLLM."""

    name: str
    namespace: str
    """Empty where the manifest names none."""
    replicas: int
    settings: VllmSettings
    gpu_product: str | None
    """As its node selector or required affinity names it."""


def read_deployment_file(path: Path, name: str | None = None) -> RunningDeployment:
    """The only one that runs vLLM in a YAML or JSON file, or the one with a name; ``-`` is standard input.

    Raises InvalidInputError with the file and what is wrong.
    """
    option = f"--deployment {path}"
    try:
        text = sys.stdin.read() if path == STDIN else path.read_text(encoding="utf-8")
        documents = list(yaml.safe_load_all(text))
    except OSError as error:
        raise InvalidInputError(f"{option}: {error.strerror}; give a Deployment manifest that can be read") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{option}: is not YAML: {' '.join(str(error).split())}") from error
    manifests = {str(each["metadata"].get("name", "")): each for each in _with_pods(documents)}
    if not manifests:
        raise InvalidInputError(f"{option}: holds no Deployment; give one from `kubectl get deployment NAME -o yaml`")
    if name is not None and name not in manifests:
        raise InvalidInputError(f"{option}: holds no Deployment {name!r}; {nearest_names(name, manifests)}")
    wanted = manifests if name is None else {name: manifests[name]}
    found, problems = [], []
    for each in wanted.values():
        try:
            found.append(running_deployment(each))
        except InvalidInputError as error:
            problems.append(str(error))
    if not found:
        raise InvalidInputError(f"{option}: {problems[0]}")
    if len(found) > 1:
        names = ", ".join(each.name for each in found)
        raise InvalidInputError(f"{option}: several Deployments run vLLM ({names}); name one with --service")
    return found[0]


def running_deployment(manifest: Mapping[str, Any]) -> RunningDeployment:
    """Understand a manifest. Raises InvalidInputError."""
    metadata, spec = manifest["metadata"], manifest["spec"]
    pod_spec = spec["template"]["spec"]
    title = f"{manifest.get('kind', 'Deployment')} {metadata.get('name', '')!r}"
    try:
        settings = vllm_settings(find_vllm_container(pod_spec))
    except VllmPodError as error:
        raise InvalidInputError(f"{title}: {error}") from error
    if settings.pipeline_parallel_size * settings.data_parallel_size != 1:
        raise InvalidInputError(
            f"{title}: pipeline or data parallelism above 1 is not covered by any profile; use tensor parallelism alone"
        )
    replicas = spec.get("replicas", 1)
    return RunningDeployment(
        name=str(metadata.get("name", "")),
        namespace=str(metadata.get("namespace") or ""),
        replicas=1 if replicas is None else int(replicas),
        settings=settings,
        gpu_product=_gpu_product(pod_spec),
    )


def _with_pods(documents: list[Any]) -> Iterator[Mapping[str, Any]]:
    """Manifests that have a pod template; those of a List as well."""
    for document in documents:
        if not isinstance(document, Mapping):
            continue
        if isinstance(document.get("items"), list):
            yield from _with_pods(document["items"])
        spec = document.get("spec")
        template = spec.get("template") if isinstance(spec, Mapping) else None
        pod_spec = template.get("spec") if isinstance(template, Mapping) else None
        if isinstance(pod_spec, Mapping) and isinstance(document.get("metadata"), Mapping):
            yield document


def _gpu_product(pod_spec: Mapping[str, Any]) -> str | None:
    """The only product that its nodes may have."""
    selected = (pod_spec.get("nodeSelector") or {}).get(GPU_LABEL)
    if selected:
        return str(selected)
    affinity = ((pod_spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    products = {
        str(value)
        for term in affinity.get("nodeSelectorTerms") or ()
        for expression in term.get("matchExpressions") or ()
        if expression.get("key") == GPU_LABEL and expression.get("operator") == "In"
        for value in expression.get("values") or ()
    }
    return products.pop() if len(products) == 1 else None
