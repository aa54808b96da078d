import numpy as np
import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.workload.objectives import LatencyObjectives

OBJECTIVES = LatencyObjectives(((256, 0.25), (1024, 0.4), (None, 2.0)), 0.1)


def test_objective_of_an_input_length():
    lengths = np.array([1, 256, 257, 1024, 1025, 900_000])
    expected = [0.25, 0.25, 0.4, 0.4, 2.0, 2.0]
    assert OBJECTIVES.ttft_s_of(lengths).tolist() == expected
    assert [OBJECTIVES.ttft_s(int(length)) for length in lengths] == expected


@pytest.mark.parametrize(
    ("ttft", "tbt_s", "message"),
    [
        ((), 0.1, "objective"),
        (((256, 0.25),), 0.1, "only the last entry must have none"),
        (((None, 0.25), (None, 2.0)), 0.1, "only the last entry must have none"),
        (((512, 0.2), (256, 0.3), (None, 2.0)), 0.1, "must ascend"),
        (((256, 0.2), (256, 0.3), (None, 2.0)), 0.1, "must ascend"),
        (((None, 0.0),), 0.1, "above 0"),
        (((None, float("nan")),), 0.1, "above 0"),
        (((None, 1.0),), 0.0, "TBT objective 0.0 s: must be above 0"),
    ],
)
def test_impossible_objectives(ttft, tbt_s, message):
    with pytest.raises(InvalidInputError, match=message):
        LatencyObjectives(ttft, tbt_s)
