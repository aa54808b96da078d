from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from dynawatt.simulation.inventory import Inventory
from dynawatt.simulation.policies.pools_steps import fitting, next_step
from dynawatt.simulation.policy import Group

GPUS = (8, 4, 2)
SERVERS = 3


def total(fleet):
    return sum(count * GPUS[group.shape] for group, count in fleet.items())


def held(inventory, fleet):
    """Place a fleet; group by replica id."""
    groups = sorted(fleet.elements())
    servers = inventory.places([GPUS[group.shape] for group in groups])
    if servers is None:
        return None
    for identity, (group, server) in enumerate(zip(groups, servers, strict=True)):
        inventory.hold(identity, server, GPUS[group.shape])
    return dict(enumerate(groups))


def test_all_new_ones_start_before_any_old_one_goes():
    present, wanted = Counter({Group(0, 0): 1}), Counter({Group(1, 1): 2})
    both = next_step(present, wanted, [0, 8], GPUS, lambda _: True)
    assert both == present + wanted
    assert next_step(both, wanted, [0, 0], GPUS, lambda _: False) == wanted


def test_some_start_first_where_not_all_fit():
    present, wanted = Counter({Group(0, 0): 1}), Counter({Group(1, 1): 2})
    assert next_step(present, wanted, [0, 4], GPUS, lambda _: False) == Counter({Group(0, 0): 1, Group(1, 1): 1})


def test_an_old_one_goes_first_only_where_the_others_carry_the_load():
    present, wanted = Counter({Group(0, 0): 2}), Counter({Group(0, 0): 1, Group(1, 1): 2})
    assert next_step(present, wanted, [0, 0], GPUS, lambda _: False) is None
    assert next_step(present, wanted, [0, 0], GPUS, lambda _: True) == Counter({Group(0, 0): 1})


def test_a_large_replica_needs_a_server_rather_than_gpus():
    missing = Counter({Group(0, 0): 1, Group(2, 0): 1})
    assert fitting(missing, [4, 6], GPUS) == Counter({Group(2, 0): 1})


def test_nothing_is_asked_for_where_all_is_as_wanted():
    fleet = Counter({Group(0, 0): 2})
    assert next_step(fleet, fleet.copy(), [8], GPUS, lambda _: True) is None


fleets = st.dictionaries(st.builds(Group, st.integers(0, 2), st.integers(0, 1)), st.integers(1, 3), max_size=4).map(
    Counter
)


@given(fleets, fleets, st.integers(0, 24))
def test_every_step_fits_beside_what_runs_and_drops_only_what_can_be_spared(present, wanted, needed):
    inventory = Inventory(SERVERS)
    replicas = held(inventory, present)
    if replicas is None:
        return
    for _ in range(30):
        fleet = Counter(replicas.values())
        step = next_step(fleet, wanted, inventory.free, GPUS, lambda each: total(each) >= needed)
        if step is None:
            break
        added, dropped = step - fleet, fleet - step
        groups = sorted(added.elements())
        servers = inventory.places([GPUS[group.shape] for group in groups])
        assert servers is not None
        assert not (added and dropped)
        if dropped:
            # Nothing goes before all that is wanted has started, or else where it is not needed.
            assert step == wanted or total(step) >= needed
        for group, server in zip(groups, servers, strict=True):
            identity = max(replicas, default=0) + 1
            inventory.hold(identity, server, GPUS[group.shape])
            replicas[identity] = group
        for group in dropped.elements():
            identity = next(each for each, of in replicas.items() if of == group)
            inventory.release(identity)
            del replicas[identity]
    else:
        raise AssertionError("goes on for ever")


@given(fleets, fleets)
def test_with_a_spare_server_and_no_need_the_wanted_fleet_is_reached(present, wanted):
    inventory = Inventory(60)
    replicas = held(inventory, present)
    fleet = Counter(replicas.values())
    for _ in range(2):
        step = next_step(fleet, wanted, inventory.free, GPUS, lambda _: False)
        fleet = fleet if step is None else step
    assert fleet == wanted
