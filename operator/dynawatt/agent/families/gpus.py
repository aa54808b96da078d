"""What GPUs use and do, and how they are."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client.core import Metric

from dynawatt.agent.actuating import requested_mhz
from dynawatt.agent.diagnosing import diagnose
from dynawatt.agent.families.making import Families
from dynawatt.agent.metering import GONE, NOBODY, EnergyKey
from dynawatt.agent.view import NodeView
from dynawatt.ports import GpuHealth, GpuReading
from dynawatt.quantities import HZ_PER_MHZ

_HELD: Final = ("gpu_uuid", "namespace", "pod")
"""Labels of what belongs to the pod that holds the GPU."""
THROTTLE_REASONS: Final = (
    "sw_power_cap",
    "hw_slowdown",
    "sync_boost",
    "sw_thermal_slowdown",
    "hw_thermal_slowdown",
    "hw_power_brake_slowdown",
    "display_clock_setting",
    "board_limit",
    "reliability",
)
"""Values of the label ``reason``; all else is OTHER, so that no driver can make series without bound."""
OTHER: Final = "other"


def gpu_families(make: Families, view: NodeView) -> Iterator[Metric]:
    """All families about GPUs."""
    yield from _energy(make, view.energy_j)
    yield from _readings(make, view)
    yield from _kinds(make, view)
    yield from _health(make, view)


def _energy(make: Families, energy_j: Mapping[EnergyKey, float]) -> Iterator[Metric]:
    gpu = make.counter(
        "dynawatt_gpu_energy_joules",
        "Energy of a GPU while a pod held it; no pod when nobody or several.",
        *_HELD,
    )
    for key, joules in energy_j.items():
        if key.pod != GONE:
            gpu.add(joules, key.uuid, *key.pod)
    yield gpu.family
    node = make.counter(
        "dynawatt_node_energy_joules", "Energy of all GPUs of the node, those of pods that are gone included."
    )
    yield node.add(sum(energy_j.values()) if energy_j else None).family


def _readings(make: Families, view: NodeView) -> Iterator[Metric]:
    power = make.gauge("dynawatt_gpu_power_watts", "Board power now.", *_HELD)
    clock = make.gauge("dynawatt_gpu_sm_clock_hertz", "SM clock now.", *_HELD)
    requested = make.gauge(
        "dynawatt_gpu_requested_clock_hertz", "SM clock that the governor chose; absent at default clocks.", *_HELD
    )
    temperature = make.gauge("dynawatt_gpu_temperature_celsius", "Temperature of the GPU now.", *_HELD)
    throttled = make.gauge(
        "dynawatt_gpu_throttled",
        "1 for each reason for which the driver keeps the SM clock below what was asked for.",
        *_HELD,
        "reason",
    )
    for gpu in view.gpus:
        labels = (gpu.uuid, *(gpu.pods[0] if len(gpu.pods) == 1 else NOBODY))
        requested.add(_hertz(requested_mhz(gpu.commanded)), *labels)
        reading = gpu.reading or GpuReading(None, None, None, None, None)
        power.add(reading.power_w, *labels)
        clock.add(_hertz(reading.clock_mhz), *labels)
        temperature.add(reading.temperature_c, *labels)
        if reading.throttling is not None:
            for reason in THROTTLE_REASONS:
                throttled.add(reason in reading.throttling, *labels, reason)
            throttled.add(not reading.throttling.issubset(THROTTLE_REASONS), *labels, OTHER)
    yield from (family.family for family in (power, clock, requested, temperature, throttled))


def _kinds(make: Families, view: NodeView) -> Iterator[Metric]:
    info = make.gauge(
        "dynawatt_gpu_info",
        "1; what the GPU is, how its clock is set, and whether its joules are counted by itself or integrated power.",
        "gpu_uuid",
        "product",
        "clock_method",
        "energy_source",
    )
    energy_only = make.gauge(
        "dynawatt_gpu_energy_only",
        "1 for a GPU whose clock is left alone because of how it is used, with the reason.",
        "gpu_uuid",
        "reason",
    )
    for gpu in view.gpus:
        info.add(1, gpu.uuid, gpu.product, gpu.clock_method.value, gpu.energy_source.value)
        if gpu.energy_only is not None:
            energy_only.add(1, gpu.uuid, gpu.energy_only.reason.value)
    yield from (info.family, energy_only.family)


def _health(make: Families, view: NodeView) -> Iterator[Metric]:
    healthy = make.gauge(
        "dynawatt_gpu_healthy",
        "1 when the GPU answers and shows no uncorrected ECC error, failed row remap, or XID but an application's.",
        "gpu_uuid",
    )
    ecc = make.counter("dynawatt_gpu_ecc_errors", "ECC errors since the driver was loaded.", "gpu_uuid", "kind")
    xids = make.counter("dynawatt_gpu_xid_errors", "Critical XIDs since the agent started.", "gpu_uuid", "xid")
    for gpu in view.gpus:
        healthy.add(diagnose(gpu).healthy, gpu.uuid)
        if gpu.health is not None:
            ecc.add(gpu.health.ecc_corrected, gpu.uuid, "corrected")
            ecc.add(gpu.health.ecc_uncorrected, gpu.uuid, "uncorrected")
            for number, count in gpu.health.xids.items():
                xids.add(count, gpu.uuid, str(number))
    yield from (healthy.family, ecc.family, xids.family)
    for name, text, value in _STATES:
        gauge = make.gauge(f"dynawatt_gpu_{name}", text, "gpu_uuid")
        for gpu in view.gpus:
            if gpu.health is not None:
                gauge.add(value(gpu.health), gpu.uuid)
        yield gauge.family


_STATES: Final[tuple[tuple[str, str, Callable[[GpuHealth], float | None]], ...]] = (
    ("remapped_rows", "Memory rows that were replaced by spare ones.", lambda health: health.rows_remapped),
    ("row_remap_pending", "1 while a row waits for a reset of the GPU.", lambda health: health.row_remap_pending),
    ("row_remap_failed", "1 when a row could not be replaced.", lambda health: health.row_remap_failed),
    ("mig_enabled", "1 when the GPU is partitioned.", lambda health: health.mig),
    ("persistence_mode", "1 when the driver stays loaded without clients.", lambda health: health.persistence),
)


def _hertz(clock_mhz: float | None) -> float | None:
    return None if clock_mhz is None else clock_mhz * HZ_PER_MHZ
