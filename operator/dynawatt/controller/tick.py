"""What one tick of one LLMService is about."""

from dataclasses import dataclass

from dynawatt.api.llmservice import LLMServiceSpec
from dynawatt.controller.draft import StatusDraft
from dynawatt.controller.inventory import Inventory
from dynawatt.controller.runtime import ServiceRuntime
from dynawatt.controller.silent_agents import StuckClocks
from dynawatt.controller.target import Target


@dataclass(frozen=True, slots=True)
class Tick:
    """Everything known when it begins, and the status that it writes."""

    runtime: ServiceRuntime
    spec: LLMServiceSpec
    target: Target
    inventory: Inventory
    draft: StatusDraft
    stuck: StuckClocks | None = None
    """Clocks that nobody can move, because the agents of their nodes are gone; None where there are none."""
