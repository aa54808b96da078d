import pytest

from dynawatt.controller.shapes.refusal import RefusalReason
from dynawatt.controller.shapes.refusals import template_refusals
from dynawatt.controller.shapes.shape import Shape
from dynawatt.controller.shapes.sibling import sibling_of

from .manifests import changed, changed_vllm, kserve, one_gpu, pod_spec, production_stack, vllm

SHARED = {"weights": ["ReadWriteMany"]}


def reasons(deployment, claims=SHARED, container=None):
    found = template_refusals(deployment, container=container, volume_claims=claims)
    return {str(refusal.reason): refusal.message for refusal in found}


@pytest.mark.parametrize("deployment", [production_stack(), one_gpu()])
def test_what_can_be_copied_is_not_refused(deployment):
    assert reasons(deployment) == {}


def labelled(**labels):
    template = one_gpu()
    template["spec"]["template"]["metadata"]["labels"] |= labels
    return template


def args(*words, gpus=1):
    resources = {"limits": {"nvidia.com/gpu": str(gpus)}}
    return changed_vllm(one_gpu(), args=["m", "--shutdown-timeout=15", *words], resources=resources)


SCRIPT = "exec vllm serve m --shutdown-timeout 15"
APART = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "llama-8b"}}}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
INIT = {"name": "warm", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "1"}}}


def apart(**fields):
    return changed(one_gpu(), affinity={"podAntiAffinity": {REQUIRED: [APART | fields]}})


@pytest.mark.parametrize(
    ("deployment", "reason", "message"),
    [
        (kserve(), "OwnedByController", "InferenceService 'mixtral' owns the Deployment"),
        (sibling_of(one_gpu(), Shape(2), service="a/b"), "IsSibling", "`deploymentRef` must name your own"),
        (
            changed_vllm(one_gpu(), command=["sh", "-c", SCRIPT], args=None),
            "ArgumentsInShell",
            "as a list under `args`",
        ),
        (
            changed_vllm(one_gpu(), command=["sh", "-c", f"{SCRIPT} $EXTRA"], args=None),
            "ArgumentsInShell",
            "Deployment 'llama-8b': only one plain command",
        ),
        (changed_vllm(one_gpu(), args=["--config", "/c.yaml"]), "UnreadableArguments", "/c.yaml"),
        (changed_vllm(one_gpu(), args=["m", "-tp", "$(TP)"]), "UnreadableArguments", "`--tensor-parallel-size`"),
        (args("-pp", "2", gpus=2), "OtherParallelism", "use tensor parallelism alone"),
        (args("--data-parallel-size=2", gpus=2), "OtherParallelism", "use tensor parallelism alone"),
        (args("--nnodes", "2"), "MultiNode", "--nnodes"),
        (labelled(**{"leaderworkerset.sigs.k8s.io/name": "x"}), "MultiNode", "one pod"),
        (args("--load-format=runai_streamer_sharded"), "WeightsPerSize", "runai_streamer_sharded"),
        (args("-tp", "2"), "GPUCountUnclear", "asks for 1 whole GPUs, but vLLM uses 2"),
        # vLLM's parser knows abbreviations, and ours does not: the GPUs tell.
        (args("--tensor-para=2", gpus=2), "GPUCountUnclear", "asks for 2 whole GPUs, but vLLM uses 1 by its arguments"),
        (args(gpus=4), "GPUCountUnclear", "asks for 4"),
        (changed_vllm(one_gpu(), resources={}), "GPUCountUnclear", "asks for no whole GPUs"),
        (
            changed_vllm(one_gpu(), resources={"limits": {"nvidia.com/mig-3g.40gb": "1"}}),
            "GPUCountUnclear",
            "asks for no whole GPUs",
        ),
        (changed_vllm(one_gpu(), resources={"claims": [{"name": "gpu"}]}), "GPUCountUnclear", "no whole GPUs"),
        (changed(one_gpu(), initContainers=[INIT]), "GPUCountUnclear", "container 'warm' asks for GPUs"),
        (
            changed_vllm(one_gpu(), env=[{"name": "CUDA_VISIBLE_DEVICES", "value": "0"}]),
            "DevicesPinned",
            "remove it from `env`",
        ),
        (changed_vllm(one_gpu(), args=["m"]), "DrainNotConfigured", "--shutdown-timeout 60"),
        (changed(one_gpu(), terminationGracePeriodSeconds=15), "DrainNotConfigured", "at least 30"),
        (
            changed_vllm(one_gpu(), lifecycle={"preStop": {"sleep": {"seconds": 20}}}),
            "DrainNotConfigured",
            "the preStop sleep of 20 s and `--shutdown-timeout 15` end: set it to at least 50",
        ),
        (changed_vllm(one_gpu(), readinessProbe=None), "NoReadinessProbe", "port: 8000"),
        (changed(one_gpu(), hostNetwork=True), "HostPorts", "`hostNetwork`"),
        (
            changed_vllm(one_gpu(), ports=[{"containerPort": 8000}, {"containerPort": 9, "hostPort": 9}]),
            "HostPorts",
            "`hostPort: 9`",
        ),
        (apart(), "KeptApart", "make it preferred"),
        (apart(topologyKey="topology.kubernetes.io/zone"), None, None),
        (apart(labelSelector={"matchLabels": {"app": "other"}}), None, None),
    ],
)
def test_each_refusal_names_what_to_change(deployment, reason, message):
    found = reasons(deployment)
    assert list(found) == ([reason] if reason else [])
    assert message is None or message in found[reason]


@pytest.mark.parametrize(
    ("modes", "reason"),
    [
        (["ReadWriteMany"], None),
        (["ReadOnlyMany"], None),
        (["ReadWriteOnce", "ReadOnlyMany"], None),
        (["ReadWriteOnce"], "VolumeNotShared"),
        (["ReadWriteOncePod"], "VolumeNotShared"),
        ([], "VolumeNotShared"),
        (None, "VolumeUnknown"),
    ],
)
def test_volumes_that_a_second_shape_cannot_mount(modes, reason):
    found = reasons(production_stack(), {} if modes is None else {"weights": modes})
    assert list(found) == ([] if reason is None else [reason])
    assert all("'weights'" in message for message in found.values())


def test_all_reasons_are_given_at_once():
    deployment = changed_vllm(production_stack(), startupProbe=None, args=["-tp", "4"])
    assert list(reasons(deployment, {})) == ["DrainNotConfigured", "NoReadinessProbe", "VolumeUnknown"]


def test_the_container_may_have_to_be_named():
    both = changed(one_gpu(), containers=[vllm(one_gpu()), vllm(one_gpu()) | {"name": "second", "resources": {}}])
    assert list(reasons(both)) == ["UnreadableArguments"]
    assert reasons(both, container="server") == {}
    assert list(reasons(both, container="third")) == ["UnreadableArguments"]
    assert pod_spec(both)["containers"][1]["name"] == "second"


def test_reasons_are_words_for_machines():
    assert all(reason.value.isalpha() and reason.value[0].isupper() for reason in RefusalReason)
