"""A journal that cannot be read or written."""

import json
import shutil

import pytest

from .ledger import holds, until
from .rig import LOCK

pytestmark = pytest.mark.integration

ADMIN_GPU = 7
RETRY_S = 30.0


@pytest.mark.parametrize(
    "content",
    [
        b'{"version": 1, "gpus": []}',
        *(pytest.param(content, marks=pytest.mark.thorough) for content in (b"", b"\x00\xff" * 100, b"[" * 5000)),
    ],
)
def test_a_damaged_journal(new_rig, trial, content):
    rig = new_rig()
    rig.journal.mkdir()
    (rig.journal / "clocks.json").write_bytes(content)
    rig.lock_by_hand(ADMIN_GPU, 900)
    found = trial("journal unreadable at the start", "all GPUs at default, the file kept aside", 3.0)
    rig.spawn()
    found.until(rig.all_default)
    assert (rig.journal / "clocks.damaged.json").read_bytes() == content
    assert json.loads((rig.journal / "clocks.json").read_text())["gpus"] == []


def test_a_second_agent(new_rig, trial):
    rig = new_rig()
    rig.start()
    rig.place("a", 0, ceiling_mhz=900)
    until(lambda: rig.at(900, 0))
    second = trial("second agent on the same node", "refuses with one line, the first goes on")
    done = rig.run(**rig.options | {"metrics-port": 1})
    assert done.returncode == 1, second
    assert "in use by another agent" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    holds(lambda: rig.at(900, 0), for_s=1.0)


def test_a_journal_directory_that_cannot_be(new_rig, trial):
    rig = new_rig()
    rig.journal.write_text("a file")
    unusable = trial("journal directory is a file", "refuses with one line, no GPU touched")
    done = rig.run(**rig.options | {"metrics-port": 1})
    assert done.returncode == 1, unusable
    assert "--journal-dir" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert rig.driver.calls("nvmlInit") == 0


def fill_the_disk(rig):
    rig.agent.limit_file_size(0)


def replace_by_a_directory(rig):
    (rig.journal / "clocks.partial").mkdir()


def remove_the_directory(rig):
    shutil.rmtree(rig.journal)


@pytest.mark.parametrize(
    "spoil",
    [
        fill_the_disk,
        pytest.param(replace_by_a_directory, marks=pytest.mark.thorough),
        pytest.param(remove_the_directory, marks=pytest.mark.thorough),
    ],
)
def test_a_journal_that_cannot_be_written(new_rig, trial, spoil):
    rig = new_rig()
    rig.start()
    rig.place("a", 0, 1, ceiling_mhz=900)
    until(lambda: rig.at(900, 0, 1))
    spoil(rig)
    fault = f"journal cannot be written: {spoil.__name__.replace('_', ' ')}"
    kept = trial(fault, "what is locked follows its claim", 3.0)
    rig.reclaim("a", 1200)
    kept.begin()
    kept.until(lambda: rig.at(1200, 0, 1))
    rig.place("b", 2, 3, ceiling_mhz=900)
    told = trial(fault, "nothing more is locked, GPUNode says JournalUnwritable", 3.0)
    told.until(lambda: rig.cluster.condition()[1] == "JournalUnwritable")
    assert rig.agent.metric("dynawatt_agent_journal_failing") == 1
    released = trial(fault, "what loses its pod is at default", 2.0)
    rig.remove("a")
    released.begin()
    released.until(rig.all_default)
    holds(rig.all_default, for_s=1.0)
    assert rig.driver.calls(LOCK, rig.uuids[2]) == rig.driver.calls(LOCK, rig.uuids[3]) == 0
    ended = trial(fault, "SIGTERM ends it with exit code 0", 2.0)
    rig.agent.terminate()
    ended.begin()
    ended.until(rig.agent.has_ended)


@pytest.mark.thorough
def test_a_disk_that_has_room_again(new_rig, trial):
    rig = new_rig()
    rig.start()
    fill_the_disk(rig)
    rig.place("a", 0, 1, ceiling_mhz=900)
    until(lambda: rig.agent.metric("dynawatt_agent_journal_failing") == 1)
    rig.agent.limit_file_size(10**9)
    again = trial("journal can be written again", "tried again, governed", RETRY_S + 3.0)
    again.until(lambda: rig.at(900, 0, 1))
    assert rig.agent.metric("dynawatt_agent_journal_failing") == 0
