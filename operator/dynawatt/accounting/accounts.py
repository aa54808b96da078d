"""All accounts of one service."""

from dataclasses import dataclass, field

from dynawatt.accounting.ledger import SavingLedger
from dynawatt.accounting.metering import ServiceMeter
from dynawatt.accounting.peak import WeekPeak
from dynawatt.accounting.switchback.trial import SwitchbackTrial


@dataclass(slots=True)
class Accounts:
    """What it used and would have used, from when it was first looked at."""

    meter: ServiceMeter = field(default_factory=ServiceMeter)
    ledger: SavingLedger = field(default_factory=SavingLedger)
    peak: WeekPeak = field(default_factory=WeekPeak)
    trial: SwitchbackTrial = field(default_factory=SwitchbackTrial)
    predicted_power_w: float | None = None
    """Of what runs, under the load observed."""
    looked_s: float | None = None
    """Unix time of the last look."""

    @property
    def measured_power_w(self) -> float | None:
        """Mean of the last minutes; None where no agent counts."""
        return self.meter.power_w
