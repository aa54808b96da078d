"""Derives profiles from the measured tables, one after the other, and calibrates what all of them share."""

import datetime
import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from dynawatt.adapters.silicon_tables import REPOSITORIES, SiliconModel, package_version
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.architecture import ServedModel
from dynawatt.perfmodel.architectures import ARCHITECTURES
from dynawatt.perfmodel.clocked import ClockedReplica
from dynawatt.perfmodel.derivation.calibration import Rows, calibrate, sort_rows
from dynawatt.perfmodel.derivation.closed_loop import ClosedLoopRow
from dynawatt.perfmodel.derivation.overhead import MEASURED, EngineOverhead
from dynawatt.perfmodel.derivation.profiles import (
    STARTUP_PROVENANCE,
    Subject,
    apply_overhead,
    closed_loop_residual,
    derive_profile,
)
from dynawatt.perfmodel.gpus import GPUS, gpu_by_name
from dynawatt.perfmodel.model_names import model_by_name
from dynawatt.perfmodel.power import power_calibration
from dynawatt.perfmodel.profile import ModelProfile, Residual

# Mixtral in fp8 is left out: the tables have its experts slower than in bf16, from kernels not tuned for it.
_PRECISIONS: Final = {
    "llama-3.1-8b": ("bf16", "fp8"),
    "llama-3.1-70b": ("bf16", "fp8"),
    "qwen3-32b": ("bf16", "fp8"),
    "mixtral-8x7b": ("bf16",),
    "gpt-oss-120b": ("mxfp4",),
}
_NOTES: Final = {
    "l40s": (
        "all-reduces of 4 and 8 GPUs were measured on a server whose PCIe gives them 1 to 3 GB/s; on others, such as "
        "that of the sglang 0.5.12 tables, they take a tenth of the time",
    ),
}
_TABLES: Final = "aiconfigurator-core vLLM tables"
_CLOSED_LOOP: Final = "ML.ENERGY v3"
_DEFAULT_OVERHEAD_GPU: Final = "h100-sxm"


def all_subjects() -> list[Subject]:
    """Every combination that may have tables; some GPUs lack some precisions."""
    return [
        Subject(ARCHITECTURES[name], precision, GPUS[gpu])
        for name, precisions in _PRECISIONS.items()
        for precision in precisions
        for gpu in sorted(GPUS)
    ]


def subject(model: str, gpu: str, precision: str) -> Subject:
    """One combination; ``model`` is the name of an architecture. Raises InvalidInputError."""
    if model not in REPOSITORIES:
        raise InvalidInputError(f"--model {model!r}: must be one of {', '.join(REPOSITORIES)}")
    return Subject(ARCHITECTURES[model], precision, gpu_by_name(gpu))


class Deriver:
    """Derives profiles; keeps those that calibration and output both need.

    Args:
        rows: measurements of the whole engine to calibrate its overhead on; without them the overheads fitted before
            are taken, and no residual of the mean step is made.
        today: date for the provenance.
    """

    def __init__(self, rows: Sequence[ClosedLoopRow], today: datetime.date) -> None:
        self._today = today
        self._version = package_version()
        self._bare = functools.cache(self._derive_bare)
        known = [row for row in rows if _served(row.model) is not None]
        self._rows = sort_rows(known, lambda model: ARCHITECTURES[_architecture(model)].experts == 1)
        self.overheads = dict(MEASURED) if not rows else calibrate(self._rows.fitted, self._replica)

    @property
    def rows(self) -> Rows:
        """The measurements of the whole engine, by use."""
        return self._rows

    def derive(self, wanted: Subject) -> ModelProfile:
        """One profile. Raises InvalidInputError where the tables lack it."""
        gpu = wanted.gpu.name
        source = gpu if gpu in self.overheads else _DEFAULT_OVERHEAD_GPU
        overhead = self.overheads[source]
        profile = apply_overhead(self._bare(wanted), overhead, _overhead_provenance(overhead, source, gpu))
        return self._with_closed_loop(profile, overhead.prompt_tokens)

    def _with_closed_loop(self, profile: ModelProfile, prompt_tokens: float) -> ModelProfile:
        residuals: list[Residual] = []
        for held_out, rows in ((False, self._rows.fitted), (True, self._rows.held_out)):
            own = [row for row in rows if _is_of(profile, row)]
            for task in sorted({row.task for row in own}):
                chosen = [row for row in own if row.task == task]
                name = f"{_CLOSED_LOOP} {task}, up to 256 requests"
                residuals += closed_loop_residual(profile, chosen, prompt_tokens, name, held_out=held_out)
        left_out = [row for row in self._rows.host_bound if _is_of(profile, row)]
        note = (
            f"{len(left_out)} ML.ENERGY rows left out: slower than the same load on H100s, hence bound by the host",
        )
        return replace(
            profile,
            residuals=(*profile.residuals, *residuals),
            provenance=(*profile.provenance, *(note if left_out else ())),
        )

    def _derive_bare(self, wanted: Subject) -> ModelProfile:
        name, gpu, precision = wanted.architecture.name, wanted.gpu.name, wanted.precision
        models: list[SiliconModel] = []

        def measured(tensor_parallel: int) -> SiliconModel:
            models.append(SiliconModel(REPOSITORIES[name], gpu, precision, tensor_parallel))
            return models[-1]

        profile = derive_profile(wanted, measured, power_calibration(gpu, precision), f"{_TABLES} {gpu}", ())
        modelled = sorted({op for model in models for op in model.modelled})
        source = (
            f"step times from aiconfigurator-core {self._version} (Apache-2.0), measured tables of vLLM "
            f"{models[0].tables_version} on {gpu} for {REPOSITORIES[name]}; derived {self._today.isoformat()}",
            f"modelled there, not measured: {', '.join(modelled)}, and {_attention_setup_us(models[0], wanted):.0f} us "
            "per layer of prefill attention",
            *_NOTES.get(gpu, ()),
            STARTUP_PROVENANCE,
        )
        return replace(profile, provenance=(*source, *profile.provenance))

    def _replica(self, row: ClosedLoopRow) -> ClockedReplica:
        profile = self._bare(Subject(ARCHITECTURES[_architecture(row.model)], row.precision, GPUS[row.gpu]))
        return profile.replica(row.tensor_parallel).at_clock(profile.gpu.default_clock_mhz)


def _overhead_provenance(overhead: EngineOverhead, source: str, gpu: str) -> str:
    taken = "" if source == gpu else ", taken for this GPU as well: nothing is measured on it"
    return (
        f"engine overhead fitted to ML.ENERGY v3 (Apache-2.0), dense models in {source} lm-arena-chat with up to 256 "
        f"requests; mean prompt of {overhead.prompt_tokens:.0f} tokens fitted along{taken}"
    )


def _attention_setup_us(model: SiliconModel, wanted: Subject) -> float:
    # One token after many costs next to no attention: what remains is what the package adds for other small kernels.
    return model.prefill_attention_s(1, 4096) / wanted.architecture.layers * 1e6


def _is_of(profile: ModelProfile, row: ClosedLoopRow) -> bool:
    return (_architecture(row.model), row.precision, row.gpu) == (
        profile.architecture.name,
        profile.precision,
        profile.gpu.name,
    )


def _architecture(model: str) -> str:
    served = _served(model)
    return "" if served is None else served.architecture.name


def _served(model: str) -> ServedModel | None:
    try:
        return model_by_name(model)
    except InvalidInputError:
        return None
