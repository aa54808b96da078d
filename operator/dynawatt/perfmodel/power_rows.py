"""Measured mean powers of replicas under load, as points for the power fit: the work that was done meanwhile.

Rows of ML.ENERGY v3 are steady states with a constant number of requests.
Neither prompts nor contexts are in the data. Both are taken as derivation/ takes
them: prompts of 410 tokens in chats, as fitted along with the engine's overhead,
and 0.75 of the mean output length in the context. That agrees with those rows in
which the KV cache bounds the number of requests: its capacity over that number
leaves 330 tokens and 0.7. Prompts of gpqa have about 250 tokens.
Which experts an iteration reads is an estimate too: tokens choose theirs
independently. In bf16 no fit sees models with experts; in mxfp4 there is no other.

Rows of splitwise-sim (A100) state the mean power of the token phase, and a peak,
which for one request is the power of its prompt phase.
"""

import math
import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from dynawatt.perfmodel.benchmark_models import MODELS, BenchmarkModel
from dynawatt.perfmodel.derivation.closed_loop import ClosedLoopRow
from dynawatt.perfmodel.models import chunk_pairs
from dynawatt.perfmodel.power_fit import PowerPoints
from dynawatt.perfmodel.power_residuals import EXPERTS

_BYTES_PER_WEIGHT: Final = {"bf16": 2.0, "fp8": 1.0, "mxfp4": 17 / 32}
"""mxfp4: 4 bits each and 8 bits of scale for each 32, in the experts only; the other weights are in bf16."""
_PROMPT_TOKENS: Final = {"lm-arena-chat": 410.0, "gpqa": 250.0}
_CONTEXT_SHARE_OF_OUTPUT: Final = 0.75
_HELD_OUT_MODELS: Final = frozenset({"Qwen/Qwen3-14B", "google/gemma-3-27b-it"})
_LONGEST_PROMPT_TOKENS: Final = 2048
"""Mean power over longer prompts holds too much of the prompt phase to be that of the token phase."""


@dataclass(frozen=True, slots=True)
class TwoPhaseRow:
    """One batch on one replica without others: all prompts at once, then token by token."""

    model: str
    gpu: str
    tensor_parallel: int
    requests: int
    prompt_tokens: int
    prompt_s: float
    prompt_power_w: float
    token_s: float
    token_power_w: float


@dataclass(frozen=True, slots=True, eq=False)
class PowerRows:
    """Points of one GPU product in one precision."""

    dataset: str
    gpu: str
    precision: str
    points: PowerPoints
    held_out: tuple[bool, ...]
    """Which points take no part in the fit: about every third setting, and whole models."""

    @property
    def name(self) -> str:
        """As residuals name it."""
        return f"{self.dataset} {self.gpu} {self.precision}"

    @property
    def experts(self) -> bool:
        """Whether the models have experts."""
        return self.dataset == EXPERTS

    def part(self, *, held_out: bool) -> PowerPoints:
        """The points held out, or those fitted."""
        return self.points.where([each is held_out for each in self.held_out])


@dataclass(frozen=True, slots=True)
class _Work:
    """Of one iteration, on each GPU."""

    weight_bytes: float
    context_bytes: float
    flops: float
    link_bytes: float
    logits: float


def closed_loop_power(rows: Iterable[ClosedLoopRow]) -> list[PowerRows]:
    """ML.ENERGY's rows of text models by GPU and precision, those with experts apart."""
    dense, experts = _Gathered("ml-energy-dense"), _Gathered(EXPERTS)
    for row in rows:
        model, prompt_tokens = MODELS.get(row.model), _PROMPT_TOKENS.get(row.task)
        if model is None or prompt_tokens is None or row.precision not in _BYTES_PER_WEIGHT:
            continue
        work = _iteration(
            model,
            row.precision,
            row.tensor_parallel,
            decode_requests=row.requests,
            context_tokens=prompt_tokens + _CONTEXT_SHARE_OF_OUTPUT * row.output_tokens,
            prompts=row.requests / row.output_tokens,
            prompt_tokens=prompt_tokens,
        )
        setting = f"{row.model} {row.task} {row.gpu} {row.tensor_parallel} {row.max_requests}"
        key, measured = (row.gpu, row.precision), (row.power_w, row.step_s)
        if model.expert_parameters:
            experts.add(*key, *measured, work, held_out=row.precision == "bf16" or _every_third(setting))
        else:
            # The one dense model in fp8 has so few rows that the fit needs all of them.
            held_out = row.precision != "fp8" and (row.model in _HELD_OUT_MODELS or _every_third(setting))
            dense.add(*key, *measured, work, held_out=held_out)
    return dense.sets() + experts.sets()


def two_phase_power(rows: Iterable[TwoPhaseRow]) -> list[PowerRows]:
    """splitwise-sim's rows in bf16, both phases of each; the prompt phase only of single requests."""
    gathered = _Gathered("splitwise-sim")
    for row in rows:
        model = MODELS.get(row.model)
        if model is None or row.prompt_tokens > _LONGEST_PROMPT_TOKENS:
            continue
        held_out = _every_third(f"{row.model} {row.tensor_parallel} {row.requests} {row.prompt_tokens}")
        token_phase = _iteration(
            model, "bf16", row.tensor_parallel, decode_requests=row.requests, context_tokens=row.prompt_tokens
        )
        gathered.add(row.gpu, "bf16", row.token_power_w, row.token_s, token_phase, held_out=held_out)
        if row.requests == 1:
            prompt_phase = _iteration(model, "bf16", row.tensor_parallel, prompts=1, prompt_tokens=row.prompt_tokens)
            gathered.add(row.gpu, "bf16", row.prompt_power_w, row.prompt_s, prompt_phase, held_out=held_out)
    return gathered.sets()


class _Gathered:
    """Points as they come, by GPU and precision."""

    def __init__(self, dataset: str) -> None:
        self._dataset = dataset
        self._rows: dict[tuple[str, str], list[tuple[float, ...]]] = defaultdict(list)
        self._held_out: dict[tuple[str, str], list[bool]] = defaultdict(list)

    def add(self, gpu: str, precision: str, power_w: float, seconds: float, work: _Work, *, held_out: bool) -> None:
        rates = (getattr(work, each.name) / seconds for each in fields(work))
        self._rows[gpu, precision].append((power_w, *rates))
        self._held_out[gpu, precision].append(held_out)

    def sets(self) -> list[PowerRows]:
        return [
            PowerRows(self._dataset, *key, PowerPoints(*np.array(rows).T), tuple(self._held_out[key]))
            for key, rows in sorted(self._rows.items())
        ]


def _every_third(setting: str) -> bool:
    return zlib.crc32(setting.encode()) % 3 == 0


def _iteration(
    model: BenchmarkModel,
    precision: str,
    tensor_parallel: int,
    *,
    decode_requests: float = 0.0,
    context_tokens: float = 0.0,
    prompts: float = 0.0,
    prompt_tokens: float = 0.0,
) -> _Work:
    """Work of an iteration; ``prompts`` may be a fraction, as a mean over iterations.

    Each token passes all weights but those of other experts and the two vocabulary tables; each generated one also
    passes the second table.
    """
    shape, experts = model.architecture, model.expert_parameters
    table = shape.vocabulary * shape.hidden
    tokens, generated = decode_requests + prompts * prompt_tokens, decode_requests + prompts
    missed = 1 - model.chosen_share
    # Prompts come to an iteration in number like a Poisson process, and most come to none.
    read_share = 1 - missed**decode_requests * math.exp(-prompts * (1 - missed**prompt_tokens))
    other_bytes = _BYTES_PER_WEIGHT["bf16" if precision == "mxfp4" else precision]
    weight_bytes = (shape.parameters - experts - table) * other_bytes
    weight_bytes += experts * read_share * _BYTES_PER_WEIGHT[precision]
    kv_bytes = 2 * 2 * shape.layers * max(shape.kv_heads, tensor_parallel) * shape.head_dim
    attended = decode_requests * model.attended(context_tokens)
    pairs = attended + prompts * chunk_pairs(prompt_tokens, 0)
    passed = shape.parameters - missed * experts - 2 * table
    flops = 2 * (passed * tokens + table * generated) + 4 * shape.layers * shape.heads * shape.head_dim * pairs
    ring = 2 * (tensor_parallel - 1) / tensor_parallel
    return _Work(
        weight_bytes=weight_bytes / tensor_parallel,
        context_bytes=attended * kv_bytes / tensor_parallel,
        flops=flops / tensor_parallel,
        link_bytes=2 * shape.layers * ring * tokens * shape.hidden * 2,
        # vLLM gathers the logits on all GPUs, and each samples. Prompts' first tokens are too few to count.
        logits=decode_requests * shape.vocabulary,
    )
