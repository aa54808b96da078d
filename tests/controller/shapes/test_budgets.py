import pytest

from dynawatt.controller.shapes.budgets import allowance

APP = {"matchLabels": {"app": "llama"}}


def budget(name, allowed, selector=APP, *, generation=1, seen=1):
    status = {"observedGeneration": seen, "disruptionsAllowed": allowed}
    metadata = {"name": name, "generation": generation}
    return {"metadata": metadata, "spec": {"selector": selector}, "status": status}


def pod(name, *, ready=True, **labels):
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {"metadata": {"name": name, "labels": {"app": "llama", **labels}}, "status": {"conditions": conditions}}


PODS = [pod("a"), pod("b", ready=False), pod("c", shape="x"), pod("d", shape="x")]


@pytest.mark.parametrize(
    ("budgets", "count", "blocked_by"),
    [
        ([], 4, ""),
        ([budget("all", 4)], 4, ""),
        ([budget("all", 3)], 4, ""),  # the one that is not Ready does not count
        ([budget("all", 2)], 3, "PodDisruptionBudget 'all' allows 2 disruptions now"),
        ([budget("all", 1)], 2, "'all' allows 1"),
        ([budget("all", 0)], 0, "'all' allows 0"),
        ([budget("everything", 0, {})], 0, "'everything'"),
        ([budget("nothing", 0, None)], 4, ""),
        ([budget("other", 0, {"matchLabels": {"app": "other"}})], 4, ""),
        ([budget("all", 3), budget("sibling", 1, {"matchLabels": {"shape": "x"}})], 3, "'sibling' allows 1"),
        ([budget("unseen", 4, generation=2)], 0, "'unseen' allows 0"),
        ([{"metadata": {"name": "new", "generation": 1}, "spec": {"selector": APP}}], 0, "'new' allows 0"),
    ],
)
def test_how_many_may_stop(budgets, count, blocked_by):
    found = allowance(budgets, PODS)
    assert found.pods == count
    assert blocked_by in found.blocked_by
    assert bool(found.blocked_by) == (count < len(PODS))


def test_nothing_to_stop_is_not_blocked():
    assert allowance([budget("all", 0)], []) == (0, "")
