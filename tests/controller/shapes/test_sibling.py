import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.adapters.vllm_args import vllm_settings
from dynawatt.api.group import SERVICE_ANNOTATION, SHAPE_LABEL
from dynawatt.controller.shapes.probes import startup_budget_s
from dynawatt.controller.shapes.selectors import selects
from dynawatt.controller.shapes.shape import SHAPE_ANNOTATION, Shape, shape_of
from dynawatt.controller.shapes.sibling import IN_PLACE, Rollout, sibling_of, template_digest
from dynawatt.errors import InvalidInputError

from .manifests import changed, changed_vllm, kserve, one_gpu, pod_spec, production_stack, vllm

SERVICE = "prod/llama-70b"
TP8 = Shape(8)


def sibling(deployment, shape=TP8, **options):
    return sibling_of(deployment, shape, service=SERVICE, **options)


@pytest.mark.parametrize("make", [production_stack, kserve, one_gpu])
def test_the_template_is_left_as_it_was(make):
    deployment = make()
    sibling(deployment, Shape(4, max_num_seqs=64, gpu_product="NVIDIA-H200"), startup_s=900.0)
    assert deployment == make()


def test_metadata_holds_no_trace_of_who_applied_the_template():
    made = sibling(production_stack())
    assert made["metadata"] == {
        "name": f"vllm-llama70b-deployment-vllm-{TP8.digest}",
        "namespace": "prod",
        "labels": {
            "model": "llama70b",
            "dynawatt.dev/shape": TP8.digest,
            "dynawatt.dev/tensor-parallel-size": "8",
        },
        "annotations": {
            "dynawatt.dev/shape": "tensor-parallel-size=8",
            "dynawatt.dev/service": SERVICE,
            "dynawatt.dev/template": "vllm-llama70b-deployment-vllm",
            "dynawatt.dev/template-digest": template_digest(production_stack()),
        },
    }
    assert made.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert shape_of(made) == TP8
    assert (SHAPE_ANNOTATION, SERVICE_ANNOTATION) == ("dynawatt.dev/shape", "dynawatt.dev/service")


def test_an_instance_label_in_the_selector_stays_on_pods_alone():
    template = production_stack()
    instance = {"app.kubernetes.io/instance": "vllm"}
    template["spec"]["selector"]["matchLabels"] |= instance
    made = sibling(template)
    assert instance.items() <= made["spec"]["selector"]["matchLabels"].items()
    assert instance.items() <= made["spec"]["template"]["metadata"]["labels"].items()
    assert not instance.keys() & made["metadata"]["labels"].keys()


def test_pods_keep_all_labels_so_that_the_service_reaches_them():
    template, made = production_stack(), sibling(production_stack())
    before = template["spec"]["template"]["metadata"]
    after = made["spec"]["template"]["metadata"]
    assert before["labels"].items() <= after["labels"].items()
    assert after["labels"].keys() - before["labels"].keys() == {SHAPE_LABEL, "dynawatt.dev/tensor-parallel-size"}
    assert after["annotations"] == before["annotations"]


def test_selectors_of_siblings_match_their_own_pods_only():
    template = production_stack()
    deployments = [template, *(sibling(template, Shape(size)) for size in (1, 2, 8))]
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in deployments]
    matches = [[selects(each["spec"]["selector"], pod) for pod in labels] for each in deployments]
    assert matches[1:] == [[row == column for column in range(4)] for row in range(1, 4)]
    assert matches[0] == [True] * 4  # its selector cannot change: pods are told apart by their owners


@pytest.mark.parametrize("size", [1, 2, 8])
@pytest.mark.parametrize("make", [production_stack, kserve, one_gpu])
def test_vllm_starts_with_the_shape_and_as_many_gpus(make, size):
    made = vllm(sibling(make(), Shape(size, max_num_batched_tokens=4096)))
    settings, before = vllm_settings(made), vllm_settings(vllm(make()))
    assert (settings.tensor_parallel_size, settings.max_num_batched_tokens) == (size, 4096)
    assert (settings.model, settings.shutdown_timeout_s) == (before.model, before.shutdown_timeout_s)
    assert made["resources"]["limits"]["nvidia.com/gpu"] == str(size)
    assert made["resources"].get("requests", {}).get("nvidia.com/gpu", str(size)) == str(size)


def test_flags_follow_whatever_holds_the_arguments():
    in_args, in_command = (
        sibling(production_stack()),
        sibling(
            changed_vllm(
                production_stack(), command=["vllm", "serve", "m", "-tp", "4", "--shutdown-timeout=60"], args=None
            )
        ),
    )
    assert vllm(in_args)["args"][-3:] == ["--shutdown-timeout", "60", "--tensor-parallel-size=8"]
    assert vllm(in_args)["command"] == vllm(production_stack())["command"]
    assert vllm(in_command)["command"][-2:] == ["--shutdown-timeout=60", "--tensor-parallel-size=8"]
    assert "args" not in vllm(in_command)


def amounts(container, kind):
    return [container["resources"][kind].get(name) for name in ("cpu", "memory", "nvidia.com/gpu")]


@pytest.mark.parametrize(
    ("size", "requests", "shared"),
    [
        (8, ["64", "512Gi", "8"], "40Gi"),
        (2, ["16", "128Gi", "2"], "10Gi"),
        (1, ["8", "64Gi", "1"], "5Gi"),
    ],
)
def test_cpu_memory_and_shared_memory_are_in_proportion(size, requests, shared):
    made = sibling(production_stack(), Shape(size))
    assert amounts(vllm(made), "requests") == requests
    assert amounts(vllm(made), "limits") == [None, *requests[1:]]
    assert vllm(made)["resources"]["limits"]["rdma/hca"] == "1"
    assert pod_spec(made)["volumes"][0]["emptyDir"] == {"medium": "Memory", "sizeLimit": shared}
    assert pod_spec(made)["containers"][1] == pod_spec(production_stack())["containers"][1]


def test_small_replicas_keep_what_vllm_needs_at_least():
    resources = {"limits": {"cpu": "16", "memory": "64Gi", "nvidia.com/gpu": "4"}}
    template = changed_vllm(production_stack(), resources=resources)
    assert amounts(vllm(sibling(template, Shape(1))), "limits") == ["6", "16Gi", "1"]
    tiny = changed_vllm(production_stack(), resources={"limits": {"cpu": "2", "memory": "8Gi", "nvidia.com/gpu": "4"}})
    assert amounts(vllm(sibling(tiny, Shape(1))), "limits") == ["2", "8Gi", "1"]
    assert amounts(vllm(sibling(tiny, Shape(8))), "limits") == ["4", "16Gi", "8"]


def test_resources_of_the_whole_pod_too():
    template = changed(production_stack(), resources={"limits": {"cpu": "40", "memory": "300Gi"}})
    assert pod_spec(sibling(template))["resources"] == {"limits": {"cpu": "80", "memory": "600Gi"}}


def test_shared_memory_is_added_where_several_gpus_need_it():
    made = sibling(one_gpu(), Shape(4))
    assert pod_spec(made)["volumes"] == [{"name": "dynawatt-shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}}]
    assert vllm(made)["volumeMounts"] == [{"name": "dynawatt-shm", "mountPath": "/dev/shm"}]
    assert "volumes" not in pod_spec(sibling(one_gpu(), Shape(1, max_num_seqs=8)))
    assert "volumes" not in pod_spec(sibling(changed(one_gpu(), hostIPC=True), Shape(4)))


@pytest.mark.parametrize(
    "source", [{"emptyDir": {"medium": "Memory"}}, {"emptyDir": {"sizeLimit": "1Gi"}}, {"hostPath": {"path": "/shm"}}]
)
def test_shared_memory_of_another_kind_is_left_alone(source):
    template = changed(production_stack(), volumes=[{"name": "shm", **source}])
    assert pod_spec(sibling(template))["volumes"] == [{"name": "shm", **source}]


H100, H200 = "NVIDIA-H100-80GB-HBM3", "NVIDIA-H200"


@pytest.mark.parametrize(
    ("before", "product", "after"),
    [
        (None, None, None),
        (None, H100, {"nvidia.com/gpu.product": H100}),
        ({"pool": "gpu"}, H100, {"pool": "gpu", "nvidia.com/gpu.product": H100}),
        ({"nvidia.com/gpu.product": H100}, H100, {"nvidia.com/gpu.product": H100}),
        ({"nvidia.com/gpu.product": H100}, H200, {"nvidia.com/gpu.product": H100}),
    ],
)
def test_node_selector(before, product, after):
    template = changed(production_stack(), nodeSelector=before)
    assert pod_spec(sibling(template, Shape(8, gpu_product=product))).get("nodeSelector") == after


def test_pods_prefer_nodes_of_their_service():
    own = {"weight": 100, "podAffinityTerm": {"topologyKey": "topology.kubernetes.io/zone"}}
    affinity = {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [own]}, "nodeAffinity": {"a": 1}}
    made = pod_spec(sibling(changed(production_stack(), affinity=affinity)))["affinity"]
    [kept, added] = made["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert (kept, made["nodeAffinity"]) == (own, {"a": 1})
    assert added["weight"] < own["weight"]
    assert added["podAffinityTerm"] == {
        "labelSelector": {"matchLabels": {"model": "llama70b", "environment": "prod"}},
        "topologyKey": "kubernetes.io/hostname",
    }


def test_drain_settings_are_kept():
    made, template = sibling(production_stack()), production_stack()
    assert pod_spec(made)["terminationGracePeriodSeconds"] == 90
    assert vllm(made)["lifecycle"] == vllm(template)["lifecycle"]


@pytest.mark.parametrize(("startup_s", "tries"), [(None, 60), (100.0, 60), (205.0, 60), (210.0, 62), (1000.5, 299)])
def test_a_start_has_three_times_what_was_learnt(startup_s, tries):
    probe = vllm(sibling(production_stack(), startup_s=startup_s))["startupProbe"]
    assert probe == vllm(production_stack())["startupProbe"] | {"failureThreshold": tries}


def test_without_a_startup_probe_the_liveness_probe_waits_for_one():
    assert "startupProbe" not in vllm(sibling(one_gpu(), Shape(4), startup_s=30.0))  # 60 + 3 * 10 s are enough
    made = vllm(sibling(one_gpu(), Shape(4), startup_s=200.0))
    assert made["livenessProbe"] == vllm(one_gpu())["livenessProbe"]
    assert made["startupProbe"] == {
        "httpGet": {"path": "/live", "port": 8000},
        "timeoutSeconds": 5,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 60,
    }


def test_without_either_probe_nothing_ends_a_slow_start():
    assert "startupProbe" not in vllm(sibling(changed_vllm(one_gpu(), livenessProbe=None), Shape(4), startup_s=900.0))


@given(
    st.integers(0, 600),
    st.integers(1, 60),
    st.integers(1, 100),
    st.none() | st.floats(0, 7200),
    st.sampled_from(["startupProbe", "livenessProbe"]),
)
def test_time_to_start_never_shrinks(delay, period, tries, startup_s, kind):
    probe = {"httpGet": {"path": "/health", "port": 8000}}
    probe |= {"initialDelaySeconds": delay, "periodSeconds": period, "failureThreshold": tries}
    template = changed_vllm(one_gpu(), livenessProbe=None, startupProbe=None)
    made = vllm(sibling(changed_vllm(template, **{kind: probe}), Shape(4), startup_s=startup_s))
    assert startup_budget_s(made) >= max(delay + period * tries, 3 * (startup_s or 0))
    assert startup_budget_s(made) <= max(delay + period * tries, math.ceil(3 * (startup_s or 0)) + max(period, 10))


def test_rollout_and_what_else_the_deployment_says():
    template = production_stack()
    template["spec"]["minReadySeconds"] = 5
    spec = sibling(template)["spec"]
    assert (spec["replicas"], spec["minReadySeconds"], spec["revisionHistoryLimit"]) == (0, 5, 10)
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    assert "paused" not in sibling(template | {"spec": template["spec"] | {"paused": True}})["spec"]


@pytest.mark.parametrize(("free", "surge", "unavailable"), [(0, 0, 1), (-1, 0, 1), (1, 1, 0), (7, 1, 0)])
def test_rollout_by_free_capacity(free, surge, unavailable):
    rollout = Rollout.within(free)
    assert rollout == (surge, unavailable)
    assert (rollout == IN_PLACE) == (free <= 0)
    strategy = sibling(production_stack(), rollout=rollout)["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": surge, "maxUnavailable": unavailable}


@pytest.mark.parametrize(
    ("make", "startup_s", "deadline_s"),
    [
        (production_stack, None, 1200),  # its own
        (production_stack, 600.0, 90 + 1805 + 60),
        (kserve, None, 600),
        (kserve, 400.0, 60 + 1200 + 60),
        (one_gpu, None, 600),
    ],
)
def test_progress_deadline_is_beyond_drain_and_start(make, startup_s, deadline_s):
    assert sibling(make(), startup_s=startup_s)["spec"]["progressDeadlineSeconds"] == deadline_s


def test_a_template_without_gpus_is_refused():
    template = changed_vllm(one_gpu(), resources={"limits": {"cpu": "1"}})
    with pytest.raises(InvalidInputError, match="container 'server' asks for no GPUs"):
        sibling(template)


def test_template_digest_is_of_the_pod_template_alone():
    digest = template_digest(production_stack())
    scaled = production_stack()
    scaled["spec"]["replicas"] = 9
    scaled["metadata"] |= {"resourceVersion": "999", "labels": {}}
    del scaled["spec"]["template"]["metadata"]["creationTimestamp"]
    assert template_digest(scaled) == digest
    edits = [changed_vllm(production_stack(), image="vllm/vllm-openai:v0.33.0"), copy.deepcopy(scaled)]
    edits[1]["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = "2026"
    assert len({digest, *map(template_digest, edits)}) == 3
