"""``dynawatt profile show``: one profile, readable."""

from collections.abc import Iterator
from itertools import groupby
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dynawatt.adapters.profile_files import shipped_profiles
from dynawatt.cli.profile.output import CLOCK_AXIS, JsonOption, console, percent, write_json
from dynawatt.cli.profile.summary import CONTEXT_TOKENS, Example, example_clocks_mhz, examples, summary_json
from dynawatt.errors import InvalidInputError, nearest_names
from dynawatt.perfmodel.profile import ModelProfile, ReplicaProfile
from dynawatt.quantities import MS_PER_S

_MILLI = 1e3
_NANO = 1e9
_PICO = 1e12
_GB = 1e9


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("show")(show)


def show(
    name: Annotated[str, typer.Argument(help="Name of a profile, as `dynawatt profile list` prints it.")],
    json_file: JsonOption = None,
) -> None:
    """Show what a profile means: step times and watts over clocks, KV capacity, errors, provenance."""
    profiles = shipped_profiles()
    if name not in profiles:
        raise InvalidInputError(f"profile {name!r} does not exist: {nearest_names(name, profiles)}")
    profile = profiles[name]
    if json_file is not None:
        write_json(summary_json(profile), json_file)
        return
    out = console()
    out.print(_head(profile), highlight=False)
    for size in profile.tensor_parallel_sizes:
        out.print()
        _print_shape(out, profile.replica(size))
    out.print(f"\n{CLOCK_AXIS} Here: ± {percent(profile.power.clock_band)}.", highlight=False, soft_wrap=True)
    if profile.residuals:
        out.print()
        out.print(_residuals(profile), highlight=False)
    out.print("\n[bold]Provenance[/]")
    for source in profile.provenance:
        out.print(f"  {source}", highlight=False, markup=False, soft_wrap=True)


def _head(profile: ModelProfile) -> Table:
    model, gpu, power = profile.architecture, profile.gpu, profile.power
    lowest_mhz = min(example_clocks_mhz(profile))
    core = gpu.relative_voltage(lowest_mhz) ** 2
    memory = 1 - power.byte_core_share * (1 - core)
    experts = f", {model.experts_per_token} of {model.experts} experts" if model.experts > 1 else ""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("Profile", profile.name)
    table.add_row(
        "Model", f"{model.name}: {model.parameters / _GB:.1f} billion parameters, {model.layers} layers{experts}"
    )
    table.add_row("Weights", f"{profile.precision}, {profile.weight_bytes / _GB:.1f} GB")
    clocks = f"{gpu.min_clock_mhz} to {gpu.default_clock_mhz} MHz"
    table.add_row("GPU", f"{gpu.name} ({gpu.product}), SM clocks {clocks}, TDP {gpu.tdp_w:.0f} W")
    idle_w = gpu.loaded_idle_w(gpu.default_clock_mhz)
    table.add_row(
        "Idle", f"{idle_w:.0f} W with the model loaded, {gpu.loaded_idle_w(lowest_mhz):.0f} W at {lowest_mhz} MHz"
    )
    table.add_row(
        "Running", f"{power.active_static_w:.0f} W more, and {power.active_clocked_w:.0f} W that fall with V²f"
    )
    table.add_row(
        "Bytes",
        f"{power.j_per_byte * _PICO:.0f} pJ each of weights and activations, "
        f"{power.j_per_context_byte * _PICO:.0f} pJ of KV cache; {memory:.2f} of that at {lowest_mhz} MHz; "
        f"{power.j_per_link_byte * _PICO:.0f} pJ sent to another GPU",
    )
    table.add_row("FLOP", f"{power.j_per_flop * _PICO:.2f} pJ each; {core:.2f} of that at {lowest_mhz} MHz")
    table.add_row(
        "Logit",
        f"{power.j_per_logit * _NANO:.0f} nJ each, {power.j_per_logit * model.vocabulary * _MILLI:.1f} mJ for each "
        f"generated token, on every GPU; {memory:.2f} of that at {lowest_mhz} MHz",
    )
    table.add_row("Start-up", f"{profile.startup_s:.0f} s until Ready")
    return table


def _print_shape(out: Console, replica: ReplicaProfile) -> None:
    gpus = "1 GPU" if replica.tensor_parallel == 1 else f"{replica.tensor_parallel} GPUs"
    out.print(
        f"[bold]Tensor parallelism {replica.tensor_parallel}[/] ({gpus}): KV cache of {replica.kv_capacity_tokens:,} "
        f"tokens; covers {replica.max_iteration_tokens:,} tokens and {replica.max_decode_requests:,} decoding requests "
        "per iteration",
        highlight=False,
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("Iteration")
    for clock_mhz in example_clocks_mhz(replica.model):
        table.add_column(f"{clock_mhz} MHz", justify="right")
    for title, row in _rows(examples(replica)):
        table.add_row(title, *(f"{example.step_s * MS_PER_S:.1f} ms  {example.power_w:4.0f} W" for example in row))
    out.print(table, highlight=False)


def _rows(iterations: list[Example]) -> Iterator[tuple[str, list[Example]]]:
    for (requests, tokens), row in groupby(iterations, lambda each: (each.decode_requests, each.prefill_tokens)):
        decode = f"decode {requests} x {CONTEXT_TOKENS} tokens"
        yield (f"prefill {tokens} tokens" if tokens else decode), [*row]


def _residuals(profile: ModelProfile) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Measurements")
    table.add_column("Quantity")
    for title in ("Points", "Median error", "P90 error", "Mean error"):
        table.add_column(title, justify="right")
    table.add_column("Used for")
    for residual in profile.residuals:
        table.add_row(
            residual.dataset,
            residual.quantity,
            str(residual.points),
            percent(residual.median_abs_error),
            percent(residual.p90_abs_error),
            percent(residual.mean_abs_error),
            "check (held out)" if residual.held_out else "fit",
        )
    return table
