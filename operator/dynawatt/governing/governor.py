"""Chooses one pod's clock, once per second, inside its claim.

Feed-forward: the lowest row of the table that carries the load of the last
minutes, keeps a decode step of the present batch within the TBT objective, and
prefills what waits in time. A burst is met as soon as the last seconds show
clearly more arrivals than the last minutes.

Feedback: when the last seconds surely used up more than twice the error budget,
the ceiling at once, whatever the table says. Single violations do nothing: a P99
allows 1 % of them. Where the last half hour used up more than its budget, without
ever doing so fast, the load counts for more than it is until it is won back.

Up at once, down one row per step and only when no reading of the last clean
windows wanted more. Feedback aside, all of it is a maximum or minimum of
functions that grow with the load, so more load never gives a lower clock; and
between the row that the load needs and the row that a little more load would
need, the clock stays.
"""

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from math import isfinite, sqrt
from typing import Final

from dynawatt.governing.reading import PodReading
from dynawatt.governing.table import ClockRow, GovernorTable
from dynawatt.governing.window import Counts, CountWindow, LongCountWindow

BURN_WINDOW_S: Final = 10.0
BURN_LIMIT: Final = 2.0
"""Times the error budget."""
CLEAN_S: Final = 20.0
"""Two windows without a reason for more."""
LOAD_WINDOW_S: Final = 120.0
"""Some hundred requests of a busy replica: their number is then good to a few percent."""
_RISES: Final = ((30.0, 1.0), (60.0, 0.5))
"""Shorter windows, in which a rise shows sooner: seconds, and by how many standard deviations its count is lowered."""
BUDGET_WINDOW_S: Final = 1800.0
"""Over so long the error budget must last."""
_RESERVE: Final = 0.15
"""By so much more than it is the load counts while the budget of that time is overspent."""
_SURE: Final = 2.0
"""Standard deviations beyond which something is taken for more than chance."""
_SLACK: Final = 0.03
"""By so much the load must be below what the next lower row carries before the clock goes there."""
_FEW: Final = 2.0
"""Violations in a window that say nothing, however few there were to violate."""
_KV_FULL: Final = 0.95
"""Above this use of the KV cache requests are soon preempted: let none stay longer than it must."""


class GovernorReason(StrEnum):
    """Why the clock is what it is."""

    STARTING = "starting"
    """The load is not known yet: the ceiling."""
    BURNING = "burning"
    """The error budget is used up too fast: the ceiling."""
    SETTLING = "settling"
    """A lower clock would suffice now, but has not for long enough."""
    LOAD = "load"
    """It is the lowest that suffices."""


class ClockGovernor:
    """One pod's clock. Its state is what it read during the last minutes.

    Args:
        table: What each clock carries.
        floor_mhz: Lowest clock of the claim.
        ceiling_mhz: Its highest, where the governor begins.

    Raises ValueError when the floor is above the ceiling.
    """

    def __init__(self, table: GovernorTable, floor_mhz: int, ceiling_mhz: int) -> None:
        """At the ceiling."""
        self._table = table
        self._rows = table.within(floor_mhz, ceiling_mhz)
        self._top = len(self._rows) - 1
        self._row = self._top
        self._burst = CountWindow(BURN_WINDOW_S)
        self._minutes = CountWindow(LOAD_WINDOW_S)
        self._rises = tuple((CountWindow(length_s), length_s, deviations) for length_s, deviations in _RISES)
        self._budget = LongCountWindow(BUDGET_WINDOW_S)
        self._wanted = _RecentMaximum(CLEAN_S)
        self._enough = _RecentMaximum(CLEAN_S)
        self._last: Counts | None = None
        self._reason = GovernorReason.STARTING

    @property
    def clock_mhz(self) -> int:
        """The clock chosen last."""
        return self._rows[self._row].clock_mhz

    @property
    def reason(self) -> GovernorReason:
        """Why it was chosen."""
        return self._reason

    def adopt(self, table: GovernorTable, floor_mhz: int, ceiling_mhz: int) -> None:
        """Go on by another table of the same objectives, with all that was read so far and the present clock.

        A clock that was wanted counts as the next one that the new table has, not below it. Raises as the constructor.
        """
        before, rows = self._rows, table.within(floor_mhz, ceiling_mhz)
        self._table, self._rows, self._top = table, rows, len(rows) - 1

        def moved(row: int) -> int:
            wanted_mhz = before[row].clock_mhz
            return next((index for index, found in enumerate(rows) if found.clock_mhz >= wanted_mhz), self._top)

        self._row = moved(self._row)
        self._wanted.replace(moved)
        self._enough.replace(moved)

    def step(self, now_s: float, reading: PodReading) -> int:
        """The clock from now on, in MHz; ``now_s`` is the time of the reading on a clock that only goes on.

        A reading with something unknown, or one that is not later than the last, changes nothing. Counters that went
        back tell of a restarted pod: it gets the ceiling until its load is known.
        """
        last = self._last
        later = isfinite(now_s) and (last is None or now_s > last.now_s)
        if not later or not reading.is_known:
            return self.clock_mhz
        counts = _counts(now_s, reading)
        if last is None or _went_back(counts, last):
            return self._restart(counts)
        self._last = counts
        ten_s_ago, minutes_ago = self._burst.add(counts), self._minutes.add(counts)
        rising_rps = self._rising_rps(counts)
        budget_begun = self._budget.add(counts)
        needed = enough = self._top
        if counts.now_s - minutes_ago.now_s < BURN_WINDOW_S:
            self._reason = GovernorReason.STARTING
        elif self._burns(BURN_LIMIT, counts, ten_s_ago, reading.running or 0.0):
            self._reason = GovernorReason.BURNING
        else:
            self._reason = GovernorReason.LOAD
            load_rps = max(rising_rps, self._load_rps(counts, ten_s_ago, minutes_ago))
            if self._burns(1.0, counts, budget_begun, reading.running or 0.0):
                load_rps *= 1 + _RESERVE
            needed = self._lowest(load_rps, reading)
            enough = self._lowest(load_rps * (1 + _SLACK), reading)
        wanted, enough = self._wanted.add(now_s, needed), self._enough.add(now_s, enough)
        self._row = max(wanted, min(self._row, max(enough, self._row - 1)))
        if self._row > needed:
            self._reason = GovernorReason.SETTLING
        return self.clock_mhz

    def _restart(self, counts: Counts) -> int:
        for memory in (self._burst, self._minutes, self._budget, self._wanted, self._enough):
            memory.clear()
        for window, _, _ in self._rises:
            window.clear()
            window.add(counts)
        self._burst.add(counts)
        self._minutes.add(counts)
        self._budget.add(counts)
        self._last = counts
        self._row = self._top
        self._reason = GovernorReason.STARTING
        return self.clock_mhz

    def _burns(self, budgets: float, now: Counts, before: Counts, running: float) -> bool:
        """Whether more than so many error budgets were used, beyond what chance does to a pod that uses just that."""
        limit = budgets * (1 - self._table.attainment)
        # All gaps of an iteration are late together.
        gaps, late = now.gaps - before.gaps, now.gaps_late - before.gaps_late
        if late > _at_most(limit * gaps, max(1.0, running)):
            return True
        first_tokens, late = now.first_tokens - before.first_tokens, now.first_tokens_late - before.first_tokens_late
        return self._table.judges_ttft and late > _at_most(limit * first_tokens, 1.0)

    def _load_rps(self, now: Counts, ten_s_ago: Counts, minutes_ago: Counts) -> float:
        """Arrivals per second, in requests of mean length: of the last minutes, or clearly more in the last seconds."""
        minutes_s, burst_s = now.now_s - minutes_ago.now_s, now.now_s - ten_s_ago.now_s
        arrived = now.arrived - minutes_ago.arrived
        # The variance of a sum of lengths that vary about as much as their mean is twice that of their number.
        longer = _surely((now.prompt_tokens - minutes_ago.prompt_tokens) / self._table.prompt_tokens, 2.0)
        burst = _surely(now.arrived - ten_s_ago.arrived, 1.0)
        return max(arrived / minutes_s, longer / minutes_s, burst / burst_s)

    def _rising_rps(self, now: Counts) -> float:
        """Arrivals per second, in requests of mean length, that the shorter windows show at least."""
        rising_rps = 0.0
        for window, length_s, deviations in self._rises:
            before = window.add(now)
            passed_s = now.now_s - before.now_s
            if passed_s < 0.9 * length_s:
                continue  # too few to tell
            arrived = _surely(now.arrived - before.arrived, 1.0, deviations)
            longer = _surely((now.prompt_tokens - before.prompt_tokens) / self._table.prompt_tokens, 2.0, deviations)
            rising_rps = max(rising_rps, arrived / passed_s, longer / passed_s)
        return rising_rps

    def _lowest(self, load_rps: float, reading: PodReading) -> int:
        """The lowest row that suffices."""
        running, waiting, kv_usage = reading.running or 0.0, reading.waiting or 0.0, reading.kv_usage or 0.0
        if kv_usage > _KV_FULL:
            return self._top
        requests = max(running, kv_usage * self._table.kv_requests)
        tokens_per_s = waiting * self._table.prompt_tokens / self._table.drain_s
        for index, row in enumerate(self._rows):
            if _suffices(row, load_rps, requests, tokens_per_s):
                return index
        return self._top


def _suffices(row: ClockRow, load_rps: float, requests: float, tokens_per_s: float) -> bool:
    return load_rps <= row.load_rps and requests <= row.decode_requests and tokens_per_s <= row.prefill_tokens_per_s


def _surely(count: float, variance: float, deviations: float = _SURE) -> float:
    """What a count stands for at least; grows with it, but below a few, where it is 0."""
    return max(0.0, count - deviations * sqrt(variance * max(count, 0.0)))


def _at_most(expected: float, cluster: float) -> float:
    """The most violations that chance explains when so many are expected, and that many come at once."""
    return max(_FEW, expected + _SURE * sqrt(cluster * expected))


def _counts(now_s: float, reading: PodReading) -> Counts:
    """Counters of a reading of which all is known."""
    running, waiting, _, finished, first_tokens, first_tokens_met, gaps, gaps_met, prompt_tokens, _ = (
        value or 0.0 for value in reading
    )
    return Counts(
        now_s=now_s,
        # Nothing counts arrivals, but what arrived is either here or has ended.
        arrived=finished + running + waiting,
        finished=finished,
        first_tokens=first_tokens,
        first_tokens_late=first_tokens - first_tokens_met,
        gaps=gaps,
        gaps_late=gaps - gaps_met,
        prompt_tokens=prompt_tokens,
    )


def _went_back(now: Counts, before: Counts) -> bool:
    """Whether a counter is lower than it was; arrivals are made up of gauges too, which may lag behind each other."""
    return (
        now.finished < before.finished
        or now.first_tokens < before.first_tokens
        or now.gaps < before.gaps
        or now.prompt_tokens < before.prompt_tokens
    )


class _RecentMaximum:
    """The maximum of what was added during the last seconds."""

    def __init__(self, length_s: float) -> None:
        self._length_s = length_s
        self._kept: deque[tuple[float, int]] = deque()
        """Descending values: of what a later one reaches, nothing needs to be remembered."""

    def add(self, now_s: float, value: int) -> int:
        kept = self._kept
        while kept and kept[-1][1] <= value:
            kept.pop()
        kept.append((now_s, value))
        while kept[0][0] < now_s - self._length_s:
            kept.popleft()
        return kept[0][1]

    def replace(self, new: Callable[[int], int]) -> None:
        """Another number for each; ``new`` must not fall."""
        self._kept = deque((time_s, new(value)) for time_s, value in self._kept)

    def clear(self) -> None:
        self._kept.clear()
