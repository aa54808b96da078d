"""A fleet of plain engines on virtual time: slow, iteration by iteration, what FleetCore must agree with."""

import heapq
import itertools
from dataclasses import dataclass, field

import numpy as np

from dynawatt.perfmodel.models import Batch
from dynawatt.simulation.engine import EngineRequest, Iteration, ReplicaEngine
from dynawatt.simulation.fleet_core import ReplicaState
from dynawatt.simulation.settings import QueueOrder
from dynawatt.simulation.tally import Cause
from dynawatt.workload.classes import CLASS_NAMES, LengthClasses

_CLASSES = len(CLASS_NAMES)


@dataclass
class Pod:
    engine: ReplicaEngine
    pool: int
    state: ReplicaState
    clocks: list  # (in force from, MHz), the last one first
    settled_s: float
    closed: bool = False
    outstanding: int = 0
    arrived: int = 0
    iteration: Iteration | None = None
    iteration_clock: float = 0.0
    ends_s: float = np.inf

    def clock_at(self, time_s):
        return next(mhz for from_s, mhz in self.clocks if from_s <= time_s)


@dataclass
class ReferenceFleet:
    """The same calls as FleetCore; results in the attributes."""

    shapes: list
    objectives: object
    eligible: np.ndarray = field(default_factory=lambda: np.ones((1, _CLASSES), bool))
    clock_delay_s: float = 0.0
    classes: LengthClasses = field(default_factory=LengthClasses)
    predictor: object = None

    def __post_init__(self):
        self.now_s = 0.0
        self.pods = []
        self.queue = []
        self.ready = []
        self.ttft_s, self.end_s = [], []
        self.gaps = [[] for _ in range(_CLASSES)]
        self.energy_j = np.zeros(len(Cause))
        self.gpu_s = self.busy_gpu_s = 0.0
        self.rejected = self.iterations = 0
        self.rows = []  # (arrival, input, output, class)
        self.predicted = []
        self.shares = self.owed = None

    @property
    def preemptions(self):
        return sum(pod.engine.preemptions_total for pod in self.pods)

    def add_replica(self, shape, *, clock_mhz, ready_s=None, pool=0):
        starting = ready_s is not None and ready_s > self.now_s
        state = ReplicaState.STARTING if starting else ReplicaState.SERVING
        engine = ReplicaEngine(self.shapes[shape].settings, self.shapes[shape].replica)
        self.pods.append(Pod(engine, pool, state, [(self.now_s, clock_mhz)], self.now_s))
        if starting:
            heapq.heappush(self.ready, (ready_s, len(self.pods) - 1))
        else:
            self._place_waiting()
        return len(self.pods) - 1

    def drain(self, replica):
        pod = self.pods[replica]
        if pod.state != ReplicaState.GONE:
            self._idle(pod, self.now_s)
            pod.state = ReplicaState.DRAINING if pod.outstanding else ReplicaState.GONE

    def set_clock(self, replica, clock_mhz):
        self.pods[replica].clocks.insert(0, (self.now_s + self.clock_delay_s, clock_mhz))

    def set_open(self, replica, is_open):
        self.pods[replica].closed = not is_open

    def set_shares(self, shares):
        if shares is not None:
            owed = np.zeros(shares.shape) if self.shares is None else np.where(shares > 0, self.owed, 0.0)
            shares = shares / shares.sum(axis=0)
            self.owed = owed - shares * owed.sum(axis=0)
        self.shares = shares

    def reroute_waiting(self, replica):
        source = self.pods[replica]
        moved = 0
        for request in list(source.engine.waiting):
            others = [
                pod
                for pod in self._fitting(self._serving(request), request)
                if pod is not source and len(pod.engine.waiting) < len(source.engine.waiting)
            ]
            if request.scheduled_s is None and others:
                source.engine.abort(request)
                source.outstanding -= 1
                self._give(min(others, key=lambda pod: (pod.closed, pod.outstanding)), request)
                moved += 1
        return moved

    def advance(self, until_s, arrivals=None):
        times = [] if arrivals is None else arrivals.arrival_s.tolist()
        for i, time_s in enumerate(times):
            self._run(time_s, inclusive=True)
            self._arrive(time_s, int(arrivals.input_tokens[i]), int(arrivals.output_tokens[i]))
        self._run(until_s, inclusive=False)
        self.now_s = until_s
        for pod in self.pods:
            self._idle(pod, until_s)

    def finish(self, limit_s):
        while (self.queue or any(pod.outstanding for pod in self.pods)) and self._step(limit_s, inclusive=False):
            pass
        if self.queue or any(pod.outstanding for pod in self.pods):
            self.now_s = limit_s
        for pod in self.pods:
            self._idle(pod, self.now_s)

    def observe(self):
        """Per replica what snapshot() tells, and energy by cause and GPU-seconds with those of iterations under way."""
        rows = []
        energy_j, gpu_s = self.energy_j.copy(), self.gpu_s
        for pod in self.pods:
            if pod.state == ReplicaState.GONE:
                rows.append((0,) * 10)
                continue
            engine = pod.engine
            decoding = [request for request in engine.running if request.decodes]
            prefilling = [request for request in engine.running if not request.decodes]
            scheduled = dict(pod.iteration.chunks) if pod.iteration else {}
            queued = sum(r.input_tokens + r.generated_tokens for r in engine.waiting)
            queued += sum(r.prompt_tokens - r.kv_tokens - scheduled.get(r, 0) for r in prefilling)
            context = sum(r.input_tokens + r.generated_tokens for r in decoding)
            counts = (len(engine.running), len(engine.waiting), len(decoding), context, queued)
            rows.append((pod.state, pod.clock_at(self.now_s), *counts, engine.kv_usage, not pod.closed, pod.arrived))
            if pod.iteration:
                passed_s = self.now_s - pod.settled_s
                gpus = engine.models.tensor_parallel
                energy_j[Cause.DECODE] += gpus * pod.iteration.power_w * passed_s * self._decode_share(pod)
                energy_j[Cause.PREFILL] += gpus * pod.iteration.power_w * passed_s * (1 - self._decode_share(pod))
                gpu_s += gpus * passed_s
        return np.array(rows), energy_j, gpu_s

    def _run(self, time_s, *, inclusive):
        while self._step(time_s, inclusive=inclusive):
            pass
        self.now_s = time_s

    def _step(self, limit_s, *, inclusive):
        """The next end of an iteration or start-up, if it lies within the limit."""
        pod = min(self.pods, key=lambda pod: pod.ends_s, default=None)
        end_s = pod.ends_s if pod else np.inf
        if self.ready and self.ready[0][0] <= min(end_s, limit_s):
            self.now_s, replica = heapq.heappop(self.ready)
            starting = self.pods[replica]
            if starting.state == ReplicaState.STARTING:
                self._idle(starting, self.now_s)
                starting.state = ReplicaState.SERVING
                self._place_waiting()
            return True
        if end_s > limit_s or (end_s == limit_s and not inclusive) or end_s == np.inf:
            return False
        self.now_s = end_s
        self._finish_iteration(pod)
        self._begin(pod)
        return True

    def _arrive(self, time_s, input_tokens, output_tokens):
        length_class = int(self.classes.of(np.array([input_tokens]), np.array([output_tokens]))[0])
        self.rows.append((time_s, input_tokens, output_tokens, length_class))
        self.ttft_s.append(np.nan)
        self.end_s.append(np.nan)
        number = len(self.rows) - 1
        predicted = (
            [length_class] if self.predictor is None else self.predictor.predicted(number, np.array([length_class]))
        )
        self.predicted.append(int(predicted[0]))
        if not self._place(number):
            self.queue.append(number)

    def _place_waiting(self):
        self.queue = [number for number in self.queue if not self._place(number)]

    def _place(self, number):
        arrival_s, input_tokens, output_tokens, _ = self.rows[number]
        request = EngineRequest(
            str(number), arrival_s, input_tokens, output_tokens, arrival_s + self.objectives.ttft_s(input_tokens)
        )
        serving = self._serving(request)
        if not serving:
            return False
        fitting = self._fitting(serving, request)
        if not fitting:
            self.rejected += 1
            return True
        pool = None if self.shares is None else self._take_turn(self.predicted[number])
        self._give(min(fitting, key=lambda pod: (pod.pool != pool, pod.closed, pod.outstanding)), request)
        return True

    def _serving(self, request):
        predicted = self.predicted[int(request.request_id)]
        return [pod for pod in self.pods if pod.state == ReplicaState.SERVING and self.eligible[pod.pool, predicted]]

    def _fitting(self, pods, request):
        tokens = request.input_tokens + request.output_tokens
        return [pod for pod in pods if -(-tokens // pod.engine.settings.block_tokens) <= pod.engine.settings.kv_blocks]

    def _take_turn(self, length_class):
        """Of the pools that are owed enough of the class the one that is soonest owed a whole request."""
        shares, spare = self.shares[:, length_class], 0.5 / len(self.shares)
        owed = self.owed[:, length_class] + shares
        pools = [pool for pool, share in enumerate(shares) if share > 0 and owed[pool] >= spare]
        pool = min(pools, key=lambda pool: (1 - spare - owed[pool]) / shares[pool])
        owed[pool] -= 1
        self.owed[:, length_class] = owed
        return pool

    def _give(self, pod, request):
        if pod.engine.settings.queue_order is not QueueOrder.FCFS:
            # Deadlines and arrivals that are equal go by number, also when the request comes by way of another replica.
            pod.engine._submissions = int(request.request_id) - 1
        pod.engine.submit(request)
        pod.outstanding += 1
        pod.arrived += 1
        if pod.iteration is None:
            self._idle(pod, self.now_s)
            self._begin(pod)

    def _begin(self, pod):
        clock_mhz = pod.clock_at(self.now_s)
        pod.iteration = pod.engine.start_iteration(self.now_s, clock_mhz)
        pod.ends_s = np.inf
        if pod.iteration is None:
            if pod.state == ReplicaState.DRAINING:
                pod.state = ReplicaState.GONE
            return
        pod.iteration_clock = clock_mhz
        pod.settled_s = self.now_s
        pod.ends_s = self.now_s + pod.iteration.duration_s

    def _finish_iteration(self, pod):
        iteration = pod.iteration
        gpus = pod.engine.models.tensor_parallel
        energy_j = gpus * iteration.power_w * iteration.duration_s
        share = self._decode_share(pod)
        self.energy_j[Cause.DECODE] += share * energy_j
        self.energy_j[Cause.PREFILL] += (1 - share) * energy_j
        self.gpu_s += gpus * iteration.duration_s
        self.busy_gpu_s += gpus * iteration.duration_s
        self.iterations += 1
        pod.settled_s = self.now_s
        for request in iteration.decoding:
            self._class_gaps(request).append(iteration.duration_s)
        for request in iteration.first_tokens:
            if request.generated_tokens:
                self._class_gaps(request).append(self.now_s - request.preempted_s)
            else:
                self.ttft_s[int(request.request_id)] = self.now_s - request.arrival_s
        for request in pod.engine.finish_iteration(iteration):
            self.end_s[int(request.request_id)] = self.now_s
            pod.outstanding -= 1

    def _decode_share(self, pod):
        batch = pod.iteration.batch
        if not batch.decode_requests:
            return 0.0
        alone = Batch(batch.decode_requests, batch.decode_context_tokens, prefill_tokens=0, prefill_pairs=0.0)
        alone_s = pod.engine.models.at_clock(pod.iteration_clock).step_s(alone)
        # Measured step times do not always rise with the tokens: alone may take longer.
        return min(1.0, alone_s / pod.iteration.duration_s)

    def _class_gaps(self, request):
        return self.gaps[self.rows[int(request.request_id)][3]]

    def _idle(self, pod, until_s):
        """Idle energy since the replica was last looked at, clock by clock."""
        if pod.state in (ReplicaState.GONE, ReplicaState.DRAINING) or pod.iteration is not None:
            return
        cause = Cause.STARTUP if pod.state == ReplicaState.STARTING else Cause.IDLE
        gpus = pod.engine.models.tensor_parallel
        times = sorted({pod.settled_s, until_s, *(t for t, _ in pod.clocks if pod.settled_s < t < until_s)})
        for begin_s, end_s in itertools.pairwise(times):
            idle_w = pod.engine.models.at_clock(pod.clock_at(begin_s)).idle_w
            self.energy_j[cause] += gpus * idle_w * (end_s - begin_s)
            self.gpu_s += gpus * (end_s - begin_s)
        pod.settled_s = max(pod.settled_s, until_s)
