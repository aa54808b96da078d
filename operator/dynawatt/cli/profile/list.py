"""``dynawatt profile list``: one line per shipped profile."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from dynawatt.adapters.profile_files import read_model_config, shipped_profiles
from dynawatt.cli.profile.output import CLOCK_AXIS, JsonOption, console, percent, write_json
from dynawatt.perfmodel.architecture import ServedModel
from dynawatt.perfmodel.profile import ModelProfile


@dataclass(frozen=True, slots=True)
class Error:
    """A mean relative error of a profile."""

    share: float
    held_out: bool
    """False where the only measurements are those that the profile was fitted to."""


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("list")(list_profiles)


def list_profiles(
    model_config: Annotated[
        Path | None,
        typer.Option("--config", help="Only profiles for the model of this Hugging Face config.json."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """List the profiles, with the error of each against the measurements it was made from."""
    wanted = None if model_config is None else read_model_config(model_config)
    profiles = [profile for profile in shipped_profiles().values() if wanted is None or _is_of(profile, wanted)]
    rows = [_row(profile) for profile in profiles]
    if json_file is not None:
        write_json({"profiles": rows, "clock_axis": "model-derived"}, json_file)
        return
    out = console()
    if not rows:
        out.print(
            "No profiles." if wanted is None else f"No profile for {wanted.architecture.name}, {wanted.precision}."
        )
        return
    out.print(_table(rows), highlight=False)
    out.print("Errors: mean of step times, median of power, over points that had no part in the fit.")
    if any(row[f"{quantity}_held_out"] is False for row in rows for quantity in ("step_time", "power")):
        out.print("* In the fit: there are no others.")
    out.print(CLOCK_AXIS, style="dim", highlight=False)


def error_of(profile: ModelProfile, quantities: tuple[str, ...], figure: str) -> Error | None:
    """Mean of a residual's figure over data sets, by their points; only held-out ones where there are any."""
    residuals = [residual for residual in profile.residuals if residual.quantity in quantities]
    held_out = [residual for residual in residuals if residual.held_out]
    chosen = held_out or residuals
    points = sum(residual.points for residual in chosen)
    if not points:
        return None
    return Error(sum(getattr(residual, figure) * residual.points for residual in chosen) / points, bool(held_out))


def _is_of(profile: ModelProfile, model: ServedModel) -> bool:
    return (profile.architecture.name, profile.precision) == (model.architecture.name, model.precision)


def _row(profile: ModelProfile) -> dict[str, Any]:
    step = error_of(profile, ("decode_step", "prefill_step"), "mean_abs_error")
    power = error_of(profile, ("power",), "median_abs_error")
    return {
        "name": profile.name,
        "model": profile.architecture.name,
        "precision": profile.precision,
        "gpu": profile.gpu.name,
        "tensor_parallel_sizes": profile.tensor_parallel_sizes,
        "step_time_mean_abs_error": step and step.share,
        "step_time_held_out": step and step.held_out,
        "power_median_abs_error": power and power.share,
        "power_held_out": power and power.held_out,
        "clock_band": profile.power.clock_band,
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("Name", "Model", "Precision", "GPU", "TP"):
        table.add_column(title)
    for title in ("Step error", "Power error", "Clock band"):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(
            row["name"],
            row["model"],
            row["precision"],
            row["gpu"],
            " ".join(map(str, row["tensor_parallel_sizes"])),
            _marked(row["step_time_mean_abs_error"], row["step_time_held_out"]),
            _marked(row["power_median_abs_error"], row["power_held_out"]),
            f"± {percent(row['clock_band'])}",
        )
    return table


def _marked(error: float | None, held_out: bool | None) -> str:
    return percent(error) + ("*" if held_out is False else " ")
