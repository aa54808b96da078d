"""The architectures that profiles exist for, and finding them by the values of a config.json.

Two models with the same values run in the same time, whatever their weights
say: a fine-tune costs what its base costs. The values stand in each model's
published config.json, parameters in its safetensors index.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.architecture import Architecture, ServedModel

_VOCABULARY_TOLERANCE: Final = 0.02
"""Fine-tunes add special tokens and pad; Llama 2 and Llama 3 differ in nothing but the vocabulary, by a factor of 4."""

_LLAMA_3_1_8B: Final = Architecture(
    "llama-3.1-8b", 8.030e9, layers=32, hidden=4096, intermediate=14336, heads=32, kv_heads=8, head_dim=128,
    vocabulary=128256, context_tokens=131072,
)  # fmt: skip
_LLAMA_3_1_70B: Final = Architecture(
    "llama-3.1-70b", 70.554e9, layers=80, hidden=8192, intermediate=28672, heads=64, kv_heads=8, head_dim=128,
    vocabulary=128256, context_tokens=131072,
)  # fmt: skip
_LLAMA_2_70B: Final = Architecture(
    "llama-2-70b", 68.977e9, layers=80, hidden=8192, intermediate=28672, heads=64, kv_heads=8, head_dim=128,
    vocabulary=32000, context_tokens=4096,
)  # fmt: skip
_QWEN3_32B: Final = Architecture(
    "qwen3-32b", 32.762e9, layers=64, hidden=5120, intermediate=25600, heads=64, kv_heads=8, head_dim=128,
    vocabulary=151936, context_tokens=40960,
)  # fmt: skip
_MIXTRAL_8X7B: Final = Architecture(
    "mixtral-8x7b", 46.703e9, layers=32, hidden=4096, intermediate=14336, heads=32, kv_heads=8, head_dim=128,
    vocabulary=32000, context_tokens=32768, experts=8, experts_per_token=2,
)  # fmt: skip
_GPT_OSS_120B: Final = Architecture(
    "gpt-oss-120b", 116.829e9, layers=36, hidden=2880, intermediate=2880, heads=64, kv_heads=8, head_dim=64,
    vocabulary=201088, context_tokens=131072, experts=128, experts_per_token=4, sliding_window_tokens=128,
)  # fmt: skip

ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    architecture.name: architecture
    for architecture in (_LLAMA_3_1_8B, _LLAMA_3_1_70B, _LLAMA_2_70B, _QWEN3_32B, _MIXTRAL_8X7B, _GPT_OSS_120B)
}

# Fields of Architecture by the names that config.json has for them; the first that is there counts.
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "layers": ("num_hidden_layers",),
    "hidden": ("hidden_size",),
    "intermediate": ("moe_intermediate_size", "intermediate_size"),
    "heads": ("num_attention_heads",),
    "kv_heads": ("num_key_value_heads", "num_attention_heads"),
    "vocabulary": ("vocab_size",),
}


class UnknownModelError(InvalidInputError):
    """The model is of no known architecture; the message names the nearest ones."""


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """The known architecture with the values of a Hugging Face config.json, and that config's own context limit.

    Raises InvalidInputError when a value is missing, UnknownModelError when no architecture has these values.
    """
    values = {field: _integer(config, *names) for field, names in _KEYS.items()}
    values["head_dim"] = _integer(config, "head_dim", default=values["hidden"] // values["heads"])
    values["experts"] = _integer(config, "num_local_experts", "num_experts", default=1)
    values["experts_per_token"] = _integer(config, "num_experts_per_tok", "experts_per_token", default=1)
    values["sliding_window_tokens"] = _sliding_window_tokens(config)
    for known in ARCHITECTURES.values():
        if _same(known, values):
            context_tokens = _integer(config, "max_position_embeddings", default=known.context_tokens)
            return replace(known, context_tokens=context_tokens)
    nearest = max(
        ARCHITECTURES.values(), key=lambda known: sum(getattr(known, name) == values[name] for name in values)
    )
    different = next(name for name in values if getattr(nearest, name) != values[name])
    raise UnknownModelError(
        f"no profile for the architecture of this config.json: nearest is {nearest.name}, "
        f"whose {different} is {getattr(nearest, different)}, not {values[different]}"
    )


def model_of(config: Mapping[str, Any]) -> ServedModel:
    """Architecture and precision of a Hugging Face config.json.

    Raises as ``architecture_of``, and InvalidInputError for weights in a format without profiles.
    """
    return ServedModel(architecture_of(config), _precision(config))


def _same(known: Architecture, values: Mapping[str, int]) -> bool:
    vocabulary = values["vocabulary"]
    return abs(vocabulary - known.vocabulary) <= _VOCABULARY_TOLERANCE * known.vocabulary and all(
        getattr(known, name) == value for name, value in values.items() if name != "vocabulary"
    )


def _sliding_window_tokens(config: Mapping[str, Any]) -> int:
    """The window that vLLM would use: Qwen states one and switches it off, Mistral states null."""
    if config.get("use_sliding_window") is False or config.get("sliding_window") is None:
        return 0
    return _integer(config, "sliding_window")


def _integer(config: Mapping[str, Any], *names: str, default: int | None = None) -> int:
    """The first of the values that is there."""
    for name in names:
        value = config.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidInputError(f"config.json: {name}: {value!r} must be a positive whole number")
        return value
    if default is None:
        raise InvalidInputError(f"config.json: {names[0]} must be given")
    return default


def _precision(config: Mapping[str, Any]) -> str:
    quantization = config.get("quantization_config") or {}
    method = str(quantization.get("quant_method", "none")).lower()
    match method:
        case "none":
            dtype = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")
            if dtype in ("bfloat16", "float16"):
                return "bf16"
            method = dtype
        case "fp8" | "fbgemm_fp8":
            return "fp8"
        case "mxfp4":
            return "mxfp4"
        case "modelopt" if str(quantization.get("quant_algo", "")).upper() == "FP8":
            return "fp8"
        case "compressed-tensors" if _all_groups_fp8(quantization.get("config_groups")):
            return "fp8"
    raise InvalidInputError(f"no profile for weights in {method}: profiles exist for bf16, fp8 and mxfp4")


def _all_groups_fp8(groups: Any) -> bool:
    """Whether weights and activations are 8-bit floats in every group of a compressed-tensors config."""
    if not isinstance(groups, Mapping) or not groups:
        return False
    tensors = [group.get(part) for group in groups.values() for part in ("weights", "input_activations")]
    return all(
        tensor is not None and (tensor.get("num_bits"), tensor.get("type")) == (8, "float") for tensor in tensors
    )
