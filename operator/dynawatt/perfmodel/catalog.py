"""Finds the models of a replica from what vLLM was started with.

Two architectures so far, both on H100 in bf16; fine-tunes are recognised by the
size in their name.
"""

from dataclasses import dataclass
from typing import Final

from dynawatt.perfmodel.gpus import GpuSpec, gpu_by_name
from dynawatt.perfmodel.models import PowerModel, StepModel
from dynawatt.perfmodel.roofline import Architecture, RooflineModel

# Parameters, layers and heads as in each model's published config.json.
_LLAMA_3_8B: Final = Architecture("llama-3.1-8b", 8.03e9, layers=32, hidden=4096, kv_heads=8, head_dim=128)
_LLAMA_3_70B: Final = Architecture("llama-3.1-70b", 70.6e9, layers=80, hidden=8192, kv_heads=8, head_dim=128)
_BY_NAME: Final = (("llama-3", "8b", _LLAMA_3_8B), ("llama-3", "70b", _LLAMA_3_70B))

_GPU_MEMORY_UTILISATION: Final = 0.9  # vLLM's default of --gpu-memory-utilization
_ACTIVATION_BYTES: Final = 4e9  # activations and CUDA graphs per GPU, a round figure
TENSOR_PARALLEL_SIZES: Final = (1, 2, 4, 8)


class UnknownProfileError(ValueError):
    """No profile fits; the message says which ones exist."""


@dataclass(frozen=True, slots=True)
class ReplicaModels:
    """Everything physical about one replica of a shape."""

    profile: str
    gpu: GpuSpec
    tensor_parallel: int
    step: StepModel
    power: PowerModel
    kv_capacity_tokens: int


def replica_models(model: str, gpu: str, tensor_parallel: int) -> ReplicaModels:
    """Models of a replica of ``model`` (a Hugging Face name) on ``tensor_parallel`` GPUs.

    Raises UnknownProfileError when no profile fits or the weights do not, InvalidInputError for an unknown GPU.
    """
    wanted = model.lower()
    architecture = next((arch for family, size, arch in _BY_NAME if family in wanted and f"-{size}" in wanted), None)
    if architecture is None:
        known = ", ".join(arch.name for _, _, arch in _BY_NAME)
        raise UnknownProfileError(f"no profile for model {model!r}: profiles exist for {known}")
    if tensor_parallel not in TENSOR_PARALLEL_SIZES:
        raise UnknownProfileError(f"no profile for tensor parallelism {tensor_parallel}: must be 1, 2, 4 or 8")
    spec = gpu_by_name(gpu)
    usable_bytes = spec.memory_bytes * _GPU_MEMORY_UTILISATION - _ACTIVATION_BYTES
    kv_bytes = tensor_parallel * usable_bytes - architecture.weight_bytes
    if kv_bytes <= 0:
        raise UnknownProfileError(f"{architecture.name} does not fit on {tensor_parallel} x {spec.name}")
    roofline = RooflineModel(architecture, spec, tensor_parallel)
    return ReplicaModels(
        profile=f"{architecture.name}-{spec.name}-tp{tensor_parallel}",
        gpu=spec,
        tensor_parallel=tensor_parallel,
        step=roofline,
        power=roofline,
        kv_capacity_tokens=int(kv_bytes // architecture.kv_bytes_per_token),
    )
