"""What Deployments ask for against the pods that are there, while one follows the other."""

import pytest

from dynawatt.planning.replica_counts import ShapeCount


@pytest.mark.parametrize(
    ("found", "serving", "coming", "stuck", "leaving", "unplaced"),
    [
        ({"desired": 3, "ready": 3}, 3, 0, 0, 0, 0),
        ({"desired": 5, "ready": 3}, 3, 2, 0, 0, 2),  # just asked for
        ({"desired": 5, "ready": 3, "starting": 1, "unscheduled": 1}, 3, 2, 0, 0, 2),
        ({"desired": 5, "ready": 3, "starting": 1, "overdue": 1, "unscheduled": 1}, 3, 1, 1, 0, 1),
        ({"desired": 2, "ready": 3, "starting": 1, "stopping": 1}, 2, 0, 0, 3, 0),  # just given up
        ({"desired": 4, "ready": 3, "starting": 1, "overdue": 2, "unscheduled": 3}, 3, 1, 0, 2, 1),
        ({"desired": 0, "overdue": 2}, 0, 0, 0, 2, 0),
    ],
)
def test_counts(found, serving, coming, stuck, leaving, unplaced):
    shape = ShapeCount(gpus=2, capacity_rps=1.0, **found)
    got = shape.serving, shape.coming, shape.stuck, shape.leaving, shape.unplaced
    assert got == (serving, coming, stuck, leaving, unplaced)
    assert shape.pods == found["desired"] + leaving
