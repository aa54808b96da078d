"""Why a Deployment cannot be copied into further shapes, each with what to change.

All reasons are given at once: whoever prepares a Deployment should not have to
find them one by one. Nothing is rendered before this list is empty.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.adapters.vllm_args import VllmPodError
from dynawatt.api.group import SHAPE_LABEL
from dynawatt.controller.shapes.drain import drain_problem
from dynawatt.controller.shapes.gpus import holds_gpus
from dynawatt.controller.shapes.placement import keeps_apart
from dynawatt.controller.shapes.refusal import Refusal, RefusalReason
from dynawatt.controller.shapes.template import Template, read_template

_PER_SIZE_FORMATS: Final = frozenset({"sharded_state", "runai_streamer_sharded"})
_SHARED_ACCESS: Final = frozenset({"ReadWriteMany", "ReadOnlyMany"})
_MULTI_NODE_LABEL: Final = "leaderworkerset.sigs.k8s.io/name"


@dataclass(frozen=True, slots=True)
class _Case:
    template: Template
    claims: Mapping[str, Sequence[str]]


def template_refusals(
    deployment: KubernetesObject,
    *,
    container: str | None = None,
    volume_claims: Mapping[str, Sequence[str]],
) -> list[Refusal]:
    """Everything that keeps a Deployment from having siblings at all.

    Args:
        deployment: The user's own.
        container: The one that runs vLLM, where it has several.
        volume_claims: The access modes of every PersistentVolumeClaim of the namespace, by name.
    """
    try:
        template = read_template(deployment, container)
    except VllmPodError as error:
        return [Refusal(_reading_reason(error), f"Deployment {deployment['metadata']['name']!r}: {error}")]
    case = _Case(template, volume_claims)
    return [refusal for check in _CHECKS for refusal in check(case)]


def _reading_reason(error: VllmPodError) -> RefusalReason:
    in_shell = error.reason == "ShellCommand"
    return RefusalReason.ARGUMENTS_IN_SHELL if in_shell else RefusalReason.UNREADABLE_ARGUMENTS


def _whose(case: _Case) -> Iterator[Refusal]:
    metadata = case.template.deployment["metadata"]
    if SHAPE_LABEL in (metadata.get("labels") or {}) or SHAPE_LABEL in case.template.pod_labels:
        yield Refusal(
            RefusalReason.IS_SIBLING,
            f"Deployment {metadata['name']!r} has the label {SHAPE_LABEL}, as those that dynawatt makes: "
            "`deploymentRef` must name your own",
        )
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("controller"):
            yield Refusal(
                RefusalReason.OWNED_BY_CONTROLLER,
                f"{owner['kind']} {owner['name']!r} owns the Deployment and would undo changes: "
                "give dynawatt a Deployment of your own, or leave Shape out of `knobs`",
            )


def _arguments(case: _Case) -> Iterator[Refusal]:
    settings = case.template.settings
    if settings.in_shell:
        yield Refusal(
            RefusalReason.ARGUMENTS_IN_SHELL,
            "vLLM's arguments stand inside `sh -c`, where none can be added: give them as a list under `args`",
        )
    if settings.pipeline_parallel_size * settings.data_parallel_size > 1:
        yield Refusal(
            RefusalReason.OTHER_PARALLELISM,
            "pipeline or data parallelism above 1 is not supported: use tensor parallelism alone",
        )
    if settings.nodes > 1 or _MULTI_NODE_LABEL in case.template.pod_labels:
        yield Refusal(
            RefusalReason.MULTI_NODE,
            "a replica spans several nodes: a shape must fit into one pod, so run it on one node without `--nnodes`",
        )
    if settings.load_format in _PER_SIZE_FORMATS:
        yield Refusal(
            RefusalReason.WEIGHTS_PER_SIZE,
            f"`--load-format {settings.load_format}` reads weights that were stored for one tensor-parallel size: "
            "use another format, such as runai_streamer",
        )


def _gpus(case: _Case) -> Iterator[Refusal]:
    template = case.template
    others = [*template.pod_spec["containers"], *(template.pod_spec.get("initContainers") or ())]
    asking = [one["name"] for one in others if one["name"] != template.container["name"] and holds_gpus(one)]
    if asking:
        yield Refusal(
            RefusalReason.GPU_COUNT_UNCLEAR,
            f"container {asking[0]!r} asks for GPUs beside vLLM's {template.container['name']!r}: one alone may",
        )
    if template.gpus is None or template.gpus.number != template.replica_gpus:
        asked = template.gpus.number if template.gpus else "no"
        yield Refusal(
            RefusalReason.GPU_COUNT_UNCLEAR,
            f"container {template.container['name']!r} asks for {asked} whole GPUs, but vLLM uses "
            f"{template.replica_gpus} by its arguments: set `resources.limits` and `--tensor-parallel-size` to match",
        )
    if any(entry["name"] == "CUDA_VISIBLE_DEVICES" for entry in template.container.get("env") or ()):
        yield Refusal(
            RefusalReason.DEVICES_PINNED,
            "CUDA_VISIBLE_DEVICES names GPUs by number, which another size has more or fewer of: remove it from `env`",
        )


def _life(case: _Case) -> Iterator[Refusal]:
    template = case.template
    if problem := drain_problem(template.pod_spec, template.container, template.settings):
        yield Refusal(RefusalReason.DRAIN_NOT_CONFIGURED, problem)
    if not (template.container.get("readinessProbe") or template.container.get("startupProbe")):
        yield Refusal(
            RefusalReason.NO_READINESS_PROBE,
            "without a readiness or startup probe pods count as Ready while they load, and others would be stopped too "
            f"early: add a readinessProbe with `httpGet: {{path: /health, port: {template.settings.port}}}`",
        )


def _place(case: _Case) -> Iterator[Refusal]:
    pod_spec = case.template.pod_spec
    ports = [
        port["hostPort"] for one in pod_spec["containers"] for port in one.get("ports") or () if "hostPort" in port
    ]
    if pod_spec.get("hostNetwork"):
        yield Refusal(RefusalReason.HOST_PORTS, "with `hostNetwork` two pods on one node share their ports: remove it")
    elif ports:
        yield Refusal(
            RefusalReason.HOST_PORTS,
            f"`hostPort: {ports[0]}` lets one pod run on a node: remove it and reach pods through a Service",
        )
    if keeps_apart(pod_spec, case.template.pod_labels):
        yield Refusal(
            RefusalReason.KEPT_APART,
            "its required podAntiAffinity keeps pods of the service off one another's nodes, so that smaller "
            "ones could not share them: make it preferred",
        )


def _volumes(case: _Case) -> Iterator[Refusal]:
    for volume in case.template.pod_spec.get("volumes") or ():
        source: Mapping[str, Any] | None = volume.get("persistentVolumeClaim")
        if source is None:
            continue
        claim = source["claimName"]
        modes = case.claims.get(claim)
        if modes is None:
            yield Refusal(
                RefusalReason.VOLUME_UNKNOWN,
                f"PersistentVolumeClaim {claim!r} of volume {volume['name']!r} does not exist: create it",
            )
        elif not _SHARED_ACCESS & set(modes):
            yield Refusal(
                RefusalReason.VOLUME_NOT_SHARED,
                f"PersistentVolumeClaim {claim!r} is {', '.join(modes) or 'without access mode'}, so pods on another "
                "node cannot mount it: use ReadOnlyMany or ReadWriteMany, or a hostPath or image volume for weights",
            )


_CHECKS: Final[Sequence[Callable[[_Case], Iterator[Refusal]]]] = (
    _whose,
    _arguments,
    _gpus,
    _life,
    _place,
    _volumes,
)
