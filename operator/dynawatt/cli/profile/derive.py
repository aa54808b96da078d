"""``dynawatt profile derive``: profiles from measured tables of GPU operations."""

import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from dynawatt.adapters.calibration.ml_energy import read_ml_energy
from dynawatt.adapters.calibration.splitwise import read_splitwise
from dynawatt.adapters.derived_profiles import Deriver, all_subjects, subject
from dynawatt.adapters.profile_files import write_profile
from dynawatt.adapters.recorded_profile import recorded_profile
from dynawatt.cli.profile.output import JsonOption, percent, write_json
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.derivation.profiles import Subject
from dynawatt.perfmodel.profile import ModelProfile


def register(group: typer.Typer) -> None:
    """Add the command."""
    # Help texts are markup, in which brackets not escaped vanish.
    group.command("derive", help="Derive profiles. Needs the extra: pip install 'dynawatt\\[profiles]'.")(derive)


def derive(
    output: Annotated[Path, typer.Option("--output", help="Folder for the profiles, one YAML file each.")],
    model: Annotated[str | None, typer.Option("--model", help="Architecture, such as llama-3.1-70b.")] = None,
    gpu: Annotated[str | None, typer.Option("--gpu", help="GPU product, such as h100-sxm.")] = None,
    precision: Annotated[str, typer.Option("--precision", help="bf16, fp8 or mxfp4.")] = "bf16",
    everything: Annotated[bool, typer.Option("--all", help="Every model, GPU and precision with tables.")] = False,
    ml_energy: Annotated[
        Path | None,
        typer.Option(
            "--ml-energy",
            help="ml_energy_flat.csv: calibrates the engine's overhead anew, and adds the errors against it.",
        ),
    ] = None,
    splitwise: Annotated[
        Path | None,
        typer.Option("--splitwise", help="splitwise-sim's perf_model.csv: derives llama-2-70b-h100-2023 from it."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Derive profiles from measured tables of GPU operations."""
    subjects = _subjects(model, gpu, everything=everything, precision=precision, alone=splitwise is None)
    recorded = [] if splitwise is None else read_splitwise(splitwise)
    _make_folder(output)
    today = datetime.datetime.now(tz=datetime.UTC).date()
    report = _Report(output, len(subjects) + bool(recorded))
    if recorded:
        report.write(recorded_profile(recorded, today))
    if subjects:
        deriver = Deriver([] if ml_energy is None else read_ml_energy(ml_energy), today)
        for each in subjects:
            try:
                report.write(deriver.derive(each))
            except InvalidInputError as error:
                if not everything:
                    raise
                report.skip(each.name, str(error))
    if json_file is not None:
        write_json({"profiles": report.written, "skipped": report.skipped}, json_file)


class _Report:
    """Writes profiles, says so on standard error, and keeps what ``--json`` prints."""

    def __init__(self, folder: Path, total: int) -> None:
        self.written: list[dict[str, Any]] = []
        self.skipped: list[dict[str, str]] = []
        self._folder = folder
        self._total = total
        self._console = Console(stderr=True, soft_wrap=True)

    def write(self, profile: ModelProfile) -> None:
        path = self._folder / f"{profile.name}.yaml"
        write_profile(path, profile)
        summary = _summary(profile, path)
        self.written.append(summary)
        self._say(
            f"{profile.name}: TP {' '.join(map(str, profile.tensor_parallel_sizes))}, "
            f"decode error {percent(summary['decode_step'])}, prefill {percent(summary['prefill_step'])}, "
            f"mean step {percent(summary['mean_step'])}"
        )

    def skip(self, name: str, reason: str) -> None:
        self.skipped.append({"name": name, "reason": reason})
        self._say(f"{name}: skipped, {reason}")

    def _say(self, text: str) -> None:
        number = len(self.written) + len(self.skipped)
        self._console.print(f"[{number}/{self._total}] {text}", highlight=False, markup=False)


def _subjects(model: str | None, gpu: str | None, *, precision: str, everything: bool, alone: bool) -> list[Subject]:
    if everything:
        if model is not None or gpu is not None:
            raise InvalidInputError("--all: must stand alone; drop --model and --gpu")
        return all_subjects()
    if model is None and gpu is None and not alone:
        return []
    if model is None or gpu is None:
        raise InvalidInputError("--model and --gpu must be given, or --all, or --splitwise")
    return [subject(model, gpu, precision)]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(f"--output {folder}: {error.strerror}; give a folder that can be written") from error


def _summary(profile: ModelProfile, path: Path) -> dict[str, Any]:
    def error(quantity: str) -> float | None:
        of_quantity = [residual for residual in profile.residuals if residual.quantity == quantity]
        chosen = [residual for residual in of_quantity if residual.held_out] or of_quantity
        points = sum(residual.points for residual in chosen)
        return sum(residual.mean_abs_error * residual.points for residual in chosen) / points if points else None

    return {
        "name": profile.name,
        "file": str(path),
        "bytes": path.stat().st_size,
        "tensor_parallel_sizes": profile.tensor_parallel_sizes,
        **{quantity: error(quantity) for quantity in ("decode_step", "prefill_step", "mean_step")},
    }
