"""Views of a node as its loop would publish them, with changes."""

from typing import Any

from dynawatt.agent.enforcing import Setting
from dynawatt.agent.lease import LeaseState
from dynawatt.agent.view import GpuView, NodeView, PodServing
from dynawatt.ports import ClockMethod, EnergySource, GpuHealth, GpuReading, PodKey

A, B = PodKey("prod", "a"), PodKey("prod", "b")
H100_MHZ = tuple(range(345, 1981, 15))
READING = GpuReading(clock_mhz=1980.0, power_w=100.0, energy_j=5e6, temperature_c=41.0, throttling=frozenset())
HEALTH = GpuHealth(
    persistence=True,
    compute_mode="Default",
    ecc_corrected=0,
    ecc_uncorrected=0,
    rows_remapped=0,
    row_remap_pending=False,
    row_remap_failed=False,
)


def gpu_view(uuid: str = "GPU-0", **changes: Any) -> GpuView:
    fields = {
        "uuid": uuid,
        "product": "NVIDIA-H100-80GB-HBM3",
        "supported_mhz": H100_MHZ,
        "clock_method": ClockMethod.LOCKED_CLOCKS,
        "energy_source": EnergySource.COUNTER,
        "pods": (),
        "energy_only": None,
        "commanded": Setting.DEFAULT,
        "claim": None,
        "reading": READING,
        "health": HEALTH,
    }
    return GpuView(**(fields | changes))


def pod_serving(**changes: Any) -> PodServing:
    fields = {
        "service": "prod/llama",
        "prompt_tokens": 0.0,
        "generation_tokens": 0.0,
        "requests": 0.0,
        "arrival_dispersion": None,
        "as_of_s": 0.0,
    }
    return PodServing(**(fields | changes))


def node_view(*gpus: GpuView, **changes: Any) -> NodeView:
    fields = {
        "gpus": gpus or (gpu_view(),),
        "energy_j": {},
        "serving": {},
        "command_failures": {},
        "commands": 0,
        "snapped": 0,
        "cycle_failures": 0,
        "lease": LeaseState(fresh=True, age_s=2.0, reason=""),
        "switched_off": "",
        "claims": 0,
        "refusals": {},
        "governed": {},
        "scrape_failures": 0,
        "allocations_problem": "",
        "journal_problem": "",
        "cycle_s": 0.02,
        "finished_unix_s": 1.7e9,
    }
    return NodeView(**(fields | changes))
