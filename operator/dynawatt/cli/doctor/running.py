"""Checks of what runs: the operator, the switch, the agents and their GPUs."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from dynawatt.adapters.kubernetes.cluster import parse_time
from dynawatt.api.conditions import Condition, ConditionStatus
from dynawatt.api.gpunode import ClockControl, GPUNodeStatus, GPUStatus, Health
from dynawatt.api.remedies import REMEDIES, remedy_for
from dynawatt.api.switch import SWITCH_NAME, switched_off
from dynawatt.cli.doctor.check import About, Check, counted, some
from dynawatt.cli.doctor.facts import Facts, duration_s, looks_stale
from dynawatt.cli.explain.ages import age
from dynawatt.cli.explain.reading import read_leniently

OPERATOR: Final = About("operator")
AGENTS: Final = About("agents")


def check_lease(facts: Facts) -> Check:
    """Whether an operator is at work, and which."""
    name = "Lease"
    if "lease" in facts.unread:
        remedy = f"Run it as somebody who may get leases in {facts.namespace}."
        return OPERATOR.skipped(name, f"could not be read: {facts.unread['lease']}", remedy)
    start, command = "Start the operator; its log says why it stopped:", f"kubectl -n {facts.namespace} get pods"
    if facts.lease is None:
        message = f"there is none in {facts.namespace}: no operator has ever run there"
        return OPERATOR.failed(name, message, "Start the operator, or name its namespace with --namespace.")
    spec = facts.lease.get("spec") or {}
    holder, renewed = spec.get("holderIdentity") or "", spec.get("renewTime")
    if not holder or renewed is None:
        return OPERATOR.failed(name, "nobody holds it: the last operator stopped and gave it back", start, command)
    since = facts.now - parse_time(renewed)
    if not looks_stale(facts.lease, facts.now):
        return OPERATOR.ok(name, f"held by {holder}, renewed {age(since)} ago")
    if facts.lease_moves:
        return OPERATOR.warning(
            name,
            f"{holder} renews it, but its clock and this machine's are {age(abs(since))} apart",
            "Synchronise clocks (NTP). Agents judge by their own, so claims hold.",
        )
    message = f"{holder} has not renewed it for {age(since)}: claims hold for {duration_s(facts.lease):g} s"
    return OPERATOR.failed(name, message, start, command)


def check_switch(facts: Facts) -> Check:
    """Whether dynawatt is switched off for the whole cluster."""
    if "switch" in facts.unread:
        remedy = f"Run it as somebody who may get configmaps in {facts.namespace}."
        return OPERATOR.skipped("switch", f"could not be read: {facts.unread['switch']}", remedy)
    if off := switched_off(facts.switch):
        message = f"dynawatt is off in the whole cluster: {off}"
        command = f"kubectl -n {facts.namespace} delete configmap {SWITCH_NAME}"
        return OPERATOR.warning("switch", message, "To switch it on:", command)
    return OPERATOR.ok("switch", "dynawatt is on")


def check_agents(facts: Facts) -> Iterator[Check]:
    """Whether every GPU node has an agent that does what it should."""
    for what in ("nodes", "gpu_nodes"):
        if what in facts.unread:
            remedy = "Run it as somebody who may list nodes and gpunodes."
            yield AGENTS.skipped("nodes", f"could not be read: {facts.unread[what]}", remedy)
            return
    names = {node["metadata"]["name"] for node in facts.nodes}
    if not names:
        remedy = "Install NVIDIA's device plug-in or GPU operator: they make nodes offer nvidia.com/gpu."
        yield AGENTS.warning("nodes", "no node has the label nvidia.com/gpu.present or offers nvidia.com/gpu", remedy)
        return
    without = names - facts.gpu_nodes.keys()
    if without:
        message = f"{len(without)} of {counted(len(names), 'GPU node')} without an agent's GPUNode: {some(without)}"
        command = f"kubectl -n {facts.namespace} get daemonsets,pods -o wide"
        yield AGENTS.bad("nodes", message, "Run the agent on every GPU node:", command, hurts=without == names)
    else:
        yield AGENTS.ok("nodes", f"every GPU node has a GPUNode ({len(names)})")
    statuses = {
        name: read_leniently(GPUNodeStatus, facts.gpu_nodes[name].get("status") or {})[0] or GPUNodeStatus()
        for name in sorted(names & facts.gpu_nodes.keys())
    }
    if statuses:
        yield from _conditions(statuses)
        yield from _gpus(statuses)


def _conditions(statuses: dict[str, GPUNodeStatus]) -> Iterator[Check]:
    """Conditions that call for something, once for all nodes that have them."""
    nodes: dict[tuple[str, str], list[tuple[str, Condition]]] = defaultdict(list)
    silent = [name for name, status in statuses.items() if not status.conditions]
    for name, status in statuses.items():
        for condition in status.conditions:
            if condition.status is not ConditionStatus.TRUE or condition.reason in _CALL_FOR_SOMETHING:
                nodes[condition.type, condition.reason].append((name, condition))
    for (type_, reason), found in sorted(nodes.items()):
        first = found[0][1]
        where = f"{some(name for name, _ in found)}: {reason}: {first.message}"
        message = where if first.status is ConditionStatus.TRUE else f"not {type_} on {where}"
        yield AGENTS.warning(type_, message, remedy_for(reason))
    if silent:
        remedy = "See the log of the agent there: it writes its GPUNode at its first cycle."
        yield AGENTS.warning("conditions", f"no agent has reported yet on {some(silent)}", remedy)
    if not nodes and not silent:
        yield AGENTS.ok("conditions", "every agent follows its claims, and all GPUs are healthy")


_CALL_FOR_SOMETHING: Final = frozenset(reason.value for reason in REMEDIES)


def _gpus(statuses: dict[str, GPUNodeStatus]) -> Iterator[Check]:
    gpus = [(name, gpu) for name, status in statuses.items() for gpu in status.gpus]
    stuck = [(name, gpu) for name, gpu in gpus if gpu.clock_control is ClockControl.UNSUPPORTED]
    if stuck:
        message = f"{len(stuck)} of {counted(len(gpus), 'GPU')} do not let their clock be set, on {_nodes(stuck)}"
        yield AGENTS.warning("clock control", message, remedy_for("ClockControlUnsupported"))
    elif gpus:
        yield AGENTS.ok("clock control", f"the clock of every GPU can be set ({len(gpus)})")
    alone: dict[str, list[tuple[str, GPUStatus]]] = defaultdict(list)
    for name, gpu in gpus:
        if gpu.energy_only is not None:
            alone[gpu.energy_only.reason].append((name, gpu))
    for reason, found in sorted(alone.items()):
        message = f"{counted(len(found), 'GPU')} left alone, {reason}, on {_nodes(found)}"
        yield AGENTS.warning("clock control", message, remedy_for(reason))
    sick = [(name, gpu) for name, gpu in gpus if gpu.health is Health.UNHEALTHY]
    if sick:
        message = f"{counted(len(sick), 'GPU')} unhealthy on {_nodes(sick)}: {sick[0][1].health_message}"
        yield AGENTS.warning("GPU health", message, remedy_for("GPUUnhealthy"))


def _nodes(gpus: list[tuple[str, GPUStatus]]) -> str:
    return some({name for name, _ in gpus})
