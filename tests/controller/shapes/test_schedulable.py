"""Which nodes take the pods of a template, as the scheduler's filters decide."""

import pytest

from dynawatt.controller.shapes.schedulable import obstacle, place_of, pod_needs

BATCH = {"key": "pool", "value": "batch", "effect": "NoSchedule"}
EVICTS = {"key": "maintenance", "effect": "NoExecute"}


def node(*taints, ready="True", cordoned=False, name="gpu-1", **labels):
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": list(taints), "unschedulable": cordoned},
        "status": {"conditions": [{"type": "MemoryPressure", "status": "True"}, {"type": "Ready", "status": ready}]},
    }


def why_not(pod_spec, found):
    return obstacle(pod_needs(pod_spec), place_of(found))


def tolerating(**toleration):
    return {"tolerations": [{"key": "other", "operator": "Exists"}, toleration]}


@pytest.mark.parametrize(
    ("taints", "told"),
    [
        ([BATCH], "tainted pool=batch:NoSchedule that the template does not tolerate"),
        ([BATCH, EVICTS], "tainted pool=batch:NoSchedule, maintenance:NoExecute that the template does not tolerate"),
        ([BATCH | {"effect": "PreferNoSchedule"}], ""),
        ([], ""),
    ],
)
def test_taints_that_nothing_tolerates(taints, told):
    assert why_not({}, node(*taints)) == told


@pytest.mark.parametrize(
    ("toleration", "tolerates"),
    [
        ({"key": "pool", "operator": "Equal", "value": "batch", "effect": "NoSchedule"}, True),
        ({"key": "pool", "value": "batch"}, True),  # Equal, of any effect
        ({"key": "pool", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "pool", "value": "online"}, False),
        ({"key": "pool"}, False),
        ({"key": "pool", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "zone", "operator": "Exists"}, False),
        ({"key": "pool", "operator": "Gt", "value": "batch"}, False),  # not known
    ],
)
def test_tolerations(toleration, tolerates):
    assert (why_not(tolerating(**toleration), node(BATCH)) == "") is tolerates


def test_every_taint_has_to_be_tolerated():
    spec = tolerating(key="pool", operator="Exists")
    assert why_not(spec, node(BATCH, EVICTS)) == "tainted maintenance:NoExecute that the template does not tolerate"


def test_who_is_evicted_after_some_seconds_does_not_count_as_one_that_may_run():
    assert why_not(tolerating(key="maintenance", operator="Exists", tolerationSeconds=300), node(EVICTS)) != ""
    assert why_not(tolerating(key="maintenance", operator="Exists"), node(EVICTS)) == ""


@pytest.mark.parametrize("spec", [{}, {"tolerations": [{"operator": "Exists"}]}])
def test_a_cordoned_node_and_one_that_is_not_ready_take_no_pods(spec):
    cordon = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    assert why_not(spec, node(cordon, cordoned=True)) == "cordoned"
    assert why_not(spec, node(ready="False")) == "not Ready"
    assert why_not(spec, node(ready="Unknown", cordoned=True)) == "not Ready"


def test_the_node_selector():
    spec = {"nodeSelector": {"pool": "online", "zone": "a"}}
    assert why_not(spec, node(pool="online", zone="a", more="b")) == ""
    assert why_not(spec, node(zone="a")) == "without pool=online of the template's nodeSelector"
    assert why_not(spec, node()) == "without pool=online, zone=a of the template's nodeSelector"


def requiring(*terms):
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"affinity": {"nodeAffinity": required}}


def labelled(key, operator, *values):
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def named(operator, *values):
    return {"matchFields": [{"key": "metadata.name", "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("terms", "matches"),
    [
        ([labelled("pool", "In", "online", "any")], True),
        ([labelled("pool", "In", "batch")], False),
        ([labelled("none", "In", "online")], False),
        ([labelled("pool", "NotIn", "batch")], True),
        ([labelled("pool", "NotIn", "online")], False),
        ([labelled("none", "NotIn", "online")], True),
        ([labelled("pool", "Exists")], True),
        ([labelled("none", "Exists")], False),
        ([labelled("none", "DoesNotExist")], True),
        ([labelled("pool", "DoesNotExist")], False),
        ([labelled("gpus", "Gt", "7")], True),
        ([labelled("gpus", "Gt", "8")], False),
        ([labelled("gpus", "Lt", "10")], True),
        ([labelled("gpus", "Lt", "8")], False),
        ([labelled("pool", "Gt", "7")], False),  # no number
        ([labelled("none", "Lt", "7")], False),
        ([labelled("gpus", "Gt", "many")], False),
        ([labelled("pool", "Near", "online")], False),
        ([named("In", "gpu-1")], True),
        ([named("In", "gpu-2")], False),
        ([named("NotIn", "gpu-1")], False),
        ([labelled("pool", "Exists") | named("In", "gpu-1")], True),
        ([labelled("pool", "Exists") | named("In", "gpu-2")], False),
        ([labelled("pool", "In", "batch"), labelled("gpus", "Gt", "7")], True),  # one of the terms is enough
        (
            [
                {
                    "matchExpressions": [
                        *labelled("pool", "Exists")["matchExpressions"],
                        *labelled("x", "Exists")["matchExpressions"],
                    ]
                }
            ],
            False,
        ),
        ([{}], False),
        ([], False),
    ],
)
def test_required_node_affinity(terms, matches):
    told = why_not(requiring(*terms), node(pool="online", gpus="8"))
    assert told == ("" if matches else "not matched by the template's required node affinity")


def test_preferences_keep_no_pod_away():
    preferred = [{"weight": 100, "preference": labelled("pool", "In", "batch")}]
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    assert why_not({"affinity": affinity}, node(pool="online")) == ""


def test_a_template_for_one_node_by_name():
    assert why_not({"nodeName": "gpu-1"}, node()) == ""
    assert why_not({"nodeName": "gpu-2"}, node()) == "not gpu-2, which the template names as its node"


def test_equal_templates_have_equal_needs():
    specs = [{"nodeSelector": {"b": "1", "a": "2"}, **requiring(labelled("pool", "Exists"))} for _ in range(2)]
    specs[1]["nodeSelector"] = {"a": "2", "b": "1"}
    assert len({pod_needs(spec) for spec in specs}) == 1
    assert pod_needs(specs[0]) != pod_needs({})
