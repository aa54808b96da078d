import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.simulation.static_sizing import fewest


@pytest.mark.parametrize("guess", [1, 2, 5, 9, 10, 11, 40])
@pytest.mark.parametrize("true", [1, 2, 9, 10, 33])
def test_the_fewest_that_are_enough_are_found_without_asking_twice(true, guess):
    asked = []

    def enough(count):
        asked.append(count)
        return count >= true

    assert fewest(enough, guess) == true
    assert len(asked) == len(set(asked))


def test_a_load_that_no_fleet_carries_is_refused():
    with pytest.raises(InvalidInputError, match="loosen the objectives"):
        fewest(lambda count: False, 3)
