"""Changes of shape that are interrupted: by the death of an operator, or by replicas that do not start."""

import pytest

from .running import Hands, Running

LOAD_RPS = 6.0


@pytest.fixture
def running(monkeypatch):
    """Two replicas on four GPUs each, where two on one GPU carry the load with fewer watts."""
    return Running(monkeypatch)


def reshaped(running):
    return running.replicas() == {"llama": 0, "tp1": 2} and running.reshape is None


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("before", [True, False])
async def test_an_operator_that_dies_at_any_write_is_gone_on_from(running, number, before):
    def check():
        assert running.carried_rps() >= LOAD_RPS
        assert set(running.replicas()) <= {"llama", "tp1"}

    running.check = check
    running.start(Hands(running.cluster, number, before=before))
    await running.run(60, until=lambda: reshaped(running))
    assert running.hands.dies_at is None  # it did die
    assert running.draft.status.adopted.replicas == 2
    made = [write[1:] for write in running.writes("scale", "create")]
    assert len(made) == 2  # nothing was done twice


@pytest.mark.parametrize("ticks", range(3, 15))
async def test_an_operator_that_is_replaced_at_any_tick_is_gone_on_from(running, ticks):
    running.check = lambda: running.carried_rps() >= LOAD_RPS or pytest.fail("too few serve")
    await running.run(ticks)
    running.start()
    await running.run(60, until=lambda: reshaped(running))
    assert len(running.writes("scale", "create")) == 2


async def test_what_is_still_to_be_created_is_made_again_when_the_status_was_lost(running):
    await running.run(30, until=lambda: reshaped(running))
    running.status = {}
    running.start()
    await running.run(10)
    assert running.replicas() == {"llama": 0, "tp1": 2}
    assert running.draft.status.adopted is None  # nothing had to be changed


def out_of_order(running):
    """New pods of one GPU never become Ready."""
    running.clock.stuck = {"tp1"}


async def test_a_shape_that_does_not_start_is_rolled_back_recorded_first_and_tried_again_later(running):
    out_of_order(running)
    await running.run(70, until=lambda: running.reshape and running.reshape.retry_time)
    failed = running.reshape
    assert running.replicas() == {"llama": 2, "tp1": 2}
    assert running.told("Progressing")[:2] == ("False", "ReshapeFailed")
    assert (failed.attempts, (failed.retry_time - failed.started_time).total_seconds()) == (1, 300.0)
    await running.run(1)
    assert running.replicas() == {"llama": 2, "tp1": 0}
    await running.run(20)
    assert running.replicas() == {"llama": 2, "tp1": 0}
    assert running.reshape == failed  # whatever is done meanwhile

    running.clock.stuck = set()
    await running.run(160, until=lambda: running.replicas()["tp1"] > 0)
    assert running.clock.now_s > failed.retry_time.timestamp()
    assert running.reshape.attempts == 1
    await running.run(60, until=lambda: running.reshape is None)
    assert running.replicas() == {"llama": 0, "tp1": 2}


async def test_each_further_failure_is_waited_for_twice_as_long(running):
    out_of_order(running)
    await running.run(70, until=lambda: running.reshape and running.reshape.attempts == 1)
    await running.run(200, until=lambda: running.reshape.attempts == 2)
    failed = running.reshape
    assert (failed.retry_time - failed.started_time).total_seconds() == 600.0


async def test_a_failure_is_on_record_before_anything_is_taken_away(running):
    out_of_order(running)
    await running.run(70, until=lambda: running.reshape and running.reshape.attempts == 1)
    running.status["backOffs"] = []
    running.is_recorded = False
    await running.run(5)
    assert running.replicas()["tp1"] == 2
    running.is_recorded = True
    await running.run(2)
    assert running.replicas()["tp1"] == 0


async def test_an_operator_that_dies_after_a_failure_finds_the_shape_barred(running):
    out_of_order(running)
    await running.run(70, until=lambda: running.reshape and running.reshape.attempts == 1)
    running.start()
    await running.run(20)
    assert running.replicas() == {"llama": 2, "tp1": 0}
    assert running.reshape.attempts == 1
