import time

import pytest
from aiohttp import web

from dynawatt.adapters.agent_cycles import cycle_ages_s
from dynawatt.adapters.prometheus import Prometheus
from dynawatt.ports import MetricsUnavailable

from .recorded_prometheus import prometheus_over

NAME = "dynawatt_agent_last_cycle_timestamp_seconds"


def answering(values, asked):
    async def answer(request, form):
        asked.extend(form["query"])
        result = [{"metric": labels, "value": [1.0, value]} for labels, value in values]
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": result}})

    return answer


async def test_all_agents_are_asked_for_at_once_and_what_is_no_age_of_a_node_is_left_out(prometheus):
    asked = []
    values = [({"node": "a"}, "1.5"), ({"node": "b"}, "NaN"), ({}, "7"), ({"node": "c"}, "4000")]
    assert await cycle_ages_s(await prometheus(answering(values, asked))) == {"a": 1.5, "c": 4000.0}
    assert len(asked) == 1


async def test_a_prometheus_that_does_not_answer(prometheus, always):
    source = await prometheus(always(200, json={"status": "error", "error": "down"}))
    with pytest.raises(MetricsUnavailable, match=NAME):
        await cycle_ages_s(source)


def history(path, now_s, *, scraped_s, cycles):
    """``up`` until so many seconds ago, and of each node the ages of the first and the last cycle that were scraped."""
    up = [f'up{{job="vllm"}} 1 {now_s - age_s}' for age_s in range(900, scraped_s - 1, -15)]
    rows = [
        f'{NAME}{{node="{node}",instance="{instance}"}} {now_s - age_s - 1} {now_s - age_s}'
        for (node, instance), (first_s, last_s) in cycles.items()
        for age_s in range(first_s, last_s - 1, -15)
    ]
    path.write_text("\n".join(["# TYPE up gauge", *up, f"# TYPE {NAME} gauge", *rows, "# EOF\n"]))


async def asked_of(path):
    with prometheus_over(path) as url:
        source = Prometheus(url)
        found = await cycle_ages_s(source)
        await source.close()
    return found


@pytest.mark.integration
async def test_a_real_prometheus_knows_agents_whose_series_ended(tmp_path):
    cycles = {
        ("works", "1"): (900, 0),
        ("gone", "1"): (900, 600),
        ("replaced", "1"): (900, 600),
        ("replaced", "2"): (585, 0),
    }
    history(tmp_path / "history.om", int(time.time()), scraped_s=0, cycles=cycles)
    found = await asked_of(tmp_path / "history.om")
    assert found == {
        "works": pytest.approx(1, abs=1),
        "gone": pytest.approx(601, abs=1),
        "replaced": pytest.approx(1, abs=1),
    }


@pytest.mark.integration
@pytest.mark.parametrize(("scraped_s", "ages_s"), [(240, {"works": 1, "gone": 361}), (600, {})])
async def test_nobody_grows_older_while_nothing_is_scraped(tmp_path, scraped_s, ages_s):
    cycles = {("works", "1"): (900, scraped_s), ("gone", "1"): (900, 600)}
    history(tmp_path / "history.om", int(time.time()), scraped_s=scraped_s, cycles=cycles)
    assert await asked_of(tmp_path / "history.om") == {node: pytest.approx(age, abs=2) for node, age in ages_s.items()}
