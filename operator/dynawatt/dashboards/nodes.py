"""Nodes: clocks, watts, health and throttling of every GPU."""

from typing import Final

from dynawatt.dashboards.page import NODE, Page, Section
from dynawatt.dashboards.panels import BAD, FAIR, GOOD, QUIET, Column, Look, Query, Steps, lines, number, rows, states
from dynawatt.dashboards.selecting import NODES, chosen

_HOT: Final = Steps(GOOD, ((80.0, FAIR), (87.0, BAD)))
_NONE_WANTED: Final = Steps(GOOD, ((1.0, BAD),))
_UNWELCOME: Final = Steps(GOOD, ((1.0, FAIR),))
_GPU: Final = "{{node}} {{gpu_uuid}}"


def _on(metric: str, matchers: str = "") -> str:
    return chosen(metric, matchers, by=NODES)


_NOW: Final = (
    number(
        "GPUs",
        "That agents see on the chosen nodes.",
        Query(f"count({_on('dynawatt_gpu_healthy')})", "GPUs"),
        unit="none",
    ),
    number(
        "Unhealthy GPUs",
        "Do not answer, or show an uncorrected ECC error, a failed row remap, or a critical XID. Above 0 (red) the "
        "planner avoids them; cordon the node.",
        Query("count(" + _on("dynawatt_gpu_healthy") + " == 0) or vector(0)", "unhealthy"),
        unit="none",
        steps=_NONE_WANTED,
    ),
    number(
        "Power",
        "Board power of all GPUs of the chosen nodes.",
        Query(f"sum({_on('dynawatt_gpu_power_watts')})", "power"),
        unit="watt",
    ),
    number(
        "GPUs below their default clock",
        "That governors ask for a clock of. The others run at their default.",
        Query(f"count({_on('dynawatt_gpu_requested_clock_hertz')}) or vector(0)", "governed"),
        unit="none",
    ),
    number(
        "Throttled GPUs",
        "Kept below what was asked for by power, heat or the board. Above 0 (orange) the latency model is too hopeful.",
        Query("count(max by (gpu_uuid) (" + _on("dynawatt_gpu_throttled") + ") == 1) or vector(0)", "throttled"),
        unit="none",
        steps=_UNWELCOME,
    ),
    number(
        "Hottest GPU",
        "From 80 °C (orange) on data-centre GPUs come near their limits; at 87 °C (red) most throttle.",
        Query(f"max({_on('dynawatt_gpu_temperature_celsius')})", "hottest"),
        unit="celsius",
        steps=_HOT,
    ),
)
_CLOCKS: Final = (
    lines(
        "SM clock by GPU",
        "As it runs now. Idle GPUs may drop below what is asked for.",
        Query(_on("dynawatt_gpu_sm_clock_hertz"), _GPU),
        unit="hertz",
    ),
    lines(
        "SM clock that is asked for",
        "By the governors, within the operator's claims. GPUs at their default clock have none.",
        Query(_on("dynawatt_gpu_requested_clock_hertz"), _GPU),
        unit="hertz",
        stepped=True,
    ),
    lines(
        "Power by GPU",
        "Board power.",
        Query(_on("dynawatt_gpu_power_watts"), _GPU),
        unit="watt",
    ),
    lines(
        "Energy by node",
        "Rate of the node's energy counter, which is exactly the sum of its GPUs.",
        Query(f"sum by (node) (rate({_on('dynawatt_node_energy_joules_total')}[$__rate_interval]))", "{{node}}"),
        unit="watt",
        stacked=True,
    ),
)
_HEALTH: Final = (
    states(
        "Health",
        "Of every GPU: green answers and shows no error that calls for a reset or a replacement, red does not.",
        Query(f"min by (node, gpu_uuid) ({_on('dynawatt_gpu_healthy')})", _GPU),
        names={0: ("unhealthy", BAD), 1: ("healthy", GOOD)},
    ),
    lines(
        "Throttled GPUs by reason",
        "How many GPUs the driver keeps below what was asked for, and why. Heat and power brakes (from 1, the dashed "
        "line) cost latency that no plan knows of.",
        Query(f"sum by (reason) ({_on('dynawatt_gpu_throttled')})", "{{reason}}"),
        unit="none",
        steps=_UNWELCOME,
        stepped=True,
    ),
    lines(
        "Temperature",
        "Dashed lines at 80 °C (orange) and 87 °C (red), where most data-centre GPUs begin to throttle.",
        Query(_on("dynawatt_gpu_temperature_celsius"), _GPU),
        unit="celsius",
        steps=_HOT,
    ),
    lines(
        "Errors that come",
        "ECC errors and critical XIDs in the interval. Corrected ones are normal; from 1 uncorrected one on (dashed "
        "line) the GPU is unhealthy.",
        Query(f"sum by (kind) (increase({_on('dynawatt_gpu_ecc_errors_total')}[$__rate_interval]))", "ECC {{kind}}"),
        Query(f"sum by (xid) (increase({_on('dynawatt_gpu_xid_errors_total')}[$__rate_interval]))", "XID {{xid}}"),
        unit="none",
        steps=_NONE_WANTED,
        looks=(Look("uncorrected|XID", colour=BAD), Look("^ECC corrected", colour=QUIET)),
        bars=True,
    ),
)
_KEYS: Final = {"node": "Node", "gpu_uuid": "GPU"}


def _state(name: str) -> str:
    return f"max by (node, gpu_uuid) ({_on(f'dynawatt_gpu_{name}')})"


_TABLES: Final = (
    rows(
        "GPUs that need somebody",
        "Modes and memory rows of every GPU. Persistence off (orange): the driver forgets clocks and counters; remap "
        "pending (orange): reset the GPU when it suits; failed (red): replace it; MIG (orange): clocks are left alone.",
        _KEYS,
        Column("Persistence", _state("persistence_mode"), "bool_on_off", Steps(FAIR, ((1.0, GOOD),))),
        Column("MIG", _state("mig_enabled"), "bool_on_off", _UNWELCOME),
        Column("Rows remapped", _state("remapped_rows"), "none"),
        Column("Remap pending", _state("row_remap_pending"), "bool_yes_no", _UNWELCOME),
        Column("Remap failed", _state("row_remap_failed"), "bool_yes_no", _NONE_WANTED),
        width=14,
    ),
    rows(
        "What GPUs are",
        "Product, how the clock is set, whether joules are counted by the GPU or integrated from its power; GPUs.",
        {"node": "Node", "product": "Product", "clock_method": "Clock", "energy_source": "Energy"},
        Column("GPUs", f"count by (node, product, clock_method, energy_source) ({_on('dynawatt_gpu_info')})", "none"),
        width=10,
    ),
    rows(
        "GPUs whose clock is left alone",
        "Because of how they are used: shared, partitioned (MIG), or not known by UUID. Their energy is reported.",
        {"node": "Node", "gpu_uuid": "GPU", "reason": "Reason"},
        Column("Left alone", f"max by (node, gpu_uuid, reason) ({_on('dynawatt_gpu_energy_only')})", "bool_yes_no"),
        height=5,
    ),
)

NODES_PAGE: Final = Page(
    "dynawatt-nodes",
    "dynawatt / Nodes",
    "Clocks, watts, health and throttling of every GPU, as the agents see them.",
    (
        Section("Now", _NOW),
        Section("Clocks and power", _CLOCKS),
        Section("Health", _HEALTH),
        Section("Inventory", _TABLES),
    ),
    (NODE,),
)
