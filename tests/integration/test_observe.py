import asyncio
import time

import pytest

from dynawatt.adapters.prometheus import Prometheus, open_prometheus
from dynawatt.adapters.prometheus_auth import PrometheusAuth
from dynawatt.adapters.vllm_load.histograms import fraction_within
from dynawatt.adapters.vllm_load.in_prometheus import PrometheusLoadSource
from dynawatt.adapters.vllm_load.scope import Scope, find_scope
from dynawatt.adapters.vllm_load.scraped import ScrapedLoadSource
from dynawatt.adapters.vllm_services import find_service
from dynawatt.ports import MetricsUnavailable

from ..adapters.test_prometheus_auth import OPENSSL, make_authority
from ..adapters.vllm_load.pages import INPUT, OUTPUT
from .scraped_cluster import MIX_S, PASSWORD, RATE_S, Cluster, auth, start_prometheus
from .scraped_pods import LLAMA, OTHERS, SIBLING, add_pods, pods_of

pytestmark = [pytest.mark.integration, pytest.mark.skipif(OPENSSL is None, reason="openssl makes the certificates")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = Cluster()
    add_pods(cluster)
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
