"""Bytes of a model's weights and what its iterations do, from its architecture."""

from collections.abc import Mapping
from typing import Final

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.architecture import Architecture

_WIDE: Final = 2.0  # bytes of bf16
# Bytes per weight of what each precision quantises. MXFP4: 4 bits, and 8 bits of scale for every 32 weights.
_QUANTISED: Final[Mapping[str, float]] = {"bf16": _WIDE, "fp8": 1.0, "mxfp4": 0.53125}


def weight_bytes(architecture: Architecture, precision: str) -> float:
    """Bytes of all weights: embedding and LM head stay in bf16, with mxfp4 all but the experts does."""
    if precision not in _QUANTISED:
        raise InvalidInputError(f"precision {precision!r}: must be one of {', '.join(_QUANTISED)}")
    quantised = architecture.parameters - 2.0 * architecture.vocabulary * architecture.hidden
    if precision == "mxfp4":
        quantised = _expert_parameters(architecture) * architecture.experts
    return quantised * _QUANTISED[precision] + (architecture.parameters - quantised) * _WIDE


def active_parameters(architecture: Architecture) -> float:
    """Weights that each token is multiplied by, without embedding and LM head."""
    idle_experts = architecture.experts - architecture.experts_per_token
    embeddings = 2.0 * architecture.vocabulary * architecture.hidden
    return architecture.parameters - embeddings - idle_experts * _expert_parameters(architecture)


def _expert_parameters(architecture: Architecture) -> float:
    return 3.0 * architecture.layers * architecture.hidden * architecture.intermediate
