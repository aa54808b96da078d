import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.architectures import ARCHITECTURES, UnknownModelError
from dynawatt.perfmodel.model_names import architecture_by_name, model_by_name


@pytest.mark.parametrize(
    ("model", "architecture", "precision", "context_tokens"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b", "bf16", 131072),
        ("meta-llama/Meta-Llama-3-8B", "llama-3.1-8b", "bf16", 8192),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama-3.1-70b", "bf16", 131072),
        ("shenzhi-wang/Llama3-70B-Chinese-Chat", "llama-3.1-70b", "bf16", 8192),
        ("NousResearch/Hermes-3-Llama-3.1-70B", "llama-3.1-70b", "bf16", 131072),
        ("nvidia/Llama-3.1-Nemotron-70B-Instruct-HF", "llama-3.1-70b", "bf16", 131072),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "llama-3.1-70b", "bf16", 131072),
        ("Llama3_1_8b", "llama-3.1-8b", "bf16", 131072),
        ("/models/models--meta-llama--Llama-3.1-70B-Instruct/snapshots/abc70b12", "llama-3.1-70b", "bf16", 131072),
        ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", "llama-3.1-70b", "fp8", 131072),
        ("x/Llama-3.1-8B-W8A8-FP8", "llama-3.1-8b", "fp8", 131072),
        ("meta-llama/Llama-2-70b-chat-hf", "llama-2-70b", "bf16", 4096),
        ("Qwen/Qwen3-32B", "qwen3-32b", "bf16", 40960),
        ("Qwen/Qwen3-32B-FP8", "qwen3-32b", "fp8", 40960),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b", "bf16", 32768),
        ("openai/gpt-oss-120b", "gpt-oss-120b", "mxfp4", 131072),
        ("unsloth/gpt-oss-120b-BF16", "gpt-oss-120b", "bf16", 131072),
    ],
)
def test_what_a_name_tells(model, architecture, precision, context_tokens):
    found = model_by_name(model)
    assert (found.architecture.name, found.precision) == (architecture, precision)
    assert found.architecture.context_tokens == context_tokens


@pytest.mark.parametrize(
    "model",
    [
        "",
        "llama",
        "meta-llama/Llama-3.1-405B",
        "meta-llama/Llama-3.2-11B-Vision",
        "meta-llama/Llama-4-Scout-17B-16E",
        "nvidia/Llama-3_3-Nemotron-Super-49B-v1",
        "Qwen/Qwen3-VL-32B-Instruct",
        "Qwen/Qwen3.5-32B",
        "Qwen/Qwen3-30B-A3B",
        "x/Llama-3.1-80B",
        "x/llama-3-18b",
        "x/llama-30b-8b",
        "x/llama-3-8x8b",
        "mistralai/Mixtral-8x22B-v0.1",
        "openai/gpt-oss-20b",
        "x/llama-3.1-8b-distilled-from-llama-3.1-70b",
        "lmms-lab/llava-llama-3-8b",
    ],
)
def test_an_unknown_model_is_refused(model):
    with pytest.raises(UnknownModelError) as caught:
        architecture_by_name(model)
    assert repr(model) in str(caught.value)
    assert "nearest" in str(caught.value) or "must be one of" in str(caught.value)


@pytest.mark.parametrize(
    ("model", "near"),
    [
        ("openai/gpt-oss-20b", "gpt-oss-120b"),
        ("mistralai/Mixtral-8x22B-v0.1", "mixtral-8x7b"),
        ("qwen-32b", "qwen3-32b"),
    ],
)
def test_an_unknown_model_is_told_the_nearest(model, near):
    with pytest.raises(UnknownModelError, match=f"nearest {near}"):
        architecture_by_name(model)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4", "awq"),
        ("TheBloke/Llama-2-70B-Chat-GPTQ", "gptq"),
        ("x/Llama-3.1-8B-int8", "int8"),
        ("x/Llama-3.1-8B-Q4_K_M.gguf", "gguf"),
        ("x/Llama-3.1-8B-Q4_K_M", "q4_k_m"),
        ("unsloth/Llama-3.1-8B-Instruct-bnb-4bit", "bnb"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16", "w4a16"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w8a8", "w8a8"),
        ("nvidia/Llama-3.1-70B-Instruct-NVFP4", "nvfp4"),
    ],
)
def test_formats_without_profiles_are_refused(name, word):
    with pytest.raises(InvalidInputError, match=f"no profile for weights in {word}"):
        model_by_name(name)


@pytest.mark.parametrize(
    ("model", "quantization", "precision"),
    [
        ("meta-llama/Llama-3.1-8B", "fp8", "fp8"),
        ("meta-llama/Llama-3.1-8B", "FP8", "fp8"),
        ("meta-llama/Llama-3.1-8B", "none", "bf16"),
        ("nvidia/Llama-3.1-8B-Instruct", "modelopt", "fp8"),
        ("RedHatAI/Llama-3.1-8B-FP8", "compressed-tensors", "fp8"),
        ("openai/gpt-oss-120b", "mxfp4", "mxfp4"),
    ],
)
def test_the_flag_decides_the_precision(model, quantization, precision):
    assert model_by_name(model, quantization=quantization).precision == precision


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"quantization": "awq_marlin"}, "no profile for weights in awq_marlin"),
        ({"quantization": "bitsandbytes"}, "no profile for weights in bitsandbytes"),
        ({"quantization": "compressed-tensors"}, "the name must say which format"),
        ({"dtype": "float32"}, "no profile for --dtype float32"),
    ],
)
def test_flags_without_profiles_are_refused(flags, problem):
    with pytest.raises(InvalidInputError, match=problem):
        model_by_name("meta-llama/Llama-3.1-8B", **flags)


@pytest.mark.parametrize("dtype", [None, "auto", "bfloat16", "float16", "half"])
def test_sixteen_bits_are_sixteen_bits(dtype):
    assert model_by_name("meta-llama/Llama-3.1-8B", dtype=dtype).precision == "bf16"


@given(st.sampled_from([*ARCHITECTURES]), st.sampled_from(["{}", "org/{}", "{}-Instruct", "My-{}-v2", "/data/{}/"]))
def test_own_names_in_any_dress(name, dress):
    for written in (name, name.upper(), name.replace("-", "_")):
        assert architecture_by_name(dress.format(written)).name == name


@given(st.text(max_size=40))
def test_any_text_is_known_or_refused(text):
    with contextlib.suppress(InvalidInputError):
        assert model_by_name(text).architecture.name in ARCHITECTURES
