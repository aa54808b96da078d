from dataclasses import replace

import pytest

from dynawatt.adapters.profile_files import shipped_profiles
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.architecture import ServedModel
from dynawatt.perfmodel.architectures import ARCHITECTURES
from dynawatt.perfmodel.catalog import UnknownProfileError, check_engine_range, pick_profile, profile_name, replica_of
from dynawatt.perfmodel.gpus import H100_SXM, H200_SXM

LLAMA_8B, LLAMA_70B = ARCHITECTURES["llama-3.1-8b"], ARCHITECTURES["llama-3.1-70b"]
NAME = profile_name("llama-3.1-70b", "bf16", "h100-sxm")
PROFILE = shipped_profiles()[NAME]


def test_the_profile_of_a_model_on_a_gpu():
    assert pick_profile({NAME: PROFILE}, ServedModel(LLAMA_70B, "bf16"), H100_SXM) is PROFILE


def test_a_finetunes_own_context_limit_is_kept():
    longer = replace(LLAMA_70B, context_tokens=262_144)
    found = pick_profile({NAME: PROFILE}, ServedModel(longer, "bf16"), H100_SXM)
    assert found.architecture.context_tokens == 262_144
    assert found.shapes is PROFILE.shapes


@pytest.mark.parametrize(
    ("model", "gpu", "wanted"),
    [
        (ServedModel(LLAMA_70B, "fp8"), H100_SXM, "llama-3.1-70b in fp8 on h100-sxm"),
        (ServedModel(LLAMA_8B, "bf16"), H100_SXM, "llama-3.1-8b in bf16 on h100-sxm"),
        (ServedModel(LLAMA_70B, "bf16"), H200_SXM, "llama-3.1-70b in bf16 on h200-sxm"),
    ],
)
def test_no_profile(model, gpu, wanted):
    with pytest.raises(UnknownProfileError, match=f"no profile for {wanted}: nearest {NAME}"):
        pick_profile({NAME: PROFILE}, model, gpu)


def test_an_empty_collection():
    with pytest.raises(UnknownProfileError, match="must be one of none"):
        pick_profile({}, ServedModel(LLAMA_70B, "bf16"), H100_SXM)


def test_weights_that_do_not_fit():
    with pytest.raises(
        UnknownProfileError, match=r"llama-3\.1-70b in bf16 does not fit on 1 x h100-sxm: .* at least 2"
    ):
        replica_of(PROFILE, 1)
    huge = replace(PROFILE, weight_bytes=1e15)
    with pytest.raises(UnknownProfileError, match="does not fit on 8 x h100-sxm: needs a GPU with more memory"):
        replica_of(huge, 8)


@pytest.mark.parametrize("tensor_parallel", [-1, 0, 3, 16])
def test_degrees_that_the_profile_does_not_cover(tensor_parallel):
    with pytest.raises(InvalidInputError, match=f"tensor parallelism {tensor_parallel} of {NAME}: the profile covers"):
        replica_of(PROFILE, tensor_parallel)


def test_the_kv_cache_gets_what_weights_leave():
    smaller, larger = (replica_of(PROFILE, size).kv_capacity_tokens for size in (4, 8))
    assert (larger - smaller) * 327_680 == pytest.approx(4 * (0.9 * H100_SXM.memory_bytes - 4e9), rel=1e-5)
    assert smaller * 327_680 < 4 * H100_SXM.memory_bytes - PROFILE.weight_bytes


def test_engine_settings_within_the_range():
    replica = replica_of(PROFILE, 8)
    check_engine_range(replica, max_num_batched_tokens=replica.max_iteration_tokens, max_num_seqs=1)
    check_engine_range(replica, max_num_batched_tokens=1, max_num_seqs=replica.max_decode_requests)


@pytest.mark.parametrize(
    ("tokens", "requests", "problem"),
    [
        (0, 1, r"--max-num-batched-tokens is 0: profile \S+ covers iterations of 1 to"),
        (10**6, 1, r"--max-num-batched-tokens is 1000000: profile \S+ covers iterations of 1 to"),
        (1, 0, r"--max-num-seqs is 0: profile \S+ covers 1 to"),
        (1, 10**6, r"--max-num-seqs is 1000000: profile \S+ covers 1 to"),
    ],
)
def test_engine_settings_beyond_the_range(tokens, requests, problem):
    with pytest.raises(InvalidInputError, match=problem):
        check_engine_range(replica_of(PROFILE, 8), max_num_batched_tokens=tokens, max_num_seqs=requests)
