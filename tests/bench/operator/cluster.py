"""A control plane with hundreds of KWOK nodes: the sandbox's own components, without its node simulator and agents."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from dynawatt.api.group import DEFAULT_NAMESPACE
from dynawatt.sandbox import controlplane
from dynawatt.sandbox.addresses import choose_pod_network
from dynawatt.sandbox.api import ApiServer
from dynawatt.sandbox.build import ensure_built
from dynawatt.sandbox.cluster import bring_down
from dynawatt.sandbox.credentials import kubeconfig, new_tokens, signing_key_pem, token_file, write_private
from dynawatt.sandbox.install import OPERATOR_ACCOUNT, dynawatt_documents, gpu_nodes, serves_custom_resources
from dynawatt.sandbox.launching import Component, start, wait_ready, wait_until
from dynawatt.sandbox.options import SandboxOptions
from dynawatt.sandbox.processes import quote_log, send, wait_gone
from dynawatt.sandbox.progress import Silent
from dynawatt.sandbox.state import ProcessRecord, SandboxState, directory_of

GPUS_PER_NODE = 8
SCRAPE_S = 10
OPERATOR_USER = f"system:serviceaccount:{DEFAULT_NAMESPACE}:{OPERATOR_ACCOUNT}"
# Their own limits are for clusters that others use too, and would only make the start of many pods slow.
_CONTROLLER_LIMITS = ["--kube-api-qps=400", "--kube-api-burst=800", "--concurrent-deployment-syncs=10"]
# Real kubelets write the status of their nodes every five minutes; KWOK, as the sandbox has it, twice a minute.
_SANDBOX_HEARTBEAT, _HEARTBEAT = "durationMilliseconds: 20000", "durationMilliseconds: 300000"
_LONG_GRACE = "--node-monitor-grace-period=1h"
_SCHEDULER_LIMITS = {"qps": 400, "burst": 800}
# Clusters with GPUs fill nodes one by one, or replicas of eight GPUs would find no room.
_FILLING_NODES = {
    "schedulerName": "default-scheduler",
    "plugins": {"score": {"disabled": [{"name": "PodTopologySpread"}, {"name": "NodeResourcesBalancedAllocation"}]}},
    "pluginConfig": [
        {
            "name": "NodeResourcesFit",
            "args": {
                "scoringStrategy": {"type": "MostAllocated", "resources": [{"name": "nvidia.com/gpu", "weight": 1}]}
            },
        }
    ],
}
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "users": [OPERATOR_USER], "verbs": ["create", "update", "patch", "delete"]},
        {"level": "None"},
    ],
}


class ScaleCluster:
    """Starts with ``up``, ends with ``down``; every method may raise OperationError."""

    def __init__(self, name: str, nodes: int) -> None:
        self.nodes = nodes
        directory = directory_of(name)
        directory.mkdir(parents=True)
        options = SandboxOptions(name=name, nodes=1, gpus_per_node=GPUS_PER_NODE, startup_s=1, dynawatt=False)
        self.state = SandboxState(directory=directory, options=options, pod_network=choose_pod_network(set()))
        self.state.logs.mkdir()
        self.audit_log = directory / "audit.jsonl"

    def up(self) -> None:
        """Control plane, KWOK, nodes, identities and rights."""
        binaries, state = ensure_built(Silent()), self.state
        pki = controlplane.Pki(state.directory / "pki")
        tokens = new_tokens()
        write_private(pki.tokens, token_file(tokens))
        write_private(pki.signing_key, signing_key_pem())
        policy = state.directory / "audit.yaml"
        policy.write_text(json.dumps(_AUDIT_POLICY), encoding="utf-8")
        self.start(controlplane.etcd(binaries["etcd"], state))
        server = controlplane.kube_apiserver(binaries["kube-apiserver"], pki=pki, etcd_url=state.processes["etcd"].url)
        audit = [f"--audit-policy-file={policy}", f"--audit-log-path={self.audit_log}", "--audit-log-mode=blocking"]
        self.start(_with(server, audit))
        for component, token in tokens.items():
            path = state.admin_kubeconfig if component == "admin" else self._kubeconfig_of(component)
            self._write_kubeconfig(path, user=component, token=token)
        manager = controlplane.kube_controller_manager(
            binaries["kube-controller-manager"], pki=pki, kubeconfig=self._kubeconfig_of("kube-controller-manager")
        )
        scheduler_config = state.directory / "kube-scheduler.yaml"
        scheduler = controlplane.kube_scheduler(
            binaries["kube-scheduler"], config=scheduler_config, kubeconfig=self._kubeconfig_of("kube-scheduler")
        )
        content = json.loads(scheduler_config.read_text(encoding="utf-8"))
        content["clientConnection"] |= _SCHEDULER_LIMITS
        content["profiles"] = [_FILLING_NODES]
        scheduler_config.write_text(json.dumps(content), encoding="utf-8")
        kwok = controlplane.kwok(
            binaries["kwok"],
            stages=state.directory / "kwok.yaml",
            kubeconfig=self._kubeconfig_of("kwok"),
            state=state,
        )
        stages = state.directory / "kwok.yaml"
        text = stages.read_text(encoding="utf-8")
        assert _SANDBOX_HEARTBEAT in text
        stages.write_text(text.replace(_SANDBOX_HEARTBEAT, _HEARTBEAT), encoding="utf-8")
        start(state, [_with(manager, [*_CONTROLLER_LIMITS, _LONG_GRACE]), scheduler, _with(kwok, ["--v=WARN"])])
        with self.api() as api:
            for document in (*dynawatt_documents(), *self._nodes()):
                api.apply(document)
            wait_until(state, "dynawatt's resource types are served", lambda: serves_custom_resources(api))
            wait_until(state, "every node offers its GPUs", lambda: self._ready_nodes(api) == self.nodes)

    def start_prometheus(self, targets: Sequence[str]) -> str:
        """A Prometheus that scrapes these; its URL."""
        binary, directory = ensure_built(Silent())["prometheus"], self.state.directory
        config = directory / "prometheus.yaml"
        scraped = {"job_name": "vllm", "honor_labels": True, "static_configs": [{"targets": list(targets)}]}
        times = {"scrape_interval": f"{SCRAPE_S}s", "scrape_timeout": f"{SCRAPE_S}s"}
        config.write_text(json.dumps({"global": times, "scrape_configs": [scraped]}), encoding="utf-8")

        def command(port: int) -> list[str]:
            return [
                str(binary),
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ]

        return self.start(Component("prometheus", command, health="/-/ready")).url

    def start_exporter(self) -> ProcessRecord:
        """What plays the metrics pages of all pods."""
        script = Path(__file__).with_name("exporter.py")

        def command(port: int) -> list[str]:
            kubeconfig = self.state.admin_kubeconfig
            return [sys.executable, "-P", "-u", str(script), f"--kubeconfig={kubeconfig}", f"--port={port}"]

        return self.start(Component("exporter", command, health="/healthz"))

    def start_operator(self, prometheus_url: str, *options: str, samples: Path | None = None) -> ProcessRecord:
        """The operator with its own rights, its own options, and a new token."""
        with self.api() as api:
            token = api.service_account_token(namespace=DEFAULT_NAMESPACE, name=OPERATOR_ACCOUNT)
        path = self._kubeconfig_of("operator")
        self._write_kubeconfig(path, user=OPERATOR_ACCOUNT, token=token)
        program = ["-m", "dynawatt"] if samples is None else [str(Path(__file__).with_name("sampler.py"))]
        # As a container that its pod starts again, which goes on with the Lease of the one before.
        environment = {"POD_NAME": "dynawatt-operator-0"} | (
            {} if samples is None else {"DYNAWATT_SAMPLES": str(samples)}
        )

        def command(port: int) -> list[str]:
            given = [f"--kubeconfig={path}", f"--prometheus-url={prometheus_url}", f"--metrics-port={port}", *options]
            return [sys.executable, "-P", "-u", *program, "operator", *given]

        return self.start(Component("operator", command, health="/healthz", environment=environment))

    def stop_operator(self, number: int) -> None:
        """Signal it, and wait until it has ended."""
        record = self.state.processes.pop("operator")
        send(record.identity, number)
        if wait_gone([record.identity], timeout_s=30):
            raise AssertionError(f"the operator did not end{quote_log(record.log)}")

    def start(self, component: Component) -> ProcessRecord:
        """Start a component and wait until it answers."""
        start(self.state, [component])
        wait_ready(self.state, [component])
        return self.state.processes[component.name]

    def api(self) -> ApiServer:
        """The API server, as its administrator."""
        return ApiServer(kubeconfig=self.state.admin_kubeconfig)

    def writes(self, since_s: float, until_s: float) -> list[dict[str, str]]:
        """What the API server recorded of the operator's writes in a span of Unix time, in their order."""
        found = []
        for line in self.audit_log.read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            at_s = datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp()
            if since_s <= at_s < until_s:
                what = event["objectRef"]
                resource = "/".join(filter(None, [what["resource"], what.get("subresource")]))
                found.append(
                    {
                        "at_s": at_s,
                        "verb": event["verb"],
                        "resource": resource,
                        "name": f"{what.get('namespace', '')}/{what.get('name', '')}",
                        "code": event["responseStatus"]["code"],
                    }
                )
        return found

    def down(self) -> None:
        """End every process and delete every file."""
        bring_down(self.state.options.name)

    def _nodes(self) -> list[dict[str, object]]:
        [node] = gpu_nodes(self.state.options)
        labels = node["metadata"]["labels"]
        names = [f"gpu-node-{number}" for number in range(self.nodes)]
        return [
            {**node, "metadata": {"name": name, "labels": {**labels, "kubernetes.io/hostname": name}}} for name in names
        ]

    @staticmethod
    def _ready_nodes(api: ApiServer) -> int:
        nodes = (api.get("/api/v1/nodes") or {}).get("items", [])
        return sum("nvidia.com/gpu" in node["status"].get("allocatable", {}) for node in nodes)

    def _kubeconfig_of(self, component: str) -> Path:
        return self.state.kubeconfigs / f"{component}.yaml"

    def _write_kubeconfig(self, path: Path, *, user: str, token: str) -> None:
        certificate = controlplane.Pki(self.state.directory / "pki").certificate.read_bytes()
        server = self.state.processes["kube-apiserver"].url
        write_private(path, kubeconfig(server=server, certificate=certificate, user=user, token=token))


def _with(component: Component, options: Sequence[str]) -> Component:
    command: Callable[[int], Sequence[str]] = component.command
    return replace(component, command=lambda port: [*command(port), *options])
