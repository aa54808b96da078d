"""What the demo found, as JSON and as a table."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from dynawatt.api.llmservice import Knob
from dynawatt.cli.demo.faults import OperatorKill
from dynawatt.cli.demo.scenario import Scenario
from dynawatt.cli.demo.watching import ServiceWatch
from dynawatt.load.report import LoadReport
from dynawatt.quantities import kwh
from dynawatt.simulation.static_fleet import StaticRun


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The measured run beside its baseline, over the same time and the same GPUs."""

    scenario: Scenario
    report: LoadReport
    static: StaticRun
    watch: ServiceWatch
    energy_j: float
    duration_s: float
    fault: OperatorKill | None = None
    """What was done to it on purpose."""

    @property
    def baseline_energy_j(self) -> float:
        """Energy of the static fleet's replay."""
        return self.scenario.baseline_energy_j(self.static, self.duration_s)

    @property
    def saving_fraction(self) -> float:
        """Energy saved relative to the baseline."""
        return 1 - self.energy_j / self.baseline_energy_j

    def changes(self, knob: Knob) -> int:
        """How often a knob was changed."""
        return sum(change.knob is knob for change in self.watch.changes)

    @property
    def reshapes(self) -> int:
        """How often the first replicas of another tensor-parallel size were started."""
        return sum(change.knob is Knob.SHAPE and change.from_.startswith("0 of ") for change in self.watch.changes)

    def _clocks(self) -> str:
        """Between what means of all GPUs that pods held the agents moved them."""
        if self.watch.clock_range_mhz is None:
            return "-"
        lowest_mhz, highest_mhz = self.watch.clock_range_mhz
        return f"{lowest_mhz:.0f} to {highest_mhz:.0f}"

    def to_json(self) -> dict[str, Any]:
        """All figures; energies in J, times in s."""
        scenario, static = self.scenario, self.static
        lowest_mhz, highest_mhz = self.watch.clock_range_mhz or (None, None)
        return {
            "energy_j": self.energy_j,
            "baseline_energy_j": self.baseline_energy_j,
            "saving_fraction": self.saving_fraction,
            "attainment": {"ttft": self.report.attainment.ttft, "tbt": self.report.attainment.tbt},
            "requests": self.report.requests,
            "failed_requests": self.report.failed,
            "clock_mhz": {"lowest": lowest_mhz, "highest": highest_mhz},
            "changes": {
                "replicas": self.changes(Knob.REPLICAS),
                "clock": self.changes(Knob.CLOCK),
                "tensor_parallel": self.reshapes,
            },
            "fault": None if self.fault is None else self.fault.to_json(),
            "decisions": [decision.to_dict() for decision in self.watch.decisions],
            "duration_s": self.duration_s,
            "gpus": scenario.gpus,
            "load": {"source": scenario.source, **self.report.to_json()},
            "baseline": {
                "kind": "simulated: the same load replayed through the same models without the controller",
                "sizing": "peak minute of the load at the default clock, highest tensor parallelism",
                "replicas": scenario.replicas,
                "tensor_parallel": scenario.models.tensor_parallel,
                "clock_mhz": scenario.models.gpu.default_clock_mhz,
                "capacity_rps_per_replica": scenario.capacity_rps,
                "attainment": {"ttft": static.ttft_attainment, "tbt": static.tbt_attainment},
            },
            "released_gpu_w": scenario.models.released_w,
        }

    def show(self, console: Console) -> None:
        """Print the summary."""
        scenario, report, static = self.scenario, self.report, self.static
        table = Table(title=f"{scenario.source}: {report.requests} requests in {self.duration_s:.0f} s")
        table.add_column("")
        table.add_column("static fleet (simulated)", justify="right")
        table.add_column("dynawatt (this run)", justify="right")
        tokens = max(report.generated_tokens, 1)
        baseline_j = self.baseline_energy_j
        table.add_row("GPU energy", f"{kwh(baseline_j):.3f} kWh", f"{kwh(self.energy_j):.3f} kWh")
        table.add_row("mean power", f"{baseline_j / self.duration_s:.0f} W", f"{self.energy_j / self.duration_s:.0f} W")
        table.add_row("energy per output token", f"{baseline_j / tokens:.2f} J", f"{self.energy_j / tokens:.2f} J")
        table.add_row("TTFT within objective", f"{static.ttft_attainment:.2%}", _share(report.attainment.ttft))
        table.add_row("TBT within objective", f"{static.tbt_attainment:.2%}", _share(report.attainment.tbt))
        table.add_row("failed requests", "-", str(report.failed))
        table.add_row("requests sent to a second replica", "-", str(report.retried))
        default_mhz = scenario.models.gpu.default_clock_mhz
        before = f"{scenario.replicas} x TP{scenario.models.tensor_parallel}"
        table.add_row("replicas", before, " > ".join(self.watch.fleets))
        table.add_row("SM clock (MHz)", str(default_mhz), self._clocks())
        console.print(table)
        fleet = f"{counted(scenario.replicas)} of {scenario.models.tensor_parallel} GPUs at {default_mhz} MHz"
        console.print(
            f"The baseline is the same load through the same models without the controller: {fleet}, sized for the "
            f"peak minute. All {scenario.gpus} GPUs count on both sides; a GPU that no pod requests draws "
            f"{scenario.models.released_w:.0f} W.",
            style="dim",
        )
        if self.fault is not None:
            console.print(self.fault.told)
        verdict = "less" if self.saving_fraction >= 0 else "MORE"
        ttft, tbt = _share(report.attainment.ttft), _share(report.attainment.tbt)
        console.print(
            f"dynawatt used {abs(self.saving_fraction):.1%} {verdict} energy than the static fleet, with {ttft} of "
            f"first tokens and {tbt} of token gaps in time ({scenario.attainment:.0%} wanted).",
            style="bold",
        )


def counted(replicas: int) -> str:
    """As people say it."""
    return "1 replica" if replicas == 1 else f"{replicas} replicas"


def _share(share: float | None) -> str:
    return "none" if share is None else f"{share:.2%}"
