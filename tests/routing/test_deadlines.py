import pytest

from dynawatt.routing.deadlines import deadline_s
from dynawatt.workload.objectives import LatencyObjectives

OBJECTIVES = LatencyObjectives(((256, 0.25), (1024, 0.4), (None, 2.0)), 0.1)


@pytest.mark.parametrize(("input_tokens", "due_s"), [(256, 10.25), (257, 10.4), (1024, 10.4), (1025, 12.0)])
def test_a_first_token_is_due_by_the_objective_of_its_input(input_tokens, due_s):
    assert deadline_s(10.0, input_tokens, OBJECTIVES) == pytest.approx(due_s)
