"""What steps promise, under any history of loads, plans, failures, kills and stale views."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dynawatt.planning.nodes import all_fit
from dynawatt.planning.step import StepKind
from dynawatt.planning.steps import Attempts, next_step

from .pods import KINDS, STARTUP_TICKS, Pods

NAMES = st.sampled_from(sorted(KINDS))
FLEETS = st.dictionaries(NAMES, st.integers(1, 4), min_size=1, max_size=2)
EPS = 1e-6
BACK_OFF_S = 300.0


class AnyHistory(RuleBasedStateMachine):
    """One service; each tick takes a minute."""

    def __init__(self):
        super().__init__()
        self.now_s = 0.0
        self.needed_rps = 0.0
        self.min_replicas = 1
        self.may_start = self.may_drain = True
        self.attempts = {}

    @initialize(nodes=st.integers(2, 3), fleet=FLEETS, goal=FLEETS, max_gpus=st.none() | st.integers(8, 40),
                spare=st.integers(0, 8))  # fmt: skip
    def begin(self, nodes, fleet, goal, max_gpus, spare):
        self.pods = Pods([8] * nodes, dict.fromkeys(KINDS, 0) | fleet)
        self.goal, self.max_gpus = goal, max_gpus
        self.pass_ticks(STARTUP_TICKS + 1)
        self.pods.free = [min(free, spare) for free in self.pods.free]  # the rest is somebody else's
        self.earlier = self.look()

    # --- The world ---

    @rule(ticks=st.integers(1, 6))
    def pass_ticks(self, ticks):
        for _ in range(ticks):
            self.pods.tick()
            self.now_s += 60.0

    @rule()
    def controllers_catch_up(self):
        self.pods.reconcile()

    @rule(name=NAMES, is_stuck=st.booleans())
    def starts_fail(self, name, is_stuck):
        (self.pods.stuck.add if is_stuck else self.pods.stuck.discard)(name)

    @rule(which=st.integers(0, 30), ticks=st.integers(1, 20))
    def crash(self, which, ticks):
        ready = [pod for pod in self.pods.pods if pod.is_ready]
        if ready:
            ready[which % len(ready)].ready_in = ticks

    @rule(node=st.integers(0, 1), gpus=st.integers(-8, 8))
    def others_move(self, node, gpus):
        others = 8 - self.pods.free[node] - sum(pod.gpus for pod in self.pods.pods if pod.node == node)
        self.pods.free[node] -= max(-others, min(gpus, self.pods.free[node]))

    # --- The user and the planner ---

    @rule(goal=FLEETS)
    def plan(self, goal):
        self.goal = goal

    @rule(needed_rps=st.floats(0, 4) | st.floats(0, 40), min_replicas=st.integers(0, 3))
    def load_changes(self, needed_rps, min_replicas):
        self.needed_rps, self.min_replicas = needed_rps, min_replicas

    @rule(may_start=st.booleans(), may_drain=st.booleans(), budget=st.integers(0, 4), name=NAMES)
    def rules_change(self, may_start, may_drain, budget, name):
        self.may_start, self.may_drain = may_start, may_drain
        self.pods.drainable[name] = budget

    # --- The operator ---

    def look(self):
        return self.pods.shapes(), self.pods.nodes(), list(self.pods.free)

    def barred(self):
        return [name for name, attempts in self.attempts.items() if attempts.bars(self.now_s)]

    def decide(self, shapes, nodes):
        return next_step(
            self.goal,
            shapes,
            nodes=nodes,
            max_gpus=self.max_gpus,
            needed_rps=self.needed_rps,
            min_replicas=self.min_replicas,
            barred=self.barred(),
            may_start=self.may_start,
            may_drain=self.may_drain,
        )

    @rule(killed_before_the_write=st.booleans())
    def operate(self, killed_before_the_write):
        self.earlier = self.look()
        self.act(*self.earlier, killed_before_the_write)

    @rule()
    def operate_on_what_was_there(self):
        """A cache lags; a write to a Deployment that has changed since is refused."""
        self.act(*self.earlier, killed_before_the_write=False)

    def act(self, shapes, nodes, free, killed_before_the_write):
        barred = self.barred()
        found = self.decide(shapes, nodes)
        if found.scale is None:
            return
        name = found.scale.deployment
        self.check(found, shapes, free, barred)
        if found.kind is StepKind.ROLL_BACK:
            assert name not in barred
            self.attempts[name] = self.attempts.get(name, Attempts()).after_failure(self.now_s)
        if not killed_before_the_write and shapes[name].desired == self.pods.desired[name]:
            self.pods.scale(found.scale)

    def check(self, found, shapes, free, barred):
        name, replicas, _ = found.scale
        shape, wanted = shapes[name], self.goal.get(name, 0)
        assert replicas != shape.desired
        ready = {key: min(one.ready, one.desired) for key, one in shapes.items()}
        left = ready | {name: min(shape.ready, replicas)}
        now_rps, left_rps = (sum(KINDS[key][1] * count for key, count in counts.items()) for counts in (ready, left))
        goal_rps = sum(KINDS[key][1] * count for key, count in self.goal.items())
        if found.kind is StepKind.START:
            assert self.may_start
            assert shape.desired < replicas <= wanted
            assert name not in barred or (now_rps < self.needed_rps and ready[name] == sum(ready.values()) > 0)
            starting_rps = sum(one.coming * KINDS[key][1] for key, one in shapes.items())
            if now_rps + starting_rps >= self.needed_rps:
                assert not any(one.coming for key, one in shapes.items() if key != name)
            placed = [KINDS[key][0] for key, one in shapes.items() for _ in range(one.unplaced)]
            new = [shape.gpus] * (replicas - shape.desired)
            assert all_fit(placed + new, free) or not all_fit(placed, free)
            assert all_fit(new, free)
            held = sum(one.gpus * one.pods for one in shapes.values()) + sum(new)
            assert self.max_gpus is None or held <= self.max_gpus
            return
        assert replicas < shape.desired
        if found.kind is not StepKind.DRAIN:
            assert found.kind in (StepKind.DROP, StepKind.ROLL_BACK)
            assert left == ready
            assert (found.kind is StepKind.ROLL_BACK) == (wanted > shape.serving and name not in barred)
            return
        assert self.may_drain
        assert wanted <= replicas
        assert shape.ready - shape.drainable <= replicas
        assert sum(left.values()) >= max(self.min_replicas, 1)
        assert left_rps >= min(now_rps, self.needed_rps) - EPS
        if left_rps < min(now_rps, goal_rps) - EPS:
            # Only to make room for what has none.
            short = [key for key, count in self.goal.items() if count > shapes[key].desired]
            assert short
            assert left_rps >= self.needed_rps - EPS

    @invariant()
    def nothing_is_overbooked(self):
        assert min(self.pods.free) >= 0

    @invariant()
    def asking_twice_gives_the_same_step(self):
        shapes, nodes, _ = self.look()
        turned = dict(reversed(shapes.items()))
        assert self.decide(shapes, nodes) == self.decide(turned, nodes[::-1])

    def teardown(self):
        """Once nothing fails any more and there is room, the plan is carried out."""
        if not hasattr(self, "pods"):
            return
        self.pods.stuck.clear()
        self.pods.drainable.clear()
        self.pods.free += [8] * 10
        self.max_gpus, self.needed_rps, self.min_replicas = None, 0.0, 1
        self.may_start = self.may_drain = True
        for _ in range(300):
            for pod in self.pods.pods:
                pod.ready_in = min(pod.ready_in, 20)
            found = self.decide(*self.look()[:2])
            if found.kind is StepKind.DONE:
                break
            self.operate(killed_before_the_write=False)
            self.pass_ticks(1)
        assert (found.kind, self.pods.counts()) == (StepKind.DONE, self.goal)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
