"""The models that power was measured with, more than there are profiles of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dynawatt.perfmodel.architecture import Architecture
from dynawatt.perfmodel.architectures import ARCHITECTURES


@dataclass(frozen=True, slots=True)
class BenchmarkModel:
    """A model of the data. Gemma has five layers with a window to each one without, GPT-OSS one."""

    architecture: Architecture
    windowed_share: float = 0.0
    window_tokens: float = 0.0

    def attended(self, context_tokens: float) -> float:
        """Tokens of context that a layer reads, on average over the layers."""
        windowed = min(context_tokens, self.window_tokens)
        return (1 - self.windowed_share) * context_tokens + self.windowed_share * windowed

    @property
    def expert_parameters(self) -> float:
        """Weights of all experts; 0 where there is but one, part of every layer."""
        shape = self.architecture
        return 3.0 * shape.hidden * shape.intermediate * shape.experts * shape.layers if shape.experts > 1 else 0.0

    @property
    def chosen_share(self) -> float:
        """Of the experts, those that one token passes."""
        return self.architecture.experts_per_token / self.architecture.experts


def _architecture(name: str, parameters: float, *sizes: int, experts: tuple[int, int, int] = (0, 1, 1)) -> Architecture:
    layers, hidden, heads, kv_heads, head_dim, vocabulary = sizes
    intermediate, count, per_token = experts
    return Architecture(
        name, parameters, layers=layers, hidden=hidden, intermediate=intermediate, heads=heads, kv_heads=kv_heads,
        head_dim=head_dim, vocabulary=vocabulary, context_tokens=131072, experts=count, experts_per_token=per_token,
    )  # fmt: skip


_QWEN3_30B: Final = BenchmarkModel(
    _architecture("qwen3-30b-a3b", 30.53e9, 48, 2048, 32, 4, 128, 151936, experts=(768, 128, 8))
)
# As in each model's published config.json: layers, hidden, heads, KV heads, head size, vocabulary.
MODELS: Final[Mapping[str, BenchmarkModel]] = {
    "meta-llama/Llama-3.1-8B-Instruct": BenchmarkModel(ARCHITECTURES["llama-3.1-8b"]),
    "meta-llama/Llama-3.1-70B-Instruct": BenchmarkModel(ARCHITECTURES["llama-3.1-70b"]),
    "meta-llama/Llama-3.3-70B-Instruct": BenchmarkModel(ARCHITECTURES["llama-3.1-70b"]),
    "meta-llama/Llama-3.1-405B-Instruct-FP8": BenchmarkModel(
        _architecture("llama-3.1-405b", 405.85e9, 126, 16384, 128, 8, 128, 128256)
    ),
    "Qwen/Qwen3-8B": BenchmarkModel(_architecture("qwen3-8b", 8.19e9, 36, 4096, 32, 8, 128, 151936)),
    "Qwen/Qwen3-14B": BenchmarkModel(_architecture("qwen3-14b", 14.77e9, 40, 5120, 40, 8, 128, 151936)),
    "Qwen/Qwen3-32B": BenchmarkModel(ARCHITECTURES["qwen3-32b"]),
    "google/gemma-3-12b-it": BenchmarkModel(
        _architecture("gemma-3-12b", 11.77e9, 48, 3840, 16, 8, 256, 262208), 5 / 6, 1024
    ),
    "google/gemma-3-27b-it": BenchmarkModel(
        _architecture("gemma-3-27b", 27.01e9, 62, 5376, 32, 16, 128, 262208), 5 / 6, 1024
    ),
    "Qwen/Qwen3-30B-A3B-Instruct-2507": _QWEN3_30B,
    "Qwen/Qwen3-30B-A3B-Thinking-2507": _QWEN3_30B,
    "openai/gpt-oss-20b": BenchmarkModel(
        _architecture("gpt-oss-20b", 20.91e9, 24, 2880, 64, 8, 64, 201088, experts=(2880, 32, 4)), 1 / 2, 128
    ),
    "openai/gpt-oss-120b": BenchmarkModel(ARCHITECTURES["gpt-oss-120b"], 1 / 2, 128),
    "llama2-70b": BenchmarkModel(ARCHITECTURES["llama-2-70b"]),
    "bloom-176b": BenchmarkModel(_architecture("bloom-176b", 176.25e9, 70, 14336, 112, 112, 128, 250880)),
}
"""By the name that the measurements have for them."""
