"""Picks the profile of a model on a GPU out of a collection, and refuses what it does not cover."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from dynawatt.errors import InvalidInputError, nearest_names
from dynawatt.perfmodel.architecture import ServedModel
from dynawatt.perfmodel.gpus import GpuSpec
from dynawatt.perfmodel.profile import ModelProfile, ReplicaProfile

_MOST_GPUS: Final = 16
"""Of one replica, on one node."""


class UnknownProfileError(InvalidInputError):
    """No profile fits; the message says which ones are near."""


def profile_name(architecture: str, precision: str, gpu: str) -> str:
    """Name of the usual profile of an architecture on a GPU; ones for special purposes have others."""
    return f"{architecture}-{precision}-{gpu}"


def pick_profile(profiles: Mapping[str, ModelProfile], model: ServedModel, gpu: GpuSpec) -> ModelProfile:
    """The profile of a model on a GPU, with the model's own context limit. Raises UnknownProfileError.

    Profiles stand under their names; a collection that reads them from files reads no other one.
    """
    wanted = profile_name(model.architecture.name, model.precision, gpu.name)
    if wanted not in profiles:
        raise UnknownProfileError(
            f"no profile for {model.architecture.name} in {model.precision} on {gpu.name}: "
            f"{nearest_names(wanted, profiles)}"
        )
    profile = profiles[wanted]
    return profile if profile.architecture == model.architecture else replace(profile, architecture=model.architecture)


def replica_of(profile: ModelProfile, tensor_parallel: int) -> ReplicaProfile:
    """The replica of a profile at a tensor-parallel degree.

    Raises UnknownProfileError when the weights leave no memory for a KV cache, InvalidInputError when the profile does
    not cover the degree.
    """
    if tensor_parallel >= 1 and ReplicaProfile(profile, tensor_parallel).kv_capacity_tokens <= 0:
        needed = _fewest_gpus(profile)
        raise UnknownProfileError(
            f"{profile.architecture.name} in {profile.precision} does not fit on {tensor_parallel} x "
            f"{profile.gpu.name}: " + (f"needs at least {needed} GPUs" if needed else "needs a GPU with more memory")
        )
    return profile.replica(tensor_parallel)


def check_engine_range(replica: ReplicaProfile, *, max_num_batched_tokens: int, max_num_seqs: int) -> None:
    """Refuse engine settings under which iterations could leave the profile's range. Raises InvalidInputError."""
    if not 1 <= max_num_batched_tokens <= replica.max_iteration_tokens:
        raise InvalidInputError(
            f"--max-num-batched-tokens is {max_num_batched_tokens}: profile {replica.model.name} covers iterations of "
            f"1 to {replica.max_iteration_tokens} tokens"
        )
    if not 1 <= max_num_seqs <= replica.max_decode_requests:
        raise InvalidInputError(
            f"--max-num-seqs is {max_num_seqs}: profile {replica.model.name} covers 1 to "
            f"{replica.max_decode_requests} decoding requests"
        )


def _fewest_gpus(profile: ModelProfile) -> int | None:
    sizes = [2**power for power in range(_MOST_GPUS.bit_length())]
    return next((size for size in sizes if ReplicaProfile(profile, size).kv_capacity_tokens > 0), None)
