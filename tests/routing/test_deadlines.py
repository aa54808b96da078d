import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.routing.deadlines import by_deadline, deadline_s
from dynawatt.workload.objectives import LatencyObjectives

OBJECTIVES = LatencyObjectives(((256, 0.25), (1024, 0.4), (None, 2.0)), 0.1)
requests = st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.6, 1.75, 1.9]), st.sampled_from([1, 256, 257, 2000])))


@pytest.mark.parametrize(("input_tokens", "due_s"), [(256, 10.25), (257, 10.4), (1024, 10.4), (1025, 12.0)])
def test_a_first_token_is_due_by_the_objective_of_its_input(input_tokens, due_s):
    assert deadline_s(10.0, input_tokens, OBJECTIVES) == pytest.approx(due_s)


@given(requests)
def test_requests_go_in_the_order_in_which_they_are_due(rows):
    found = by_deadline(np.array([row[0] for row in rows]), np.array([row[1] for row in rows], np.int64), OBJECTIVES)
    plain = sorted(range(len(rows)), key=lambda i: (deadline_s(*rows[i], OBJECTIVES), rows[i][0], i))
    assert found.tolist() == plain


def test_a_short_prompt_overtakes_a_long_one_but_not_for_ever():
    arrival_s, inputs = np.array([0.0, 1.7, 1.8]), np.array([5000, 100, 100])
    assert by_deadline(arrival_s, inputs, OBJECTIVES).tolist() == [1, 0, 2]
