"""Profiles that are shipped, and which of them serves a model on a GPU."""

import json

import pytest

from dynawatt.adapters.profile_files import find_replica, read_model_config, shipped_profiles
from dynawatt.adapters.vllm_args import default_max_num_batched_tokens, default_max_num_seqs
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.architectures import ARCHITECTURES, UnknownModelError
from dynawatt.perfmodel.catalog import UnknownProfileError, check_engine_range, profile_name
from dynawatt.perfmodel.gpus import H100_SXM


@pytest.mark.parametrize("name", [*shipped_profiles()])
def test_shipped_profiles_are_whole(name):
    profile = shipped_profiles()[name]
    assert profile.architecture == ARCHITECTURES[profile.architecture.name]
    for size in profile.tensor_parallel_sizes:
        replica = profile.replica(size)
        assert replica.kv_capacity_tokens > 0
        if name == profile_name(profile.architecture.name, profile.precision, profile.gpu.name):
            tokens = default_max_num_batched_tokens(profile.gpu)
            requests = default_max_num_seqs(profile.gpu, tokens)
            check_engine_range(replica, max_num_batched_tokens=tokens, max_num_seqs=requests)


def test_shipped_files_are_below_100_kb():
    from importlib.resources import files

    sizes = {path.name: len(path.read_bytes()) for path in (files("dynawatt") / "profiles").iterdir()}
    assert max(sizes.values()) < 100_000


@pytest.mark.parametrize(
    ("model", "tensor_parallel", "profile"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 1, "llama-3.1-8b-bf16-h100-sxm-tp1"),
        ("meta-llama/Llama-3.3-70B-Instruct", 4, "llama-3.1-70b-bf16-h100-sxm-tp4"),
        ("someone/llama-3.1-70b-finetune", 8, "llama-3.1-70b-bf16-h100-sxm-tp8"),
        ("llama-3.1-70b-bf16-h100-sxm", 8, "llama-3.1-70b-bf16-h100-sxm-tp8"),
    ],
)
def test_replicas_are_found(model, tensor_parallel, profile):
    found = find_replica(model, "NVIDIA-H100-80GB-HBM3", tensor_parallel)
    assert (found.name, found.tensor_parallel, found.gpu) == (profile, tensor_parallel, H100_SXM)


def test_a_quantised_model_gets_another_profile():
    plain, flagged, named = (
        find_replica("meta-llama/Llama-3.1-8B", "h100-sxm", 1),
        find_replica("meta-llama/Llama-3.1-8B", "h100-sxm", 1, quantization="fp8"),
        find_replica("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8", "h100-sxm", 1),
    )
    assert flagged.name == named.name == "llama-3.1-8b-fp8-h100-sxm-tp1"
    assert plain.kv_capacity_tokens < flagged.kv_capacity_tokens


def test_the_context_is_the_models_own():
    contexts = [
        find_replica(model, "h100-sxm", 1).model.architecture.context_tokens
        for model in ("meta-llama/Meta-Llama-3-8B", "meta-llama/Llama-3.1-8B")
    ]
    assert contexts == [8192, 131072]


@pytest.mark.parametrize(
    ("model", "gpu", "tensor_parallel", "error", "problem"),
    [
        ("nobody/knows-1b", "h100-sxm", 1, UnknownModelError, "no profile for model 'nobody/knows-1b'"),
        ("Llama-3.1-8B-AWQ", "h100-sxm", 1, InvalidInputError, "no profile for weights in awq"),
        ("Llama-3.1-8B", "h1000", 1, InvalidInputError, "GPU 'h1000' is not known: nearest h100-sxm"),
        ("Llama-3.1-70B", "h100-sxm", 1, UnknownProfileError, "does not fit on 1 x h100-sxm: needs at least 2 GPUs"),
        ("Llama-3.1-8B", "h100-sxm", 3, InvalidInputError, "tensor parallelism 3 of llama-3.1-8b-bf16-h100-sxm"),
        ("Llama-3.1-8B", "h100-sxm", 0, InvalidInputError, "tensor parallelism 0"),
        ("llama-3.1-8b-bf16-h100-sxm", "h200-sxm", 1, UnknownProfileError, "is of h100-sxm, not of h200-sxm"),
    ],
)
def test_what_has_no_replica(model, gpu, tensor_parallel, error, problem):
    with pytest.raises(error, match=problem):
        find_replica(model, gpu, tensor_parallel)


def llama_8b_config(**changes):
    return {
        "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 32768, "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 8, "vocab_size": 128264, "torch_dtype": "bfloat16", **changes,
    }  # fmt: skip


def test_a_finetune_by_its_config(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(llama_8b_config()))
    found = find_replica(read_model_config(path), "h100-sxm", 2)
    assert found.name == "llama-3.1-8b-bf16-h100-sxm-tp2"
    assert found.model.architecture.context_tokens == 32768


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is not JSON"),
        ("[]", "must be a JSON object, not list"),
        (json.dumps(llama_8b_config(num_hidden_layers=31)), "nearest is llama-3.1-8b, whose layers is 32, not 31"),
        (json.dumps(llama_8b_config(hidden_size=None)), "hidden_size must be given"),
    ],
)
def test_configs_that_tell_nothing(tmp_path, content, problem):
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(InvalidInputError, match=problem) as caught:
        read_model_config(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_config_without_a_field_is_named_once(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("{}")
    with pytest.raises(InvalidInputError, match=r"config\.json: \w+ must be given") as raised:
        read_model_config(path)
    assert str(raised.value).count("config.json") == 1


def test_a_config_that_is_not_there(tmp_path):
    with pytest.raises(InvalidInputError, match="No such file"):
        read_model_config(tmp_path / "config.json")
