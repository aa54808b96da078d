"""Where more replicas have room, and what to drain for one."""

import pytest

from dynawatt.planning.replica_counts import ShapeCount
from dynawatt.planning.room import Emptying, NodeRoom, Room

SHAPES = {"tp2": ShapeCount(2, 1.5, desired=6, ready=6), "tp4": ShapeCount(4, 3.5, desired=1, ready=1)}
NODES = [NodeRoom("a", 0, 0, {"tp2": 4}), NodeRoom("b", 0, 0, {"tp2": 2, "tp4": 1})]
ANY = {"tp2": 6, "tp4": 1}


@pytest.mark.parametrize(("gpus", "max_gpus", "fit"), [(8, None, 1), (4, None, 3), (2, 24, 4), (4, 16, 0), (4, 2, 0)])
def test_replicas_that_fit(gpus, max_gpus, fit):
    assert Room(SHAPES, [NodeRoom("a", 8), NodeRoom("b", 6)], max_gpus).replicas(gpus) == fit


def test_the_largest_without_a_node_gets_one_first():
    waiting = {
        "tp2": ShapeCount(2, 1.5, desired=1, starting=1, unscheduled=1),
        "tp4": ShapeCount(4, 3.5, desired=2, starting=2, unscheduled=2),
    }
    room = Room(waiting, [NodeRoom("a", 6), NodeRoom("b", 4)], None)
    assert (room.replicas(2), room.lack(2)) == (0, "each needs 2 free GPUs on one node, the freest has 0")


CLOSED = [
    NodeRoom("a", 4),
    NodeRoom("b", 8, 0, {"tp2": 4}, "cordoned"),
    NodeRoom("c", 8, closed="tainted x:NoSchedule"),
    NodeRoom("d", 8, closed="tainted x:NoSchedule"),
    NodeRoom("e", 4, 4, closed="not Ready"),
]


def test_closed_nodes_are_no_room_and_told_where_they_would_have_been():
    room = Room(SHAPES, CLOSED, None)
    assert (room.replicas(4), room.replicas(8), room.comes(8)) == (1, 0, False)
    assert list(room.emptyings(8, ANY)) == []
    assert room.lack(8) == (
        "each needs 8 free GPUs on one node, the freest has 4; 2 nodes have 8, but are tainted x:NoSchedule; "
        "1 node has 8, but is cordoned"
    )
    assert room.lack(16) == "each needs 16 free GPUs on one node, the freest has 4"


def test_room_comes_with_pods_that_stop_on_the_same_node():
    assert Room(SHAPES, [NodeRoom("a", 4, 4), NodeRoom("b", 4)], None).comes(8)
    assert not Room(SHAPES, [NodeRoom("a", 4), NodeRoom("b", 0, 4)], None).comes(8)
    assert not Room(SHAPES, [NodeRoom("a", 8)], 20).comes(8)
    stopping = {"tp2": ShapeCount(2, 1.5, desired=6, ready=6, stopping=1)}
    assert Room(stopping, [NodeRoom("a", 8)], 14).comes(2)


def test_emptyings_are_on_one_node_and_take_nothing_in_vain():
    assert list(Room(SHAPES, NODES, None).emptyings(4, ANY)) == [
        Emptying({"tp2": 2}, "a"),
        Emptying({"tp4": 1}, "b"),
        Emptying({"tp2": 2}, "b"),
    ]
    assert list(Room(SHAPES, NODES, None).emptyings(8, {"tp2": 6})) == [Emptying({"tp2": 4}, "a")]
    assert list(Room(SHAPES, NODES, None).emptyings(8, {"tp2": 3})) == []


def test_where_only_the_limit_is_in_the_way_any_node_will_do():
    assert list(Room(SHAPES, [*NODES, NodeRoom("c", 8)], 20).emptyings(8, ANY)) == [
        Emptying({"tp4": 1}, None),
        Emptying({"tp2": 2}, None),
    ]
