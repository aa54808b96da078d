"""What is wrong with a GPU, in words that change only when its state does."""

from typing import Final, NamedTuple

from dynawatt.agent.view import GpuView

_APPLICATION_XIDS: Final = frozenset({13, 31, 43, 45, 68, 109})
"""Caused by what runs on the GPU, which stays healthy: the list of NVIDIA's device plug-in."""


class Diagnosis(NamedTuple):
    """One GPU's health."""

    healthy: bool | None
    """None while it is not known."""
    problems: tuple[str, ...] = ()
    """Why it is not healthy."""
    row_remap_pending: bool = False
    """It works, but memory rows wait for a reset of the GPU to be replaced."""
    persistence_off: bool = False
    """The driver forgets clocks and counters when its last client ends, and that may be the agent."""


def diagnose(gpu: GpuView) -> Diagnosis:
    """A GPU is healthy when it answers and has shown no error that calls for a reset or a replacement.

    Such are: uncorrected ECC errors since the driver was loaded, a memory row that could not be remapped, and
    critical XIDs since the agent started, apart from those that applications cause.
    """
    health = gpu.health
    if health is None:
        return Diagnosis(False, ("it does not answer",)) if gpu.reading is None else Diagnosis(None)
    problems = []
    if health.ecc_uncorrected:
        problems.append("uncorrected ECC errors")
    if health.row_remap_failed:
        problems.append("a memory row could not be remapped")
    problems.extend(f"XID {number}" for number in sorted(health.xids) if number not in _APPLICATION_XIDS)
    return Diagnosis(
        not problems,
        tuple(problems),
        row_remap_pending=health.row_remap_pending is True,
        persistence_off=health.persistence is False,
    )
