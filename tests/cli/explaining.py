"""A service in order, explained at a set time; tests change what they are about."""

from dynawatt.cli.explain.explanation import explain
from dynawatt.cli.explain.findings import Findings
from dynawatt.cli.explain.page import page
from dynawatt.cli.layout import plain

from .objects import NOW, before, deployment, gpu, gpu_node, lease, pod, service

RESHAPING = {
    "to": "llama-4f2a1c",
    "startedTime": before(minutes=9),
    "message": "2 of 4 replicas are Ready; then one of llama drains",
}


def found(**changes):
    whole = {
        "service": service(),
        "deployments": [deployment()],
        "pods": [pod(), pod("llama-b")],
        "gpu_nodes": {"gpu-1": gpu_node("gpu-1", gpu(), gpu("GPU-2", holder="prod/llama-b"))},
        "lease": lease(),
    }
    return Findings(**(whole | changes))


def told(**changes):
    return explain(found(**changes), now=NOW)


def shown(**changes):
    return page(told(**changes), plain)


def flat(text):
    """Without the breaks of lines."""
    return " ".join(text.split())
