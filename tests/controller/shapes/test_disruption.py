import pytest

from dynawatt.controller.shapes.disruption import protection_changes

EVICT, DISRUPT, MARK = (
    "cluster-autoscaler.kubernetes.io/safe-to-evict",
    "karpenter.sh/do-not-disrupt",
    "dynawatt.dev/protected",
)
BOTH = {EVICT: "false", DISRUPT: "true", MARK: f"{EVICT} {DISRUPT}"}


@pytest.mark.parametrize(
    ("present", "wanted", "changes"),
    [
        ({}, True, BOTH),
        (BOTH, True, {}),
        (BOTH, False, {EVICT: None, DISRUPT: None, MARK: None}),
        ({}, False, {}),
        ({EVICT: "true"}, True, {DISRUPT: "true", MARK: DISRUPT}),
        ({EVICT: "true", DISRUPT: "true", MARK: DISRUPT}, False, {DISRUPT: None, MARK: None}),
        ({EVICT: "false", DISRUPT: "true"}, True, {}),
        ({EVICT: "false", DISRUPT: "true"}, False, {}),
        ({MARK: "dynawatt.dev/clock-claim"}, False, {MARK: None}),  # edited by somebody
    ],
)
def test_only_what_was_set_here_is_removed(present, wanted, changes):
    pod = {"metadata": {"annotations": present}}
    assert protection_changes(pod, wanted=wanted) == changes
    after = {**present, **changes}
    after = {key: value for key, value in after.items() if value is not None}
    assert protection_changes({"metadata": {"annotations": after}}, wanted=wanted) == {}


def test_a_pod_without_annotations():
    assert protection_changes({"metadata": {}}, wanted=True) == BOTH
