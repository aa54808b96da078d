"""What to apply for each rung: vLLM's flags, and the LLMService that ``kubectl apply`` takes."""

import re
from math import floor
from typing import Any, Final

import yaml

from dynawatt.adapters.engine_settings import changed_flags
from dynawatt.api.group import API_VERSION
from dynawatt.api.llmservice import Knob, LLMServiceSpec
from dynawatt.cli.simulate.options import Slo
from dynawatt.quantities import MS_PER_S
from dynawatt.simulation.advice.rungs import Advice, Step
from dynawatt.simulation.fleet_core import ReplicaShape

HIGHEST_PERCENTILE: Final = 99
"""That an LLMService takes."""
_KNOBS: Final = {Step.CLOCK: (Knob.CLOCK,), Step.REPLICAS: (Knob.CLOCK, Knob.REPLICAS)}


def vllm_flags(shape: ReplicaShape, before: ReplicaShape) -> list[str]:
    """Flags of a shape that differ from those before."""
    degree = shape.replica.tensor_parallel
    resized = [] if degree == before.replica.tensor_parallel else [f"--tensor-parallel-size={degree}"]
    return [*resized, *changed_flags(shape.settings, before.settings)]


def llmservice(advice: Advice, step: Step, slo: Slo, deployment: str, namespace: str) -> dict[str, Any]:
    """The resource of a rung, in mode Recommend. Raises InvalidInputError where the API would refuse it."""
    rung = advice.rung(step)
    replicas = (advice.present if rung is None else rung).course.replicas
    ttft = [
        {"milliseconds": _whole_ms(objective_s)} | ({} if bound is None else {"maxInputTokens": bound})
        for bound, objective_s in slo.objectives.ttft
    ]
    spec = {
        "deploymentRef": {"name": deployment},
        "mode": "Recommend",
        "knobs": [knob.value for knob in _KNOBS[step]],
        "slo": {
            "percentile": min(floor(slo.percentile), HIGHEST_PERCENTILE),
            "interTokenMilliseconds": _whole_ms(slo.objectives.tbt_s),
            "timeToFirstToken": ttft,
        },
    }
    if Knob.REPLICAS in _KNOBS[step]:
        most = max(int(replicas.max()), int(advice.present.course.replicas.max()))
        spec["replicas"] = {"min": max(1, int(replicas.min())), "max": most}
    LLMServiceSpec.parse(spec)
    metadata = {"name": deployment} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": API_VERSION, "kind": "LLMService", "metadata": metadata, "spec": spec}


def as_yaml(resource: dict[str, Any]) -> str:
    """As people write it: short lists and mappings on one line."""
    return yaml.safe_dump(resource, sort_keys=False, default_flow_style=None, width=100)


def dns_name(text: str) -> str:
    """A name that Kubernetes takes, after a model's."""
    name = re.sub(r"[^a-z0-9]+", "-", text.rsplit("/", 1)[-1].lower()).strip("-")
    return name[:63].strip("-") or "my-vllm"


def _whole_ms(seconds_: float) -> int:
    """The API takes whole milliseconds; rounded down, which is the stricter side."""
    return max(1, floor(seconds_ * MS_PER_S + 1e-9))
