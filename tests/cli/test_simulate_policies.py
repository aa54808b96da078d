import pytest

from .simulating import coarse, simulate, simulate_json  # noqa: F401 (a fixture)
from .test_simulate import FLEET, trace  # noqa: F401 (a fixture)

ORDERS = ("fcfs", "priority", "deadline")


@pytest.fixture(scope="module")
def found(trace):  # noqa: F811
    names = [f"clock-only-{order}" for order in ORDERS]
    result = simulate_json("--trace", trace, "--policy", ",".join(["static-deadline", *names]), *FLEET)
    return {policy["name"]: policy for policy in result["policies"]}


@pytest.mark.parametrize("order", ORDERS)
def test_clock_only_is_the_untouched_fleet_with_its_own_queue_order(found, order):
    policy, single = found[f"clock-only-{order}"], found["single-pool"]
    shape, untouched = policy["shapes"][0], single["shapes"][0]
    assert shape["queue_order"] == order
    assert {**shape, "queue_order": "fcfs"} == untouched
    assert policy["servers"] == single["servers"]
    assert policy["energy_idling_j"] < single["energy_idling_j"]
    assert policy["attainment"]["tbt_all"] >= 0.99


def test_static_fleets_of_another_order_have_it(found):
    assert found["static-deadline"]["shapes"][0]["queue_order"] == "deadline"
    assert found["static-deadline"]["attainment"]["ttft_all"] >= found["single-pool"]["attainment"]["ttft_all"]


def test_an_unknown_policy_is_refused_with_near_names():
    with pytest.raises(Exception, match="clock-only-fcfs"):
        simulate("--workload", "azure-2024-conv", "--policy", "clock-only-fcf")
