import math
import re
import time

import pytest
from aiohttp import web

from dynawatt.adapters.pod_energy import pod_energies_j
from dynawatt.adapters.prometheus import Prometheus
from dynawatt.ports import MetricsUnavailable

from .recorded_prometheus import prometheus_over


def answering(values, asked):
    async def answer(request, form):
        asked.extend(form["query"])
        result = [{"metric": {"pod": pod}, "value": [1.0, str(value)]} for pod, value in values.items()]
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": result}})

    return answer


async def test_all_pods_are_asked_for_at_once(prometheus):
    asked = []
    source = await prometheus(answering({"a-1": 5.5, "b": 7.0}, asked))
    found = await pod_energies_j(source, "prod", {"b", "a-1", "c.d"})
    assert found == {"a-1": 5.5, "b": 7.0}
    [query] = asked
    assert query.startswith('max by (pod) (dynawatt_pod_energy_joules_total{namespace="prod",pod=~"')
    pattern = re.search('pod=~"(.*)"', query)[1].replace("\\\\", "\\")
    assert [bool(re.fullmatch(pattern, pod)) for pod in ("a-1", "b", "c.d", "cxd", "a-12")] == [
        True, True, True, False, False
    ]  # fmt: skip


async def test_no_pods_are_no_query(prometheus):
    asked = []
    assert await pod_energies_j(await prometheus(answering({"a": 1.0}, asked)), "prod", []) == {}
    assert asked == []


async def test_what_is_no_number_is_not_known(prometheus):
    source = await prometheus(answering({"a": math.nan, "b": 1.0}, []))
    assert await pod_energies_j(source, "prod", ["a", "b"]) == {"b": 1.0}


async def test_a_prometheus_that_does_not_answer(prometheus, always):
    source = await prometheus(always(200, json={"status": "error", "error": "down"}))
    with pytest.raises(MetricsUnavailable, match="pod_energy_joules"):
        await pod_energies_j(source, "prod", ["a"])


@pytest.mark.integration
async def test_a_real_prometheus_tells_the_pods_of_the_service_alone(tmp_path):
    now_s = int(time.time())
    series = {
        'namespace="prod",pod="llama-0",llmservice="llama",node="n1"': 100.5,
        'namespace="prod",pod="llama-1",llmservice="",node="n2"': 7.0,
        'namespace="prod",pod="llama-10",llmservice="",node="n2"': 9.0,
        'namespace="test",pod="llama-0",llmservice="llama",node="n1"': 5.0,
    }
    name = "dynawatt_pod_energy_joules"
    rows = [
        f"{name}_total{{{labels}}} {value} {now_s - age_s}" for labels, value in series.items() for age_s in (30, 5)
    ]
    (tmp_path / "history.om").write_text("\n".join([f"# TYPE {name} counter", *rows, "# EOF\n"]))
    with prometheus_over(tmp_path / "history.om") as url:
        source = Prometheus(url)
        found = await pod_energies_j(source, "prod", ["llama-0", "llama-1", "gone"])
        await source.close()
    assert found == {"llama-0": 100.5, "llama-1": 7.0}
