"""The services that are managed: their Deployments, their LLMServices, and the load that their pods tell of."""

from dataclasses import dataclass
from typing import Any

NAMESPACES = 10
SCALED, SHAPED = "scaled", "shaped"
PODS_PORT = 8000


@dataclass(frozen=True)
class Class:
    """Services of one model and tensor-parallel size."""

    model: str
    tensor_parallel: int
    replicas: int
    replica_rps: tuple[float, ...]
    """Load of each replica by mix: about half of what it carries within the SLO."""


EIGHT_B, EIGHT_B_TP2, QWEN, SEVENTY_B, SEVENTY_B_TP8 = (
    Class("meta-llama/Llama-3.1-8B-Instruct", 1, 6, (12.0, 9.0, 14.0)),
    Class("meta-llama/Llama-3.1-8B-Instruct", 2, 4, (16.0, 14.0, 18.0)),
    Class("Qwen/Qwen3-32B", 2, 5, (5.5, 3.0, 8.0)),
    Class("meta-llama/Llama-3.1-70B-Instruct", 4, 4, (5.0, 1.5, 7.0)),
    Class("meta-llama/Llama-3.1-70B-Instruct", 8, 2, (8.0, 5.5, 10.0)),
)
# Of thirty services; 151 pods on 260 GPUs.
_CLASSES = [*[EIGHT_B] * 15, *[EIGHT_B_TP2] * 5, *[QWEN] * 5, *[SEVENTY_B] * 3, *[SEVENTY_B_TP8] * 2]
# Mean lengths of prompts and answers, each near the middle of its bin.
_MIXES = ((1024.0, 203.0), (1626.0, 128.0), (512.0, 256.0))
# What is allowed to ten services in a row.
_KNOBS = [None] * 5 + [["Clock"]] * 3 + [["Clock", "Replicas"], ["Clock", "Replicas", "Shape"]]


@dataclass(frozen=True)
class Service:
    """One of them."""

    number: int

    @property
    def name(self) -> str:
        """Of the LLMService and of its Deployment."""
        return f"llm-{self.number:04d}"

    @property
    def namespace(self) -> str:
        """They are spread over ten."""
        return f"team-{self.number % NAMESPACES}"

    @property
    def of(self) -> Class:
        """Neighbours differ, so that any number of services is mixed alike."""
        return _CLASSES[(self.number * 7) % len(_CLASSES)]

    @property
    def knobs(self) -> list[str] | None:
        """None for one that is only recommended to."""
        return _KNOBS[(self.number // 3) % len(_KNOBS)]

    @property
    def mix(self) -> tuple[float, float]:
        """Mean tokens of prompts and of answers."""
        return _MIXES[self.number % len(_MIXES)]

    @property
    def rate_rps(self) -> float:
        """Of all replicas that it begins with."""
        return self.of.replicas * self.of.replica_rps[self.number % len(_MIXES)]

    def deployment(self) -> dict[str, Any]:
        """As a user writes it."""
        size, labels = self.of.tensor_parallel, {"app": self.name}
        container = {
            "name": "vllm",
            "image": "vllm/vllm-openai:v0.18.0",
            "args": [
                f"--model={self.of.model}",
                f"--tensor-parallel-size={size}",
                "--max-num-batched-tokens=2048",
                "--max-num-seqs=256",
                "--max-model-len=16384",
                "--shutdown-timeout=100",
            ],
            "ports": [{"name": "http", "containerPort": PODS_PORT}],
            "resources": {"limits": {"nvidia.com/gpu": str(size)}, "requests": {"cpu": "4", "memory": "32Gi"}},
            "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}},
            "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
        }
        pod_spec = {"terminationGracePeriodSeconds": 120, "containers": [container]}
        template = {"metadata": {"labels": labels}, "spec": pod_spec}
        spec = {"replicas": self.of.replicas, "selector": {"matchLabels": labels}, "template": template}
        return self._object("apps/v1", "Deployment", spec)

    def llmservice(self) -> dict[str, Any]:
        """As a user writes it."""
        spec: dict[str, Any] = {
            "deploymentRef": {"name": self.name},
            "slo": {"interTokenMilliseconds": 200, "timeToFirstToken": [{"milliseconds": 2000}]},
            "replicas": {"min": 1, "max": 40},
        }
        if self.knobs is not None:
            spec |= {"mode": "Auto", "knobs": self.knobs}
            if "Shape" in self.knobs:
                spec["tensorParallelSizes"] = sorted({self.of.tensor_parallel, 4, 8})
        return self._object("dynawatt.dev/v1alpha1", "LLMService", spec)

    def load(self) -> dict[str, Any]:
        """What the exporter is told."""
        return {"model": self.of.model, "rate_rps": self.rate_rps, "lengths": self.mix}

    def _object(self, api_version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        metadata = {"name": self.name, "namespace": self.namespace}
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}


def fleet(count: int) -> list[Service]:
    """So many services."""
    return [Service(number) for number in range(count)]


def nodes_for(count: int) -> int:
    """As 400 nodes are to 300 services."""
    return -(-4 * count // 3)
