"""All that the compiled core knows: arrays of records, made and grown by Python, changed by compiled code.

A replica lives in a slot, a request in a slot of a pool; slots of those that are
gone are used again. Links between requests are slots too, ``NONE`` where there is none.
"""

from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.simulation.tally import HISTOGRAM_BINS, HISTOGRAM_EDGES_S
from dynawatt.workload.classes import CLASS_NAMES

Integers: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Row_co = TypeVar("Row_co", covariant=True)

NONE: Final = -1
CLASSES: Final = len(CLASS_NAMES)
GONE, STARTING, SERVING, DRAINING = 0, 1, 2, 3
FCFS, PRIORITY, DEADLINE = 0, 1, 2
SLOT_BITS: Final = 26
"""Ends of decoding requests are kept as round << SLOT_BITS | request."""
MAX_REQUESTS: Final = 1 << SLOT_BITS


class Records(Protocol[Row_co]):
    """An array of records, each with the attributes of a class below."""

    def __getitem__(self, slot: int, /) -> Row_co:
        """A record, not a copy: setting its attributes changes the array."""
        ...

    def __len__(self) -> int:
        """How many there are."""
        ...


class Request:
    """A request and how far it has come."""

    arrival_s: float
    objective_s: float
    """Of the first token; arrival + objective is the deadline."""
    last_token_s: float
    """When it was last preempted while decoding."""
    number: int
    """Order of arrival in the fleet."""
    length_class: int
    predicted_class: int
    """What it is routed by."""
    input_tokens: int
    output_tokens: int
    generated_tokens: int
    """Exact when it does not decode; while it does, as of ``joined_round``."""
    prefilled_tokens: int
    """Of input and generated tokens; those of the iteration under way included."""
    admission: int
    """Order of admission to its replica; 0 while no iteration has worked on it."""
    joined_round: int
    """Rounds of its replica when it began to decode."""
    next: int
    """In a queue, or in the list of free slots."""
    child: int
    """In a heap."""


class Shape:
    """A ReplicaShape as the core needs it."""

    gpus: int
    max_batched_tokens: int
    max_seqs: int
    kv_blocks: int
    block_tokens: int
    prefill_threshold: int
    queue_order: int
    prefix_hit_ratio: float


class Costs:
    """The scalars of a ClockedReplica; its arrays stand in tables with the same row."""

    iteration_s: float
    request_j: float
    context_j: float
    pair_s: float
    pair_j: float
    active_w: float
    idle_w: float
    tdp_w: float


class Replica:
    """A replica, its batch, and the run of iterations under way.

    Iteration i of the run takes base_s + context_s * (context_tokens + i * decoding) seconds.
    """

    id: int
    kind: int
    """Row of its Shape."""
    pool: int
    state: int
    closed: int
    """1 where new requests go elsewhere if they can."""
    costs: int
    """Row of the run under way, or of idle power."""
    next_costs: int
    """Row for iterations that start from now on."""
    settled_s: float
    """Up to when all is counted: where the run under way begins."""
    end_s: float
    """End of the run under way; infinite when idle."""
    run: int
    """Iterations of the run under way; 0 when idle."""
    rounds: int
    """Iterations ended."""
    base_s: float
    context_s: float
    prefill_tokens: int
    """In the iteration under way, and so are the pairs."""
    prefill_pairs: float
    decoding: int
    """Requests."""
    context_tokens: int
    """Of the decoding requests, with the token that the next iteration writes."""
    prefilling: int
    """Partly prefilled requests."""
    admissions: int
    """Requests admitted so far."""
    waiting: int
    queue_head: int
    queue_tail: int
    outstanding: int
    """Requests that wait or run."""
    arrived: int
    """Requests given to it so far."""
    queued_tokens: int
    """Prompt tokens of its requests that no iteration has taken on."""
    free_blocks: int
    gap_bin: int
    """Where the last gap went in the histogram."""
    first_tokens: int
    """Requests that got theirs here so far; the next ones are counts of this replica as well."""
    first_tokens_met: int
    """Those of them in time."""
    prompt_tokens: int
    """Of these requests."""
    gaps: int
    gaps_met: int
    finished: int


class Fleet:
    """What there is only one of."""

    slots: int
    """Of replicas, in use or used before."""
    outstanding: int
    free_requests: int
    """First free slot of the pool."""
    next_number: int
    queue_head: int
    """Requests for which no replica serves."""
    queue_tail: int
    last_end_s: float
    tbt_s: float
    gpu_s: float
    busy_gpu_s: float
    input_tokens: int
    preemptions: int
    rejected: int
    iterations: int


REQUESTS, FINISHED, TTFT_MET, GAPS, GAPS_MET = range(5)
"""Columns of ``Core.counts``."""
TTFT_SUM, GAP_SUM = range(2)
"""Columns of ``Core.sums_s``."""


class Core(NamedTuple):
    """What every compiled function works on."""

    fleet: Records[Fleet]
    """One record."""
    shapes: Records[Shape]
    replicas: Records[Replica]
    requests: Records[Request]
    costs: Records[Costs]
    tokens_s: Floats
    """[costs, tokens in an iteration]"""
    tokens_j: Floats
    requests_s: Floats
    """[costs, decoding requests]"""
    context_s: Floats
    """[costs, decoding requests]"""
    prefills: Integers
    """[replica, n]: partly prefilled requests, in the order in which they get room."""
    ends: Integers
    """[replica, n]: heap of the decoding requests by their last round."""
    phases: Integers
    """[replica, round modulo block]: how many decoding requests need a new block in such a round."""
    decoding: Integers
    """[replica, class]: decoding requests."""
    eligible: NDArray[np.bool_]
    """[pool, class]"""
    counts: Integers
    """[class, column]"""
    sums_s: Floats
    """[class, column]"""
    ttft_histogram: Integers
    gap_histogram: Integers
    edges_s: Floats
    energy_j: Floats
    """By Cause."""
    kept_ttft_s: Floats
    """By number; empty unless requests are kept."""
    kept_end_s: Floats


class Turns(NamedTuple):
    """What pools get of each predicted class, both [pool, class]; not in Core, whose size every call pays for."""

    shares: Floats
    """Parts of a class, without rows while none are set."""
    owed: Floats
    """By how many requests a pool is behind its share."""


def records(kind: type, count: int) -> NDArray[Any]:
    """An array of zeroed records with the attributes of a class."""
    columns = [(name, {int: "i8", float: "f8"}[hint]) for name, hint in get_type_hints(kind).items()]
    return np.zeros(count, np.dtype((np.record, columns)))


def new_core(shapes: NDArray[Any], eligible: NDArray[np.bool_], tbt_s: float) -> Core:
    """A core without replicas, requests and costs."""
    fleet = records(Fleet, 1)
    fleet["tbt_s"] = tbt_s
    for link in ("free_requests", "queue_head", "queue_tail"):
        fleet[link] = NONE
    tables = {
        "tokens_s": shapes["max_batched_tokens"],
        "tokens_j": shapes["max_batched_tokens"],
        "requests_s": shapes["max_seqs"],
        "context_s": shapes["max_seqs"],
    }
    lists = {"prefills": shapes["max_seqs"].max(), "ends": shapes["max_seqs"].max()}
    return Core(
        fleet=fleet,
        shapes=shapes,
        replicas=records(Replica, 0),
        requests=records(Request, 0),
        costs=records(Costs, 0),
        **{name: np.zeros((0, longest.max() + 1)) for name, longest in tables.items()},
        **{name: np.zeros((0, longest), np.int64) for name, longest in lists.items()},
        phases=np.zeros((0, shapes["block_tokens"].max()), np.int64),
        decoding=np.zeros((0, CLASSES), np.int64),
        eligible=eligible,
        counts=np.zeros((CLASSES, 5), np.int64),
        sums_s=np.zeros((CLASSES, 2)),
        ttft_histogram=np.zeros((CLASSES, HISTOGRAM_BINS), np.int64),
        gap_histogram=np.zeros((CLASSES, HISTOGRAM_BINS), np.int64),
        edges_s=HISTOGRAM_EDGES_S.copy(),
        energy_j=np.zeros(4),
        kept_ttft_s=np.zeros(0),
        kept_end_s=np.zeros(0),
    )


def with_rows(core: Core, names: tuple[str, ...], rows: int) -> Core:
    """The core with these arrays grown to that many rows, new ones zero."""
    return core._replace(**{name: grown(getattr(core, name), rows) for name in names})


def grown(array: NDArray[Any], rows: int) -> NDArray[Any]:
    """A copy with more rows, new ones zero."""
    larger = np.zeros((rows, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger


def with_free_requests(core: Core, wanted: int) -> Core:
    """The core with at least that many free slots for requests. Raises InvalidInputError when far too many wait."""
    fleet = core.fleet[0]
    slots = len(core.requests)
    if slots - fleet.outstanding >= wanted:
        return core
    rows = max(2 * slots, fleet.outstanding + wanted)
    if rows > MAX_REQUESTS:
        raise InvalidInputError(
            f"{fleet.outstanding} requests are under way: give the fleet more replicas or less load"
        )
    core = with_rows(core, ("requests",), rows)
    following: Integers = np.asarray(core.requests)["next"]
    following[slots:-1] = np.arange(slots + 1, rows)
    following[-1] = fleet.free_requests
    fleet.free_requests = slots
    return core


def with_kept_requests(core: Core, wanted: int) -> Core:
    """The core with room for the latencies of that many more requests, nan until they have some."""
    known = len(core.kept_ttft_s)
    if known - core.fleet[0].next_number >= wanted:
        return core
    core = with_rows(core, ("kept_ttft_s", "kept_end_s"), 2 * known + wanted)
    core.kept_ttft_s[known:] = np.nan
    core.kept_end_s[known:] = np.nan
    return core
