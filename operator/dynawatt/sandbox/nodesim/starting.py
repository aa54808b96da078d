"""Starts a replica on a pod's GPUs, with the checks that make real vLLM exit."""

import time
from collections.abc import Sequence
from typing import Final

from dynawatt.adapters.vllm_args import DEFAULT_MAX_NUM_BATCHED_TOKENS, DEFAULT_MAX_NUM_SEQS, VllmSettings
from dynawatt.perfmodel.catalog import replica_models
from dynawatt.sandbox.nodesim.gpus import SimulatedGpu
from dynawatt.sandbox.nodesim.http_metrics import HttpMetrics
from dynawatt.sandbox.nodesim.replica import Replica
from dynawatt.sandbox.nodesim.server import Served
from dynawatt.sandbox.nodesim.vllm_metrics import VllmMetrics
from dynawatt.simulation.engine import EngineSettings, ReplicaEngine

MODEL_CONTEXT_TOKENS: Final = 131_072  # of Llama 3.1, the only family with a profile
_PLAIN_DTYPES: Final = frozenset({"auto", "bfloat16", "float16", "half"})


def start_replica(settings: VllmSettings, gpus: Sequence[SimulatedGpu]) -> Served:
    """Load the model onto the first GPUs. Raises ValueError with the reason why vLLM could not start."""
    per_replica = settings.tensor_parallel_size
    if settings.pipeline_parallel_size != 1 or settings.data_parallel_size != 1:
        raise ValueError("pipeline and data parallelism are not simulated: use tensor parallelism only")
    if settings.quantization or (settings.dtype or "auto") not in _PLAIN_DTYPES:
        wanted = settings.quantization or settings.dtype
        raise ValueError(f"no profile for weights in {wanted}: only 16-bit weights are simulated")
    if len(gpus) < per_replica:
        raise ValueError(f"--tensor-parallel-size is {per_replica} but the pod has {len(gpus)} GPUs: request as many")
    models = replica_models(settings.model, gpus[0].spec.name, per_replica)
    max_model_len = settings.max_model_len or MODEL_CONTEXT_TOKENS
    if not max_model_len <= min(MODEL_CONTEXT_TOKENS, models.kv_capacity_tokens):
        raise ValueError(
            f"--max-model-len is {max_model_len}: the model takes {MODEL_CONTEXT_TOKENS} tokens "
            f"and the KV cache {models.kv_capacity_tokens}"
        )
    max_num_seqs = settings.max_num_seqs or DEFAULT_MAX_NUM_SEQS
    engine = ReplicaEngine(
        EngineSettings(
            max_num_batched_tokens=settings.max_num_batched_tokens or DEFAULT_MAX_NUM_BATCHED_TOKENS,
            max_num_seqs=max_num_seqs,
            kv_capacity_tokens=models.kv_capacity_tokens,
        ),
        models,
    )
    created_unix_s = time.time()
    metrics = VllmMetrics(
        model_name=settings.served_model_name,
        max_model_len=max_model_len,
        max_num_seqs=max_num_seqs,
        kv_capacity_tokens=models.kv_capacity_tokens,
        created_unix_s=created_unix_s,
    )
    replica = Replica(engine, gpus[:per_replica], metrics)
    return Served(settings, max_model_len, replica, metrics, HttpMetrics(created_unix_s))
