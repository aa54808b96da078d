"""Whether another shape may be planned for a service now, and what a change that is under way leads to."""

from dynawatt.api.llmservice import Knob
from dynawatt.controller.reshape_record import has_failed
from dynawatt.controller.target import shape_name
from dynawatt.controller.tick import Tick
from dynawatt.controller.windows import is_open
from dynawatt.planning.service import Fleet


def may_reshape(tick: Tick, *, dwell_s: float, is_load_known: bool) -> bool:
    """Whether shapes may be chosen, so that no change begins that the user does not want, or that is soon turned back.

    Outside the change windows load is met with the shape that is there: one that is new to the service would be a
    change of shape after all. A change under way is finished first, and another one begins ``dwell_s`` after it at the
    earliest, unless it failed: that is tried again when its own time has come. As long as the load is not known well
    only shapes are at choice that are there.
    """
    if Knob.SHAPE not in tick.spec.knobs or not is_open(tick.spec.change_windows, tick.draft.now):
        return False
    rested = has_failed(tick.draft) or tick.draft.since_reshaped_s > dwell_s
    return not is_load_known or (goal_of(tick) is None and rested)


def goal_of(tick: Tick) -> Fleet | None:
    """What a change of shape under way leads to: the last decision, which outlives the operator that made it."""
    status = tick.draft.status
    if status.reshape is None or status.reshape.retry_time is not None or status.last_decision is None:
        return None
    chosen = status.last_decision.chosen
    if chosen.tensor_parallel_size is None:
        return None
    return Fleet(shape_name(chosen.tensor_parallel_size), chosen.replicas)
