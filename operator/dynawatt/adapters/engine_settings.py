"""The engine settings that a vLLM replica runs with: its flags, and vLLM's defaults where they are absent."""

from dynawatt.adapters.vllm_args import VllmSettings, default_max_num_batched_tokens, default_max_num_seqs
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.catalog import check_engine_range
from dynawatt.perfmodel.profile import ReplicaProfile
from dynawatt.simulation.settings import EngineSettings

_SCHEDULING_POLICIES = ("fcfs", "priority")


def engine_settings(vllm: VllmSettings, replica: ReplicaProfile) -> EngineSettings:
    """Settings of a replica started with these flags.

    Raises InvalidInputError when vLLM would not start with them or the profile does not cover them.
    """
    max_num_batched_tokens = vllm.max_num_batched_tokens or default_max_num_batched_tokens(replica.gpu)
    max_num_seqs = vllm.max_num_seqs or default_max_num_seqs(replica.gpu, max_num_batched_tokens)
    if max_num_batched_tokens < max_num_seqs:
        raise InvalidInputError(
            f"--max-num-batched-tokens is {max_num_batched_tokens}: must be at least --max-num-seqs, {max_num_seqs}"
        )
    if vllm.scheduling_policy not in _SCHEDULING_POLICIES:
        raise InvalidInputError(
            f"--scheduling-policy is {vllm.scheduling_policy!r}: must be {' or '.join(_SCHEDULING_POLICIES)}"
        )
    check_engine_range(replica, max_num_batched_tokens=max_num_batched_tokens, max_num_seqs=max_num_seqs)
    # Nothing sends priorities yet, and among equal ones vLLM goes by arrival: both policies are fcfs.
    return EngineSettings(
        max_num_batched_tokens,
        max_num_seqs,
        replica.kv_capacity_tokens,
        long_prefill_token_threshold=vllm.long_prefill_token_threshold,
    )


def engine_flags(settings: EngineSettings) -> dict[str, int]:
    """The settings that vLLM takes as flags, but for the queue order."""
    return {
        "--max-num-batched-tokens": settings.max_num_batched_tokens,
        "--max-num-seqs": settings.max_num_seqs,
        "--long-prefill-token-threshold": settings.long_prefill_token_threshold,
    }


def changed_flags(new: EngineSettings, old: EngineSettings) -> list[str]:
    """The flags that lead from old settings to new ones, as they stand among vLLM's arguments."""
    before = engine_flags(old)
    return [f"{flag}={value}" for flag, value in engine_flags(new).items() if value != before[flag]]
