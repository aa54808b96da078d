"""``dynawatt profile validate``: how far the models are from every set of measurements."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from dynawatt.adapters.calibration.engine_2023 import DATASET
from dynawatt.adapters.calibration.validation import ValidationSet, recomputed_sets, stored_sets
from dynawatt.adapters.profile_files import shipped_profiles
from dynawatt.cli.profile.output import CLOCK_AXIS, JsonOption, console, percent, write_json
from dynawatt.errors import InvalidInputError, nearest_names
from dynawatt.perfmodel.profile import ModelProfile

_STEPS: Final = ("decode_step", "prefill_step")
_HEADLINE_POWER: Final = "ml-energy-dense"
"""Data set of the power error that stands at the top: dense models on H100 and B200."""


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("validate")(validate)


def validate(
    name: Annotated[
        str | None, typer.Option("--profile", help="Only this profile; all shipped ones by default.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Compute the errors again from the measurements in this folder (ml-energy/, splitwise-sim/, "
            "club3090-clock-powercap/, rtxpro6000-powercap/); by default those stored in the profiles are shown.",
        ),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Show the error of every profile against every set of measurements, held out or fitted."""
    profiles = _profiles(name)
    if data is None:
        sets = stored_sets(profiles)
    elif data.is_dir():
        with Console(stderr=True).status("") as status:
            sets = recomputed_sets(profiles, data, lambda step: status.update(f"Computing: {step}"))
    else:
        raise InvalidInputError(f"--data {data}: is not a directory; give the folder with the measurements")
    if json_file is not None:
        write_json(summary(sets), json_file)
        return
    out = console()
    out.print(_table(sets), highlight=False)
    _print_headlines(out, sets, profiles)


def summary(sets: Sequence[ValidationSet]) -> dict[str, Any]:
    """The JSON: errors are relative; None where no set tells.

    ``step_time_mean_abs_error`` is the mean over all held-out decode and prefill steps, ``power_median_abs_error`` the
    mean of the medians of the held-out sets of dense models (of other held-out sets where there are none of these),
    each set counting by its points. Another engine version is reported, but is no error.
    """
    steps = [
        each
        for each in sets
        if each.residual.quantity in _STEPS and each.residual.held_out and not each.residual.dataset.startswith(DATASET)
    ]
    power = [each for each in sets if each.residual.quantity == "power" and each.residual.held_out]
    dense = [each for each in power if each.residual.dataset.startswith(_HEADLINE_POWER)]
    return {
        "step_time_mean_abs_error": _over_points(steps, "mean_abs_error"),
        "power_median_abs_error": _over_points(dense or power, "median_abs_error"),
        "sets": [
            {
                "name": each.name,
                "quantity": each.residual.quantity,
                "points": each.residual.points,
                "mean_abs_error": each.residual.mean_abs_error,
                "median_abs_error": each.residual.median_abs_error,
                "p90_abs_error": each.residual.p90_abs_error,
                "held_out": each.residual.held_out,
                "recomputed": each.recomputed,
            }
            for each in sets
        ],
    }


def _profiles(name: str | None) -> list[ModelProfile]:
    known = shipped_profiles()
    if name is None:
        return list(known.values())
    if name not in known:
        raise InvalidInputError(f"--profile {name!r} does not exist: {nearest_names(name, known)}")
    return [known[name]]


def _over_points(sets: Iterable[ValidationSet], figure: str) -> float | None:
    residuals = [each.residual for each in sets]
    points = sum(each.points for each in residuals)
    return sum(getattr(each, figure) * each.points for each in residuals) / points if points else None


def _table(sets: Sequence[ValidationSet]) -> Table:
    """One line per set; those that differ in the tensor-parallel degree share one, with the worst median and P90."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Measurements", overflow="fold")
    table.add_column("Quantity")
    for title in ("Points", "Mean error", "Median", "P90"):
        table.add_column(title, justify="right")
    table.add_column("Used for")
    table.add_column("Computed")
    for (title, quantity, held_out, recomputed), members in groupby(sorted(sets, key=_line), key=_line):
        residuals = [each.residual for each in members]
        points = sum(each.points for each in residuals)
        table.add_row(
            title,
            quantity,
            str(points),
            percent(sum(each.mean_abs_error * each.points for each in residuals) / points),
            percent(max(each.median_abs_error for each in residuals)),
            percent(max(each.p90_abs_error for each in residuals)),
            "check" if held_out else "fit",
            "now" if recomputed else "stored",
        )
    return table


def _line(each: ValidationSet) -> tuple[str, str, bool, bool]:
    name, _, degree = each.name.partition(", TP ")
    _, comma, kind = degree.partition(",")
    return f"{name}{comma}{kind}", each.residual.quantity, each.residual.held_out, each.recomputed


def _print_headlines(out: Console, sets: Sequence[ValidationSet], profiles: Sequence[ModelProfile]) -> None:
    content = summary(sets)
    out.print(
        f"\nStep times, held out: {percent(content['step_time_mean_abs_error'])} mean error. "
        f"Power, held out: {percent(content['power_median_abs_error'])} median error.",
        highlight=False,
    )
    bands = sorted({profile.power.clock_band for profile in profiles})
    spread = " to ".join(percent(band) for band in dict.fromkeys((bands[0], bands[-1]))) if bands else "-"
    out.print(f"{CLOCK_AXIS} Here: ± {spread}, by GPU; see `dynawatt profile show`.", highlight=False, soft_wrap=True)
    out.print(
        "clock_shape: the form of the clock axis against sweeps of other cards, between their own end points.",
        highlight=False,
        soft_wrap=True,
    )
