import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.simulation.inventory import GPUS_PER_SERVER, Inventory, servers_for

SIZES = st.lists(st.sampled_from([1, 2, 4, 8]), max_size=30)


@pytest.mark.parametrize(
    ("replicas", "tensor_parallel", "servers"), [(1, 8, 1), (3, 8, 3), (3, 4, 2), (9, 2, 3), (8, 1, 1), (9, 1, 2)]
)
def test_whole_servers_for_equal_replicas(replicas, tensor_parallel, servers):
    assert servers_for(replicas, tensor_parallel) == servers


def test_a_replica_goes_where_it_leaves_the_fewest_gpus_free():
    inventory = Inventory(3)
    inventory.hold(1, 0, 2)
    inventory.hold(2, 1, 4)
    assert inventory.places([2]) == [1]
    assert inventory.places([4]) == [1]
    assert inventory.places([6]) == [0]
    assert inventory.places([8]) == [2]


def test_replicas_never_span_servers():
    inventory = Inventory(2)
    inventory.hold(1, 0, 4)
    inventory.hold(2, 1, 4)
    assert sum(inventory.free) == 8
    assert inventory.places([8]) is None


def test_the_largest_is_placed_first_whatever_the_order():
    inventory = Inventory(2)
    assert inventory.places([1, 8]) == [1, 0]


def test_released_gpus_can_be_held_again():
    inventory = Inventory(1)
    inventory.hold(7, 0, 8)
    assert inventory.places([1]) is None
    inventory.release(7)
    assert inventory.free == (8,)
    inventory.hold(7, 0, 8)


def test_more_than_is_free_cannot_be_held():
    inventory = Inventory(1)
    inventory.hold(1, 0, 4)
    with pytest.raises(ValueError, match="cannot hold 8 GPUs"):
        inventory.hold(2, 0, 8)


@pytest.mark.parametrize("servers", [0, -1])
def test_an_inventory_needs_a_server(servers):
    with pytest.raises(InvalidInputError, match="at least 1"):
        Inventory(servers)


@given(sizes=SIZES, servers=st.integers(1, 6))
def test_placing_never_overfills_a_server_and_changes_nothing(sizes, servers):
    inventory = Inventory(servers)
    places = inventory.places(sizes)
    assert inventory.free == (GPUS_PER_SERVER,) * servers
    if places is None:
        # Sizes divide a server, so best fit, largest first, wastes nothing: what fits by sum fits.
        assert sum(sizes) > inventory.gpus
        return
    for replica, (server, size) in enumerate(zip(places, sizes, strict=True)):
        inventory.hold(replica, server, size)
    assert sum(inventory.free) == inventory.gpus - sum(sizes)
