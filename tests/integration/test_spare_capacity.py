import json

import pytest

pytestmark = pytest.mark.integration

WAIT_S = 120.0
GPUS = 8  # of each node


@pytest.fixture
def others(dynawatt_sandbox, dynawatt_kubectl):
    """Pods of somebody else, by node."""
    names = []

    def hold(node, gpus):
        container = {"name": "other", "image": "busybox", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
        spec = {"nodeSelector": {"kubernetes.io/hostname": node}, "containers": [container]}
        names.append(f"other-{node}")
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": names[-1]}, "spec": spec}
        dynawatt_kubectl("apply", "--filename=-", stdin=json.dumps(pod))
        return names[-1]

    yield hold
    dynawatt_kubectl("delete", "pod", "--now", "--ignore-not-found", *names)


def test_half_a_node_on_two_nodes_is_no_node(managed, dynawatt_sandbox, dynawatt_kubectl, until, others):
    service = managed("cramped")
    service.deploy(replicas=1, tensor_parallel=1)
    [pod] = service.pods()
    own = pod["spec"]["nodeName"]
    [other] = set(dynawatt_sandbox.options.node_names()) - {own}
    others(own, GPUS // 2 - 1)
    in_the_way = others(other, GPUS // 2)
    load = service.load(every_s=1.0, output_tokens=200)
    tight = {"interTokenMilliseconds": 5, "timeToFirstToken": [{"milliseconds": 5000}]}  # one GPU is too slow
    service.manage(knobs=["Clock", "Shape"], tensorParallelSizes=[8], slo=tight, replicas={"min": 1, "max": 1})
    message = service.until("Progressing", "False", "NoSpareCapacity")
    assert "1 x tp8" in message
    assert "each needs 8 free GPUs on one node, the freest has 4" in message
    assert ("Warning", "NoSpareCapacity") in service.events()
    assert service.siblings() == {}
    assert service.settled(1)

    dynawatt_kubectl("delete", "pod", "--now", in_the_way)  # and it goes on by itself
    until(service.siblings, within_s=WAIT_S)
    until(lambda: service.replicas() == 0, within_s=WAIT_S)
    [sibling] = service.siblings().values()
    assert sibling["status"]["readyReplicas"] == 1
    service.delete("llmservice")
    until(lambda: service.settled(1), within_s=WAIT_S)
    report = load.stop()
    assert report.succeeded > 10
    assert report.failed == 0
