import pytest

from dynawatt.controller.target import TargetError, read_target, read_workload

T0, T20, T60, NEXT_DAY = "2026-01-01T00:00:00Z", "2026-01-01T00:00:20Z", "2026-01-01T00:01:00Z", "2026-01-02T00:00:00Z"


def understand(deployment, *pods, container=None):
    return read_target(read_workload(deployment, pods), name="llama", container=container)


def test_pods_by_what_they_do(deployment, pod):
    target = understand(
        deployment(),
        pod("ready", ready=T20),
        pod("loading"),
        pod("pending", node=None, phase="Pending"),
        pod("stopping", ready=T20, deleted=True),
        pod("failed", phase="Failed"),
        pod("done", phase="Succeeded"),
    )
    names = [[pod["metadata"]["name"] for pod in pods] for pods in (target.pods, target.live_pods, target.serving_pods)]
    assert names == [["ready", "loading", "pending", "stopping"], ["ready", "loading"], ["ready"]]


@pytest.mark.parametrize(
    ("ready", "seconds"),
    [
        ([], 300),
        ([None], 300),
        ([T20, T20, T60], 20),
        ([T20, T60], 40),
        ([T20, NEXT_DAY], 20),  # its probe failed for a moment the day after
        ([NEXT_DAY], 300),
    ],
)
def test_startup_time(workload, pod, ready, seconds):
    assert workload(*(pod(str(i), ready=time) for i, time in enumerate(ready))).startup_s(300.0) == seconds


def owner(manager, time, field="f:replicas"):
    return {"manager": manager, "time": time, "fieldsV1": {"f:spec": {field: {}}}}


@pytest.mark.parametrize(
    ("owners", "writer"),
    [
        ([owner("kubectl", T0)], "kubectl"),
        ([owner("kubectl", T0), owner("dynawatt", T20)], "dynawatt"),
        ([owner("keda", T60), owner("dynawatt", T20)], "keda"),
        ([owner("dynawatt", T20), owner("helm", T60, field="f:template")], "dynawatt"),
        ([{"manager": "old", "time": T60}], "somebody"),
        ([], "somebody"),
    ],
)
def test_who_set_the_replicas(workload, owners, writer):
    found = workload()
    found.deployment["metadata"]["managedFields"] = owners
    assert found.replicas_writer == writer


@pytest.mark.parametrize(
    ("args", "grace_s", "problem"),
    [
        ([], 30, "--shutdown-timeout 60"),
        (["--shutdown-timeout=0"], 600, "--shutdown-timeout 60"),
        (["--shutdown-timeout=30"], 30, "at least 45"),
        (["--shutdown-timeout=29"], 30, None),
    ],
)
def test_drain(deployment, args, grace_s, problem):
    found = understand(deployment(args=args, grace_s=grace_s)).drain_problem
    assert found is None if problem is None else problem in found


def test_grace_period_is_30_s_by_default(deployment):
    found = deployment(args=["--shutdown-timeout=30"])
    del found["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert "is 30" in understand(found).drain_problem


@pytest.mark.parametrize(
    ("fields", "container", "reason"),
    [
        ({"image": "nginx"}, None, "NoVllmContainer"),
        ({}, "sidecar", "NoVllmContainer"),
        ({"args": ["--data-parallel-size=2"]}, None, "UnsupportedDeployment"),
        ({"args": ["--pipeline-parallel-size=2"]}, None, "UnsupportedDeployment"),
        ({"args": ["--config=x.yaml"]}, None, "UnsupportedDeployment"),
    ],
)
def test_refusals_name_the_deployment(deployment, fields, container, reason):
    found = understand(deployment(**fields), container=container)
    for ask in (lambda: found.settings, lambda: found.drain_problem, lambda: found.template.startup_budget_s):
        with pytest.raises(TargetError, match="'llama'") as caught:
            ask()
        assert caught.value.reason == reason


def test_what_gives_replicas_back_need_not_be_understood(deployment, pod):
    found = understand(deployment(image="nginx"), pod("a", ready="2026-01-01T00:00:20Z"))
    assert not found.template.is_understood
    assert (found.template.name, found.template.shape) == ("llama", "unknown")
    assert (found.replicas, len(found.serving_pods)) == (2, 1)


def test_no_deployment():
    with pytest.raises(TargetError, match=r"spec\.deploymentRef\.name"):
        read_target(None, name="llama", container=None)
