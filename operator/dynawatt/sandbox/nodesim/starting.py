"""Starts a replica on a pod's GPUs, with the checks that make real vLLM exit."""

import time
from collections.abc import Sequence

from dynawatt.adapters.engine_settings import engine_settings
from dynawatt.adapters.profile_files import find_replica
from dynawatt.adapters.vllm_args import VllmSettings
from dynawatt.sandbox.nodesim.gpus import SimulatedGpu
from dynawatt.sandbox.nodesim.http_metrics import HttpMetrics
from dynawatt.sandbox.nodesim.replica import Replica
from dynawatt.sandbox.nodesim.server import Served
from dynawatt.sandbox.nodesim.vllm_metrics import VllmMetrics
from dynawatt.simulation.engine import ReplicaEngine


def start_replica(settings: VllmSettings, gpus: Sequence[SimulatedGpu]) -> Served:
    """Load the model onto the first GPUs. Raises ValueError with the reason why vLLM could not start."""
    per_replica = settings.tensor_parallel_size
    if settings.pipeline_parallel_size != 1 or settings.data_parallel_size != 1:
        raise ValueError("pipeline and data parallelism are not simulated: use tensor parallelism only")
    if len(gpus) < per_replica:
        raise ValueError(f"--tensor-parallel-size is {per_replica} but the pod has {len(gpus)} GPUs: request as many")
    models = find_replica(
        settings.model,
        gpus[0].spec.name,
        per_replica,
        quantization=settings.quantization,
        dtype=settings.dtype,
    )
    context_tokens = models.model.architecture.context_tokens
    max_model_len = settings.max_model_len or context_tokens
    engine_limits = engine_settings(settings, models)
    kv_tokens = engine_limits.kv_blocks * engine_limits.block_tokens
    if not max_model_len <= min(context_tokens, kv_tokens):
        raise ValueError(
            f"--max-model-len is {max_model_len}: the model takes {context_tokens} tokens and the KV cache {kv_tokens}"
        )
    created_unix_s = time.time()
    metrics = VllmMetrics(
        model_name=settings.served_model_name,
        max_model_len=max_model_len,
        max_num_seqs=engine_limits.max_num_seqs,
        kv_capacity_tokens=models.kv_capacity_tokens,
        created_unix_s=created_unix_s,
    )
    replica = Replica(ReplicaEngine(engine_limits, models), gpus[:per_replica], metrics)
    return Served(settings, max_model_len, replica, metrics, HttpMetrics(created_unix_s))
