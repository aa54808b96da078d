import importlib.util
import json
from pathlib import Path

import pytest

from dynawatt.errors import InvalidInputError, nearest_names
from dynawatt.perfmodel.architectures import ARCHITECTURES, UnknownModelError, architecture_of, model_of

LLAMA_70B = {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "max_position_embeddings": 131072,
    "num_attention_heads": 64,
    "num_hidden_layers": 80,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "torch_dtype": "bfloat16",
}
GPT_OSS_120B = {
    "experts_per_token": 4,
    "head_dim": 64,
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "max_position_embeddings": 131072,
    "num_attention_heads": 64,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "num_local_experts": 128,
    "quantization_config": {"quant_method": "mxfp4"},
    "sliding_window": 128,
    "vocab_size": 201088,
}
COMPRESSED_FP8 = {"num_bits": 8, "type": "float"}


def published(name):
    """A config.json as aiconfigurator-core carries it."""
    package = importlib.util.find_spec("aiconfigurator_core")
    if package is None:
        pytest.skip("aiconfigurator-core is not installed")
    file = Path(package.submodule_search_locations[0]) / "model_configs" / f"{name}_config.json"
    return json.loads(file.read_text())


@pytest.mark.parametrize(
    ("config", "name", "precision"),
    [
        ("meta-llama--Meta-Llama-3.1-8B", "llama-3.1-8b", "bf16"),
        ("meta-llama--Meta-Llama-3.1-70B", "llama-3.1-70b", "bf16"),
        ("Qwen--Qwen3-32B", "qwen3-32b", "bf16"),
        ("Qwen--Qwen3-32B-FP8", "qwen3-32b", "fp8"),
        ("mistralai--Mixtral-8x7B-v0.1", "mixtral-8x7b", "bf16"),
        ("openai--gpt-oss-120b", "gpt-oss-120b", "mxfp4"),
    ],
)
def test_published_configs(config, name, precision):
    model = model_of(published(config))
    assert (model.architecture, model.precision) == (ARCHITECTURES[name], precision)


@pytest.mark.parametrize(
    "config",
    ["openai--gpt-oss-20b", "Qwen--Qwen3-8B", "meta-llama--Meta-Llama-3.1-405B", "Qwen--Qwen3-30B-A3B"],
)
def test_other_published_configs_are_refused(config):
    with pytest.raises(UnknownModelError, match="no profile for the architecture"):
        model_of(published(config))


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=lambda architecture: architecture.name)
def test_parameters_follow_from_the_shape(architecture):
    attention = 2 * architecture.hidden * architecture.head_dim * (architecture.heads + architecture.kv_heads)
    feed_forward = 3 * architecture.hidden * architecture.intermediate * architecture.experts
    embeddings = 2 * architecture.vocabulary * architecture.hidden
    assert architecture.parameters == pytest.approx(
        architecture.layers * (attention + feed_forward) + embeddings, rel=2e-3
    )


def test_llama_2_and_3_differ_in_the_vocabulary():
    assert architecture_of(LLAMA_70B).name == "llama-3.1-70b"
    assert architecture_of(LLAMA_70B | {"vocab_size": 32000}).name == "llama-2-70b"


def test_a_finetune_keeps_its_context_and_its_added_tokens():
    found = architecture_of(LLAMA_70B | {"vocab_size": 128264, "max_position_embeddings": 16384})
    assert (found.name, found.context_tokens, found.vocabulary) == ("llama-3.1-70b", 16384, 128256)


def test_a_window_that_is_switched_off():
    assert architecture_of(LLAMA_70B | {"sliding_window": 4096, "use_sliding_window": False}).name == "llama-3.1-70b"
    with pytest.raises(UnknownModelError, match="sliding_window_tokens is 0, not 4096"):
        architecture_of(LLAMA_70B | {"sliding_window": 4096})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"num_hidden_layers": 79}, "nearest is llama-3.1-70b, whose layers is 80, not 79"),
        ({"num_key_value_heads": None}, "nearest is llama-3.1-70b, whose kv_heads is 8, not 64"),
        ({"head_dim": 256}, "whose head_dim is 128, not 256"),
        ({"num_experts": 8}, "whose experts is 1, not 8"),
        ({"hidden_size": None}, "config.json: hidden_size must be given"),
        ({"hidden_size": "8192"}, "config.json: hidden_size: '8192' must be a positive whole number"),
        ({"hidden_size": True}, "config.json: hidden_size: True must be a positive whole number"),
        ({"num_attention_heads": 0}, "config.json: num_attention_heads: 0 must be a positive whole number"),
        ({"hidden_size": float("nan")}, "config.json: hidden_size: nan must be a positive whole number"),
    ],
)
def test_configs_that_fit_nothing(change, problem):
    with pytest.raises(InvalidInputError, match=problem):
        architecture_of(LLAMA_70B | change)


@pytest.mark.parametrize(
    ("quantization", "precision"),
    [
        (None, "bf16"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "fbgemm_fp8"}, "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": COMPRESSED_FP8, "input_activations": COMPRESSED_FP8}},
            },
            "fp8",
        ),
    ],
)
def test_precision_of_a_config(quantization, precision):
    assert model_of(LLAMA_70B | {"quantization_config": quantization}).precision == precision


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"quantization_config": {"quant_method": "awq"}}, "weights in awq"),
        ({"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}, "weights in modelopt"),
        ({"quantization_config": {"quant_method": "compressed-tensors"}}, "weights in compressed-tensors"),
        (
            {
                "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "config_groups": {"group_0": {"weights": COMPRESSED_FP8, "input_activations": None}},
                }
            },
            "weights in compressed-tensors",
        ),
        ({"torch_dtype": "float32"}, "weights in float32"),
    ],
)
def test_formats_without_profiles(change, problem):
    with pytest.raises(InvalidInputError, match=problem):
        model_of(LLAMA_70B | change)


def test_keys_and_values_in_windowed_layers_do_not_grow():
    gpt_oss = architecture_of(GPT_OSS_120B)
    assert gpt_oss.kv_bytes_per_token == 2 * 18 * 8 * 64 * 2
    assert ARCHITECTURES["llama-3.1-70b"].kv_bytes_per_token == 327_680


def test_nearest_names():
    assert nearest_names("Qwen/Qwen3-14B", ARCHITECTURES).startswith("nearest qwen3-32b")
    assert nearest_names("?", ["b", "a"]) == "must be one of a, b"
    assert nearest_names("?", []) == "must be one of none"
