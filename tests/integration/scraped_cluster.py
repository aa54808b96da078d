"""Pods that tell their load over HTTP, and a real Prometheus that scrapes them."""

import json
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from dynawatt.adapters.prometheus_auth import PrometheusAuth
from dynawatt.adapters.vllm_load.source import LoadQuestion, WatchedPod
from dynawatt.sandbox.addresses import free_ports
from dynawatt.sandbox.build import ensure_built

from ..adapters.vllm_load.pages import Pod

RATE_S, MIX_S = 12, 16
PASSWORD, HASHED = "test", "$2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay"


class Exposition:
    """One pod's server. Its load began long ago, unless it says otherwise."""

    def __init__(self, text):
        """``text`` gives the page at a moment of Unix time."""

        class Handler(BaseHTTPRequestHandler):  # closes each connection, so that a stopped server is gone at once
            def do_GET(self):
                page = text(time.time()).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


class Cluster:
    """Pods, and a Prometheus that scrapes them every second over TLS-protected credentials."""

    def __init__(self):
        self.begun_s = time.time()
        self.targets, self.servers, self.ports = {"vllm": [], "again": []}, {}, {}

    def pod(self, name, text, labels=None, jobs=("vllm",)):
        if isinstance(text, Pod):
            pod, begun_s = text, self.begun_s - 300
            text = lambda now_s: pod.at(now_s - begun_s)  # noqa: E731
        self.servers[name] = Exposition(text)
        self.ports[name] = self.servers[name].port
        for job in jobs:
            self.targets[job].append(
                {
                    "targets": [f"127.0.0.1:{self.ports[name]}"],
                    "labels": {"namespace": "prod", "pod": name} if labels is None else labels,
                }
            )

    def watched(self, name, **more):
        return WatchedPod(name, "127.0.0.1", self.ports[name], **more)

    def question(self, deployment, *names, **shapes):
        shapes = {**({deployment: names} if names else {}), **shapes}
        return LoadQuestion(
            namespace="prod",
            deployment=deployment,
            shapes={
                shape: [each if isinstance(each, WatchedPod) else self.watched(each) for each in pods]
                for shape, pods in shapes.items()
            },
            rate_window_s=RATE_S,
            mix_window_s=MIX_S,
        )


def start_prometheus(cluster, directory):
    drop = {"source_labels": ["drop", "__name__"], "regex": "yes;.*_bucket", "action": "drop"}
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [
            {"job_name": job, "static_configs": targets, "metric_relabel_configs": [drop]}
            for job, targets in cluster.targets.items()
        ],
    }
    web = {
        "tls_server_config": {
            "cert_file": str(cluster.authority / "server.pem"),
            "key_file": str(cluster.authority / "server.key"),
        },
        "basic_auth_users": {"ops": HASHED},
    }
    (directory / "prometheus.yml").write_text(json.dumps(config))
    (directory / "web.yml").write_text(json.dumps(web))
    [port] = free_ports(1)
    cluster.url = f"https://localhost:{port}"
    return subprocess.Popen(
        [
            ensure_built()["prometheus"],
            f"--config.file={directory / 'prometheus.yml'}",
            f"--web.config.file={directory / 'web.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]
    )


def auth(cluster):
    return PrometheusAuth(username="ops", password_file=cluster.password, ca_file=cluster.authority / "ca.pem")
