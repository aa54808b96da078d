import asyncio
import json
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dynawatt.adapters.prometheus import Prometheus, open_prometheus
from dynawatt.adapters.prometheus_auth import PrometheusAuth
from dynawatt.adapters.vllm_load.histograms import fraction_within
from dynawatt.adapters.vllm_load.in_prometheus import PrometheusLoadSource
from dynawatt.adapters.vllm_load.scope import Scope, find_scope
from dynawatt.adapters.vllm_load.scraped import ScrapedLoadSource
from dynawatt.adapters.vllm_load.source import LoadQuestion, WatchedPod
from dynawatt.adapters.vllm_services import find_service
from dynawatt.ports import MetricsUnavailable
from dynawatt.sandbox.addresses import free_ports
from dynawatt.sandbox.build import ensure_built

from ..adapters.test_prometheus_auth import OPENSSL, make_authority
from ..adapters.vllm_load.pages import INPUT, OUTPUT, Pod

pytestmark = [pytest.mark.integration, pytest.mark.skipif(OPENSSL is None, reason="openssl makes the certificates")]

RATE_S, MIX_S, FROZEN_S = 12, 16, 90
PASSWORD, HASHED = "test", "$2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay"
HASH = "6f7d9c8b5"


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


def restarting(pod, begun_s):
    """Anew, and idle before, from a moment on."""
    return lambda now_s: pod.at(now_s - (begun_s if now_s > begun_s else begun_s - 300))


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


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = Cluster()
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
    directory = tmp_path_factory.mktemp("prometheus")
    cluster.authority = make_authority(directory, "ours")
    cluster.password = directory / "password"
    cluster.password.write_text(PASSWORD)
    process = start_prometheus(cluster, directory)
    try:
        yield cluster
    finally:
        process.terminate()
        process.wait()
        for server in cluster.servers.values():
            server.stop()


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


class Counting:
    """A MetricsSource that remembers what it was asked."""

    def __init__(self, source):
        self._source, self.asked = source, []

    async def query(self, promql):
        self.asked.append(promql)
        return await self._source.query(promql)

    async def query_range(self, promql, start_s, end_s, step_s):
        self.asked.append(promql)
        return await self._source.query_range(promql, start_s, end_s, step_s)

    async def close(self):
        await self._source.close()


@pytest.fixture(scope="module")
def watched_long_enough(cluster, until):
    async def scrapes():
        source = Prometheus(cluster.url, auth=auth(cluster))
        try:
            found = await source.query(f"min(count_over_time(vllm:request_success_total[{MIX_S}s]))")
        except MetricsUnavailable:  # it is not there yet
            return 0.0
        finally:
            await source.close()
        return found[0].value if found else 0.0

    until(lambda: asyncio.run(scrapes()) >= MIX_S - 1, within_s=90)


@pytest.fixture
async def source(cluster, watched_long_enough):
    source = Counting(Prometheus(cluster.url, auth=auth(cluster)))
    yield source
    await source.close()


@pytest.fixture
def loads(source):
    return PrometheusLoadSource(source)


async def test_the_load_of_a_service_and_of_its_shapes(cluster, loads, source):
    question = cluster.question("llama", **{"llama": LLAMA, "llama-0a1b2c": SIBLING})
    found = await loads.observe(question)
    assert found.rate_rps == pytest.approx(9.0, rel=0.1)
    assert found.recent_rps == pytest.approx(9.0, rel=0.1)
    assert found.running == pytest.approx(18.0, rel=0.02)
    assert (found.waiting, found.kv_usage) == (0.0, 0.5)
    assert found.generated_tps == pytest.approx(9 * OUTPUT, rel=0.1)
    assert (found.mix.mean_input_tokens, found.mix.mean_output_tokens) == pytest.approx((INPUT, OUTPUT), rel=0.01)
    assert found.finished_requests == pytest.approx(9.0 * MIX_S, rel=0.15)
    assert 0 <= found.age_s < 5
    ours, sibling = found.shapes["llama"], found.shapes["llama-0a1b2c"]
    assert (ours.pods, sibling.pods) == (2, 1)
    assert (ours.rate_rps, sibling.rate_rps) == pytest.approx((8.0, 1.0), rel=0.1)
    assert (fraction_within(ours.ttft, 0.25), fraction_within(sibling.ttft, 0.25)) == pytest.approx((1, 0), abs=0.01)
    assert fraction_within(found.ttft, 0.25) == pytest.approx(8 / 9, abs=0.01)
    assert fraction_within(found.tbt, 0.05) == pytest.approx(1.0)
    assert len(source.asked) == 3
    await loads.observe(question)
    assert len(source.asked) == 5


@pytest.mark.parametrize("deployment", OTHERS)
async def test_old_names_both_names_engines_and_aborts_change_nothing(cluster, loads, deployment):
    found = await loads.observe(cluster.question(deployment, *pods_of(deployment, 1)))
    assert found.rate_rps == pytest.approx(4.0, rel=0.1)
    assert found.kv_usage == 0.5
    assert fraction_within(found.tbt, 0.05) == pytest.approx(1.0)
    assert fraction_within(found.tbt, 0.025) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("deployment", "pods", "scope"),
    [
        ("llama", 2, Scope("pod", "namespace")),
        ("federated", 2, Scope("exported_pod", "exported_namespace")),
        ("renamed", 1, Scope("kubernetes_pod_name", "kubernetes_namespace")),
        ("bare", 2, Scope("instance", "")),
        ("twice", 2, Scope("pod", "namespace")),
    ],
)
async def test_labels_are_found_out_and_nobody_counts_twice(cluster, loads, source, deployment, pods, scope):
    question = cluster.question(deployment, *pods_of(deployment, pods))
    assert await find_scope(source, question) == scope
    found = await loads.observe(question)
    assert found.rate_rps == pytest.approx(4.0 * pods, rel=0.1)
    assert found.running == pytest.approx(8.0 * pods, rel=0.02)
    assert found.finished_requests == pytest.approx(4.0 * pods * MIX_S, rel=0.15)


async def test_labels_that_changed_are_found_out_anew(cluster, loads, source):
    await loads.observe(cluster.question("llama", *LLAMA))
    assert len(source.asked) == 3
    found = await loads.observe(cluster.question("llama", *pods_of("renamed", 1)))
    assert found.rate_rps == pytest.approx(4.0, rel=0.1)
    assert len(source.asked) == 7


async def test_a_counter_that_began_anew_is_no_drop(cluster, loads):
    found = await loads.observe(cluster.question("restarted", *pods_of("restarted", 1)))
    # What ran when it went down is gone, and for two scrapes nobody can tell what came.
    assert 0.5 * 4.0 < found.rate_rps < 1.1 * 4.0


async def test_a_pod_that_is_gone_counts_until_its_window_is_over(cluster, source):
    now_s = [0.0]
    loads = PrometheusLoadSource(source, clock_s=lambda: now_s[0])
    await loads.observe(cluster.question("llama", *LLAMA))
    now_s[0] = RATE_S - 1.0
    found = await loads.observe(cluster.question("llama", LLAMA[0]))
    assert found.rate_rps == pytest.approx(8.0, rel=0.1)
    now_s[0] = 2.0 * RATE_S
    found = await loads.observe(cluster.question("llama", LLAMA[0]))
    assert found.rate_rps == pytest.approx(4.0, rel=0.1)


@pytest.mark.parametrize(
    ("deployment", "message"),
    [
        ("odd", "vllm:num_requests_running is nan: must be a number"),
        ("frozen", r"num_requests_running of pod frozen-.* is (9\d|1\d\d) s old: must be at most 60 s"),
        ("dropped", "vllm:time_to_first_token_seconds_bucket has no series of Deployment dropped: let no relabelling"),
        ("lost", "of pod lost-.* is labelled with namespace test, not prod: let the scrape configuration set"),
    ],
)
async def test_what_cannot_be_believed_is_refused_with_a_remedy(cluster, loads, deployment, message):
    with pytest.raises(MetricsUnavailable, match=message):
        await loads.observe(cluster.question(deployment, *pods_of(deployment, 1)))


async def test_a_pod_that_is_scraped_no_longer_is_missed(cluster, loads):
    [stopped] = pods_of("stopped", 1)
    assert (await loads.observe(cluster.question("llama", LLAMA[0], stopped))).shapes["llama"].pods == 2
    cluster.servers[stopped].stop()
    await asyncio.sleep(2.5)  # two scrapes
    with pytest.raises(MetricsUnavailable, match=f"no series of pod {stopped} by the label pod: does Prometheus"):
        await loads.observe(cluster.question("llama", LLAMA[0], stopped))
    with pytest.raises(MetricsUnavailable, match=f"no series of pod {stopped}, by none of the labels pod,"):
        await loads.observe(cluster.question("stopped", stopped))
    fresh = cluster.watched(stopped, expected=False)
    found = await loads.observe(cluster.question("llama", LLAMA[0], fresh))
    assert found.shapes["llama"].pods == 1


async def test_the_past_of_all_shapes(cluster, loads):
    question = cluster.question("llama", *LLAMA)
    start_s, counts = await loads.history(question, until_s=time.time(), slot_s=5, slots=4)
    assert start_s % 5 == 0
    # Those of llama-0a1b2c as well, of llama-70b not. The first slots may be older than this Prometheus.
    assert counts[2:] == pytest.approx(9.0 * 5, rel=0.1)


async def test_addresses_tell_no_past(cluster, loads):
    question = cluster.question("bare", *pods_of("bare", 2))
    with pytest.raises(MetricsUnavailable, match="by address alone"):
        await loads.history(question, until_s=time.time(), slot_s=5, slots=4)


async def test_pods_themselves_tell_the_same(cluster, loads):
    question = cluster.question("llama", **{"llama": LLAMA, "llama-0a1b2c": SIBLING})
    scraped = ScrapedLoadSource()
    try:
        with pytest.raises(MetricsUnavailable, match="for the first time"):
            await scraped.observe(question)
        for _ in range(2):
            await asyncio.sleep(1.5)
            direct = await scraped.observe(question)
    finally:
        await scraped.close()
    told = await loads.observe(question)
    assert direct.rate_rps == pytest.approx(told.rate_rps, rel=0.1)
    assert direct.running == pytest.approx(told.running, rel=0.05)  # they look at different moments
    assert direct.generated_tps == pytest.approx(told.generated_tps, rel=0.1)
    assert direct.mix.mean_input_tokens == pytest.approx(told.mix.mean_input_tokens, rel=0.01)
    assert set(direct.shapes) == set(told.shapes)
    assert [bound for bound, _ in direct.ttft] == [bound for bound, _ in told.ttft]


async def test_advice_finds_services_by_the_same_labels(cluster, source):
    found = await find_service(source, window_s=60, namespace="prod", service="federated")
    assert found.selector.startswith('exported_namespace="prod",exported_pod=~"federated-')
    assert (await find_service(source, window_s=60, namespace="prod", service="renamed")).namespace == "prod"
    with pytest.raises(Exception, match="no such service"):
        await find_service(source, window_s=60, namespace="prod", service="router")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"username": None, "password_file": None}, r"refused the credentials \(HTTP 401\)"),
        ({"username": "other"}, r"refused the credentials \(HTTP 401\)"),
        ({"ca_file": None}, "is not trusted"),
    ],
)
async def test_who_is_not_let_in_is_told_so(cluster, change, message):
    given = {"username": "ops", "password_file": cluster.password, "ca_file": cluster.authority / "ca.pem"}
    source = open_prometheus(cluster.url, PrometheusAuth(**{**given, **change}))
    with pytest.raises(MetricsUnavailable, match=message):
        await source.query("up")
    await source.close()
