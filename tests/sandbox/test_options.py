import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.sandbox.options import SandboxOptions


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("nodes", 0, "nodes is 0: use 1 to 64"),
        ("nodes", 65, "nodes is 65"),
        ("gpus_per_node", 0, "gpus-per-node is 0: use 1 to 8"),
        ("gpus_per_node", 3, "gpus-per-node is 3: use a power of two"),
        ("gpus_per_node", 16, "gpus-per-node is 16: use 1 to 8"),
        ("gpu", "a100", "gpu 'a100' is unknown: choose one of h100-sxm"),
        ("startup_s", -1, "startup-s is -1"),
        ("lease_duration_s", 0.5, "lease-duration-s is 0.5"),
        ("plan_interval_s", float("nan"), "plan-interval-s is nan"),
        ("name", "", "sandbox name ''"),
        ("name", "../x", "sandbox name '../x'"),
        ("name", "Upper", "sandbox name 'Upper'"),
        ("name", "a" * 41, "up to 40"),
        ("name", "ends-", "sandbox name 'ends-'"),
        ("name", "new\n", "sandbox name"),
    ],
)
def test_nonsense_is_refused_with_field_value_and_remedy(field, value, message):
    with pytest.raises(InvalidInputError) as refused:
        SandboxOptions(**{field: value})
    assert message in str(refused.value)


def test_a_bare_sandbox_runs_nothing_of_dynawatt():
    with pytest.raises(InvalidInputError, match="bare and dynawatt exclude each other"):
        SandboxOptions(bare=True)
    assert SandboxOptions(bare=True, dynawatt=False).bare


@pytest.mark.parametrize("name", ["a", "default", "test-1", "a" * 40])
def test_names(name):
    assert SandboxOptions(name=name).name == name


def test_differences_name_each_option_with_both_values():
    running = SandboxOptions(nodes=4, dynawatt=True)
    asked = SandboxOptions(nodes=2, dynawatt=False)
    assert running.differences(asked) == ["nodes is 4, not 2", "dynawatt is on, not off"]
    assert running.differences(running) == []


def test_node_names():
    assert SandboxOptions(nodes=2).node_names() == ["gpu-node-0", "gpu-node-1"]


@pytest.mark.parametrize(("plan_interval_s", "time_lapse"), [(10.0, 30.0), (300.0, 1.0), (600.0, 1.0)])
def test_a_plan_interval_stands_for_five_minutes(plan_interval_s, time_lapse):
    assert SandboxOptions(plan_interval_s=plan_interval_s).time_lapse == time_lapse
