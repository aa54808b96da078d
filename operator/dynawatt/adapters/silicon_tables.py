"""Measured GPU operations, from the tables in the package aiconfigurator-core.

Nothing else imports that package, and only when a table is asked for: it is an
optional extra, needed to derive profiles but not to use them. The package would
fetch the config.json of models it does not know; here it gets those it ships,
as files, so that nothing touches the network.
"""

import contextlib
import importlib
import importlib.metadata
import importlib.resources
import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from dynawatt.errors import InvalidInputError, OperationError
from dynawatt.perfmodel.derivation.measured import Kind, TokenOperation

_PACKAGE: Final = "aiconfigurator-core"
_MODULE: Final = "aiconfigurator_core"
_BACKEND: Final = "vllm"
_MILLISECONDS: Final = 1e-3
REPOSITORIES: Final = {
    "llama-3.1-8b": "meta-llama/Meta-Llama-3.1-8B",
    "llama-3.1-70b": "meta-llama/Meta-Llama-3.1-70B",
    "qwen3-32b": "Qwen/Qwen3-32B",
    "mixtral-8x7b": "mistralai/Mixtral-8x7B-v0.1",
    "gpt-oss-120b": "openai/gpt-oss-120b",
}
"""Models by the name of their architecture, as the package knows them."""

_KINDS: Final = {
    "GEMM": Kind.MATRIX,
    "MoE": Kind.MATRIX,
    "ElementWise": Kind.MEMORY,
    "Embedding": Kind.MEMORY,
    "CustomAllReduce": Kind.LINK,
    "MoEDispatch": Kind.LINK,
}
# Keys and values stay in 16 bits in all precisions, as vLLM's --kv-cache-dtype auto does.
_SIXTEEN_BITS: Final = {"kvcache_quant_mode": "bfloat16", "fmha_quant_mode": "bfloat16"}
_PRECISIONS: Final = {
    "bf16": {"gemm_quant_mode": "bfloat16", "moe_quant_mode": "bfloat16"},
    "fp8": {"gemm_quant_mode": "fp8", "moe_quant_mode": "fp8"},
    "mxfp4": {"gemm_quant_mode": "bfloat16", "moe_quant_mode": "w4a16_mxfp4"},
}


@dataclass(frozen=True, slots=True)
class _Operation:
    name: str
    kind: Kind
    spec: str
    """The package's JSON of the operation alone."""


class SiliconModel:
    """Measured times of one model; implements ``MeasuredModel``.

    Args:
        repository: name of the model on Hugging Face, whose config.json the package ships.
        gpu: short name of the GPU product, ``h100-sxm``.
        precision: ``bf16``, ``fp8`` or ``mxfp4``.
        tensor_parallel: GPUs of the replica.

    Raises:
        OperationError: when the package is missing.
        InvalidInputError: when it has no tables for what is asked.
    """

    def __init__(self, repository: str, gpu: str, precision: str, tensor_parallel: int) -> None:
        if precision not in _PRECISIONS:
            raise InvalidInputError(f"precision {precision!r}: must be one of {', '.join(_PRECISIONS)}")
        self._what = f"{repository} in {precision} on {tensor_parallel} x {gpu}"
        with _quiet(), _config_directory(repository) as directory, self._tables_missing():
            self._load(str(directory), gpu.replace("-", "_"), precision, tensor_parallel)

    def _load(self, directory: str, system: str, precision: str, tensor_parallel: int) -> None:
        config = _sdk("config_builders").build_model_config(
            tp_size=tensor_parallel,
            pp_size=1,
            attention_dp_size=1,
            moe_tp_size=tensor_parallel,
            moe_ep_size=1,
            **_PRECISIONS[precision],
            **_SIXTEEN_BITS,
        )
        model = _sdk("models").get_model(directory, config, _BACKEND)
        database = _sdk("perf_database").get_database(system, _BACKEND, "current")
        if database is None:
            raise ValueError(f"no tables of {_BACKEND} for {system}")
        self.tables_version = str(database.version)
        self._engine = _sdk("engine").EngineHandle.for_database(database)
        context = [_operation(op, database) for op in model.context_ops]
        generation = [_operation(op, database) for op in model.generation_ops]
        self._by_tokens = [op for op in context if op is not None and not _is_attention(op) and not _is_head(op)]
        self._prefill_attention = [op for op in context if op is not None and _is_attention(op)]
        self._decode_attention = [op for op in generation if op is not None and _is_attention(op)]
        self._head = [op for op in generation if op is not None and _is_head(op)]
        self.modelled: set[str] = set()
        """Operations that the package models because nothing was measured."""

    def operations(self, tokens: Sequence[int]) -> list[TokenOperation]:
        """See ``MeasuredModel``."""
        return [self._over(op, tokens) for op in self._by_tokens]

    def head_s(self, requests: int) -> float:
        """See ``MeasuredModel``."""
        return self._seconds(self._head, is_context=False, batch_size=requests, s=1)

    def decode_attention_s(self, requests: int, context_tokens: int) -> float:
        """See ``MeasuredModel``."""
        return self._seconds(self._decode_attention, is_context=False, batch_size=requests, s=context_tokens)

    def prefill_attention_s(self, tokens: int, context_tokens: int) -> float:
        """See ``MeasuredModel``."""
        return self._seconds(self._prefill_attention, is_context=True, batch_size=1, s=tokens, prefix=context_tokens)

    def _over(self, op: _Operation, tokens: Sequence[int]) -> TokenOperation:
        seconds = np.array([self._seconds([op], is_context=True, batch_size=1, s=count, x=count) for count in tokens])
        ideal_memory_s, ideal_compute_s = np.zeros(len(tokens)), np.zeros(len(tokens))
        if op.kind is not Kind.LINK:
            for index, count in enumerate(tokens):
                ((_, _, math_ms, memory_ms),) = self._engine.evaluate_ops_sol_json(
                    op.spec, is_context=True, batch_size=1, s=count, x=count
                )
                ideal_memory_s[index], ideal_compute_s[index] = memory_ms * _MILLISECONDS, math_ms * _MILLISECONDS
        return TokenOperation(op.name, op.kind, seconds, ideal_memory_s, ideal_compute_s)

    def _seconds(self, operations: Sequence[_Operation], **shape: Any) -> float:
        total = 0.0
        with self._tables_missing():
            for op in operations:
                for _, milliseconds, _, source in self._engine.evaluate_ops_json(op.spec, **shape):
                    total += milliseconds * _MILLISECONDS
                    if source not in {"silicon", "mixed"} and milliseconds > 0:
                        self.modelled.add(op.name)
        return total

    @contextlib.contextmanager
    def _tables_missing(self) -> Iterator[None]:
        # The package raises many types of its own; all say that its tables lack something.
        try:
            yield
        except (InvalidInputError, OperationError):
            raise
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InvalidInputError(f"no measured tables for {self._what}: {reason}") from error


def package_version() -> str:
    """Version of the installed package. Raises OperationError when it is missing."""
    try:
        return importlib.metadata.version(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise OperationError(
            f"deriving a profile needs {_PACKAGE}, which is not installed: pip install 'dynawatt[profiles]'"
        ) from None


def _sdk(module: str) -> Any:
    # By name, so that type checks pass where the package is not installed.
    return importlib.import_module(f"{_MODULE}.sdk.{module}")


def _operation(op: Any, database: Any) -> _Operation | None:
    engine = _sdk("engine")
    class_name = type(op).__name__
    if class_name == "P2P":  # between pipeline stages, of which there is one
        return None
    name = str(op._name).removeprefix("context_").removeprefix("generation_")
    if class_name in {"ContextAttention", "GenerationAttention"}:
        engine._resolve_attention_lane_orders([op], database, None)
        return _Operation(name, Kind.MATRIX, engine.build_ops_json([op]))
    if class_name not in _KINDS:
        raise ValueError(f"operation {class_name} is not known")
    return _Operation(name, _KINDS[class_name], engine.build_ops_json([op]))


def _is_attention(op: _Operation) -> bool:
    return op.name == "attention"


def _is_head(op: _Operation) -> bool:
    return op.name == "logits_gemm"


@contextlib.contextmanager
def _config_directory(repository: str) -> Iterator[Path]:
    package_version()
    folder = Path(str(importlib.resources.files(_MODULE))) / "model_configs"
    source = folder / f"{repository.replace('/', '--')}_config.json"
    if not source.exists():
        raise InvalidInputError(f"model {repository!r}: {_PACKAGE} has no config.json of it")
    with tempfile.TemporaryDirectory() as directory:
        shutil.copyfile(source, Path(directory) / "config.json")
        yield Path(directory)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # The package warns of fallback rows in tables of models that are not asked for.
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
