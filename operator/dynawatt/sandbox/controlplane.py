"""The command lines of Kubernetes' own programs and of KWOK.

Set for a machine with two cores and for data that is thrown away: nothing is
synced to disk, there is one of each and so no leader election, and loops that
nobody needs here are off.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dynawatt.sandbox.launching import Component
from dynawatt.sandbox.state import SandboxState

_MANIFESTS: Final = Path(__file__).parent / "manifests"

# EndpointSlices are missing on purpose: Kubernetes refuses loopback addresses in them.
_CONTROLLERS: Final = (
    "clusterrole-aggregation-controller",
    "daemonset-controller",
    "deployment-controller",
    "disruption-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "node-lifecycle-controller",
    "pod-garbage-collector-controller",
    "replicaset-controller",
    "serviceaccount-controller",
    "statefulset-controller",
    "taint-eviction-controller",
)


@dataclass(frozen=True, slots=True)
class Pki:
    """Files that the API server identifies itself and others with."""

    directory: Path

    @property
    def certificate(self) -> Path:
        """The API server's certificate and its issuer's, made by itself when it starts."""
        return self.directory / "apiserver.crt"

    @property
    def signing_key(self) -> Path:
        """Signs ServiceAccount tokens."""
        return self.directory / "service-accounts.key"

    @property
    def tokens(self) -> Path:
        """The static tokens."""
        return self.directory / "tokens.csv"


def etcd(binary: Path, state: SandboxState) -> Component:
    """The API server's store."""

    def command(port: int) -> list[str]:
        client = f"http://127.0.0.1:{port}"
        peer = "http://127.0.0.1:0"  # it has no peers; any port will do
        return [
            str(binary),
            "--name=sandbox",
            f"--data-dir={state.directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=sandbox={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    return Component("etcd", command, health="/health")


def kube_apiserver(binary: Path, *, pki: Pki, etcd_url: str) -> Component:
    """The API server, with real authorization."""

    def command(port: int) -> list[str]:
        return [
            str(binary),
            f"--etcd-servers={etcd_url}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={pki.directory}",
            f"--token-auth-file={pki.tokens}",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={pki.signing_key}",
            f"--service-account-key-file={pki.signing_key}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--allow-privileged",
            "--endpoint-reconciler-type=none",  # it would refuse the loopback address
            "--enable-priority-and-fairness=false",
            "--etcd-count-metric-poll-period=0",
            "--profiling=false",
        ]

    return Component("kube-apiserver", command, health="/readyz", scheme="https")


def kube_controller_manager(binary: Path, *, pki: Pki, kubeconfig: Path) -> Component:
    """Deployments, replica sets, garbage collection and the like."""
    arguments = [
        str(binary),
        f"--kubeconfig={kubeconfig}",
        f"--service-account-private-key-file={pki.signing_key}",
        f"--controllers={','.join(_CONTROLLERS)}",
        "--leader-elect=false",
        "--secure-port=0",
        "--profiling=false",
    ]
    return Component("kube-controller-manager", lambda _port: arguments)


def kube_scheduler(binary: Path, *, config: Path, kubeconfig: Path) -> Component:
    """Places pods on nodes."""
    content = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "leaderElection": {"leaderElect": False},
        "enableProfiling": False,
    }
    config.write_text(json.dumps(content), encoding="utf-8")
    return Component("kube-scheduler", lambda _port: [str(binary), f"--config={config}", "--secure-port=0"])


def kwok(binary: Path, *, stages: Path, kubeconfig: Path, state: SandboxState) -> Component:
    """Plays the kubelets of all nodes."""
    text = (_MANIFESTS / "stages.yaml").read_text(encoding="utf-8")
    stages.write_text(text.replace("STARTUP_S", str(state.options.startup_s)), encoding="utf-8")
    arguments = [
        str(binary),
        f"--kubeconfig={kubeconfig}",
        f"--config={stages}",
        "--manage-all-nodes=true",
        f"--cidr={state.pod_network}",
        "--node-ip=127.0.0.1",
    ]
    return Component("kwok", lambda _port: arguments)
