"""What monitoring meets in clusters, as pods: engines of all kinds, labels of all kinds, and what goes wrong."""

import time

from ..adapters.vllm_load.pages import Pod

FROZEN_S = 90
HASH = "6f7d9c8b5"


def pods_of(deployment, count):
    return [f"{deployment}-{HASH}-{index:05d}" for index in range(count)]


LLAMA, SIBLING = pods_of("llama", 2), pods_of("llama-0a1b2c", 1)
OTHERS = {
    "old": Pod(old=True),
    "both": Pod(both=True),
    "engines": Pod(engines=4),
    "aborts": Pod(aborted=0.5),
    "steady": Pod(),
}


def add_pods(cluster):
    """To a ``scraped_cluster.Cluster``."""
    for name in LLAMA:
        cluster.pod(name, Pod())
    cluster.pod(SIBLING[0], Pod(rate_rps=1.0, ttft_s=0.4))
    for deployment, pod in OTHERS.items():
        cluster.pod(*pods_of(deployment, 1), pod)
    # Names that begin like ours, and a namespace with pods of the same names.
    cluster.pod(pods_of("llama-70b", 1)[0], Pod(rate_rps=100.0))
    cluster.pod("elsewhere", Pod(rate_rps=100.0), {"namespace": "test", "pod": LLAMA[0]})
    federated = {"namespace": "monitoring", "pod": "prometheus-0", "exported_namespace": "prod"}
    for name in pods_of("federated", 2):
        cluster.pod(name, Pod(), federated | {"exported_pod": name})
    for name in pods_of("renamed", 1):
        cluster.pod(name, Pod(), {"kubernetes_namespace": "prod", "kubernetes_pod_name": name})
    for name in pods_of("bare", 2):
        cluster.pod(name, Pod(), {})
    for name in pods_of("twice", 2):
        cluster.pod(name, Pod(), jobs=("vllm", "again"))
    cluster.pod(*pods_of("lost", 1), Pod(), {"namespace": "test", "pod": pods_of("lost", 1)[0]})
    router = "".join(
        f'vllm:num_requests_running{{server="http://127.0.0.1:{cluster.ports[name]}"}} 8\n' for name in LLAMA
    )
    cluster.pod("router-6f7d9c8b5-00000", lambda now_s: router)
    cluster.pod(*pods_of("restarted", 1), restarting(Pod(), time.time() + 10))
    cluster.pod(*pods_of("odd", 1), Pod(running="NaN"))
    cluster.pod(*pods_of("stopped", 1), Pod())
    stamp_ms = int(1000 * (time.time() - FROZEN_S))
    cluster.pod(*pods_of("frozen", 1), lambda now_s: Pod().at(300.0, stamp_ms))
    cluster.pod(*pods_of("dropped", 1), Pod(), {"namespace": "prod", "pod": pods_of("dropped", 1)[0], "drop": "yes"})


def restarting(pod, begun_s):
    """Anew, and idle before, from a moment on."""
    return lambda now_s: pod.at(now_s - (begun_s if now_s > begun_s else begun_s - 300))
