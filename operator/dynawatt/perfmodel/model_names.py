"""What the name of a model tells: its architecture and the precision of its weights.

The operator sees no more of a model than ``--model``: a name on Hugging Face or
a path that contains one. Fine-tunes and quantised copies keep the family and
the size of their base in their names, by custom. A name that does not tell is
refused, because a plan for the wrong model is worse than none.
"""

import re
from dataclasses import replace
from typing import Final

from dynawatt.errors import InvalidInputError, nearest_names
from dynawatt.perfmodel.architecture import Architecture, ServedModel
from dynawatt.perfmodel.architectures import ARCHITECTURES, UnknownModelError

# Family and size of each architecture, as names contain them; the size must stand alone between separators.
_PATTERNS: Final = (
    (r"llama-?3(?![0-9])|distill-llama", "8b", "llama-3.1-8b"),
    (r"llama-?3(?![0-9])|distill-llama", "70b", "llama-3.1-70b"),
    (r"llama-?2(?![0-9])", "70b", "llama-2-70b"),
    (r"qwen-?3(?![0-9.])", "32b", "qwen3-32b"),
    (r"mixtral", "8x7b", "mixtral-8x7b"),
    (r"gpt-?oss", "120b", "gpt-oss-120b"),
)
_LLAMA_3_0: Final = re.compile(r"llama-?3(?![-._]?[0-9][-._])(?![0-9.])")
_LLAMA_3_0_CONTEXT_TOKENS: Final = 8192
# Built upon these architectures, with more in them than the base.
_OTHER_KIND: Final = re.compile(r"(?<![a-z])(vl|vision|llava|eagle\d?|medusa|embed(ding)?|rerank(er)?)(?![a-z])")

# What names, and vLLM's --quantization, say about weights. None: no profile covers it.
_MARKERS: Final[tuple[tuple[str, str | None], ...]] = (
    (r"awq|gptq|marlin|gguf|exl[23]|bnb|bitsandbytes|nf4|hqq|aqlm|quip|torchao", None),
    (r"(int|q)-?[2-8](_[a-z0-9_]+)?|[2-8]-?bit", None),
    (r"w4a16|w8a16|w4a8|w4a4|nvfp4", None),
    (r"mxfp4", "mxfp4"),
    (r"fp8|float8|e4m3", "fp8"),
    (r"w8a8", None),  # integers, unless the name says fp8 as well
    (r"fp4|fp6", None),
    (r"bf16|fp16|bfloat16|float16", "bf16"),
)
_FLAG_PRECISIONS: Final = {
    "fp8": "fp8", "fbgemm_fp8": "fp8", "ptpc_fp8": "fp8", "modelopt": "fp8", "mxfp4": "mxfp4", "gpt_oss_mxfp4": "mxfp4"
}  # fmt: skip
_BY_CHECKPOINT: Final = "compressed-tensors"
"""The value of --quantization that leaves the format to the checkpoint."""
_16_BITS: Final = frozenset({"auto", "bfloat16", "float16", "half"})
_PUBLISHED_IN: Final = {"gpt-oss-120b": "mxfp4"}
"""Models whose plain name means weights that are not 16 bits wide."""


def model_by_name(model: str, *, quantization: str | None = None, dtype: str | None = None) -> ServedModel:
    """The model that ``vllm serve`` would run with these values of its flags.

    Raises UnknownModelError when the name tells no known architecture, InvalidInputError when no profile covers the
    weights' format.
    """
    architecture = architecture_by_name(model)
    if (dtype or "auto").lower() not in _16_BITS:
        raise InvalidInputError(f"no profile for --dtype {dtype}: must be auto, bfloat16 or float16")
    return ServedModel(architecture, _precision(model, architecture, quantization))


def architecture_by_name(model: str) -> Architecture:
    """The architecture that a model's name or path tells. Raises UnknownModelError."""
    wanted = model.lower().replace("_", "-")
    found = {
        name
        for family, size, name in _PATTERNS
        if re.search(family, wanted) and re.search(rf"(?<![0-9a-z.]){size}(?![0-9a-z])", wanted)
    }
    if len(found) != 1 or _OTHER_KIND.search(wanted):
        raise UnknownModelError(f"no profile for model {model!r}: {nearest_names(model, ARCHITECTURES)}")
    architecture = ARCHITECTURES[found.pop()]
    if _LLAMA_3_0.search(wanted):
        return replace(architecture, context_tokens=_LLAMA_3_0_CONTEXT_TOKENS)
    return architecture


def _precision(model: str, architecture: Architecture, quantization: str | None) -> str:
    flag = (quantization or "none").lower()
    named = _named_precision(model, _PUBLISHED_IN.get(architecture.name, "bf16"))
    if flag == "none" or (flag == _BY_CHECKPOINT and named != "bf16"):
        return named
    if flag == _BY_CHECKPOINT:
        raise InvalidInputError(
            f"no profile for --quantization {quantization} of {model!r}: the name must say which format the "
            "checkpoint has, such as FP8"
        )
    if flag not in _FLAG_PRECISIONS:
        raise InvalidInputError(f"no profile for weights in {quantization}: profiles exist for bf16, fp8 and mxfp4")
    return _FLAG_PRECISIONS[flag]


def _named_precision(model: str, published: str) -> str:
    wanted = model.lower()
    said = {
        match[0]: precision
        for marker, precision in _MARKERS
        for match in re.finditer(rf"(?<![a-z0-9])({marker})(?![a-z0-9])", wanted)
    }
    if "fp8" in said.values():
        said.pop("w8a8", None)
    for word, precision in said.items():
        if precision is None:
            raise InvalidInputError(
                f"no profile for weights in {word}, as {model!r} says: profiles exist for bf16, fp8 and mxfp4"
            )
    return next((precision for precision in said.values() if precision is not None), published)
