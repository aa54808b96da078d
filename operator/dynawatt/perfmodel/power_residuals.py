"""How far the shipped power coefficients are from each set of measurements, as computed when they were fitted.

``dynawatt profile validate --data`` computes the same figures again; so does a test.
"""

from collections.abc import Mapping
from typing import Final

from dynawatt.perfmodel.profile import Residual

EXPERTS: Final = "ml-energy-experts"
"""How names of sets of models with experts begin; all others are of dense ones."""


def _power(name: str, points: int, median: float, p90: float, mean: float, *, held_out: bool) -> Residual:
    return Residual(name, "power", points, median, p90, mean, held_out)


def _clock(name: str, points: int, median: float, p90: float, mean: float) -> Residual:
    return Residual(name, "clock_shape", points, median, p90, mean, held_out=False)


POWER_RESIDUALS: Final[Mapping[tuple[str, str], tuple[Residual, ...]]] = {
    ("a100-sxm", "bf16"): (
        _power("splitwise-sim a100-sxm bf16", 140, 0.0348, 0.0981, 0.0442, held_out=True),
        _power("splitwise-sim a100-sxm bf16", 220, 0.0281, 0.1258, 0.0458, held_out=False),
    ),
    ("b200-sxm", "bf16"): (
        _power("ml-energy-dense b200-sxm bf16", 43, 0.0415, 0.1347, 0.0548, held_out=True),
        _power("ml-energy-dense b200-sxm bf16", 40, 0.0368, 0.0982, 0.0430, held_out=False),
        _power("ml-energy-experts b200-sxm bf16", 19, 0.1456, 0.2281, 0.1344, held_out=True),
    ),
    ("b200-sxm", "fp8"): (_power("ml-energy-dense b200-sxm fp8", 7, 0.0390, 0.1015, 0.0574, held_out=False),),
    ("b200-sxm", "mxfp4"): (
        _power("ml-energy-experts b200-sxm mxfp4", 11, 0.0424, 0.1224, 0.0500, held_out=True),
        _power("ml-energy-experts b200-sxm mxfp4", 21, 0.0477, 0.0809, 0.0534, held_out=False),
    ),
    ("h100-sxm", "bf16"): (
        _power("ml-energy-dense h100-sxm bf16", 46, 0.0319, 0.0855, 0.0388, held_out=True),
        _power("ml-energy-dense h100-sxm bf16", 47, 0.0462, 0.0985, 0.0476, held_out=False),
        _power("ml-energy-experts h100-sxm bf16", 7, 0.0393, 0.0841, 0.0460, held_out=True),
    ),
    ("h100-sxm", "fp8"): (_power("ml-energy-dense h100-sxm fp8", 8, 0.0129, 0.0334, 0.0152, held_out=False),),
    ("h100-sxm", "mxfp4"): (
        _power("ml-energy-experts h100-sxm mxfp4", 15, 0.0448, 0.0923, 0.0510, held_out=True),
        _power("ml-energy-experts h100-sxm mxfp4", 18, 0.0234, 0.0881, 0.0369, held_out=False),
    ),
}
"""By GPU and precision. H200 and L40S have no measurements under LLM load that could be used."""

CLOCK_RESIDUALS: Final = (
    _clock("rtx3090-a3b-decode watts", 18, 0.0644, 0.0869, 0.0619),
    _clock("rtx3090-a3b-decode tokens/s", 18, 0.0022, 0.0092, 0.0033),
    _clock("rtx3090-a3b-prefill watts", 18, 0.0159, 0.0388, 0.0197),
    _clock("rtx3090-a3b-prefill tokens/s", 18, 0.0080, 0.0283, 0.0119),
    _clock("rtx3090-prefill watts", 15, 0.0175, 0.0278, 0.0157),
    _clock("rtx3090-prefill tokens/s", 15, 0.0042, 0.0101, 0.0056),
    _clock("rtx3090-qwen36 watts", 16, 0.0367, 0.0648, 0.0370),
    _clock("rtx3090-qwen36 tokens/s", 16, 0.0059, 0.0210, 0.0093),
    _clock("rtx5090-memory-14001 watts", 5, 0.0645, 0.1328, 0.0728),
    _clock("rtx5090-memory-14001 tokens/s", 5, 0.0302, 0.0810, 0.0420),
    _clock("rtx5090-memory-7001 watts", 5, 0.0315, 0.1067, 0.0535),
    _clock("rtx5090-memory-7001 tokens/s", 5, 0.0391, 0.0745, 0.0442),
    _clock("rtxpro6000-phase1-dense-27b-n32 watts", 5, 0.0509, 0.1325, 0.0640),
    _clock("rtxpro6000-phase1-dense-27b-n32 tokens/s", 5, 0.0302, 0.0453, 0.0264),
    _clock("rtxpro6000-phase1b-dense-27b-n1 watts", 5, 0.0262, 0.0558, 0.0332),
    _clock("rtxpro6000-phase1b-dense-27b-n1 tokens/s", 5, 0.0012, 0.0040, 0.0019),
    _clock("rtxpro6000-phase2-coder-next-n32 watts", 5, 0.0544, 0.0758, 0.0424),
    _clock("rtxpro6000-phase2-coder-next-n32 tokens/s", 5, 0.0131, 0.0226, 0.0140),
    _clock("rtxpro6000-phase2b-coder-next-n1 watts", 4, 0.1017, 0.1648, 0.0953),
    _clock("rtxpro6000-phase2b-coder-next-n1 tokens/s", 4, 0.0009, 0.0019, 0.0010),
)
"""The form of the clock axis, see perfmodel/clock_shape.py: the same for every GPU."""
