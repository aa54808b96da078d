import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynawatt.agent.journal import Journal, JournalError
from dynawatt.errors import OperationError

UUIDS = st.frozensets(st.text(max_size=20))
ANYWHERE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path)
    yield journal
    journal.close()


def reopened(directory: Path) -> frozenset[str] | None:
    journal = Journal(directory)
    journal.close()
    return journal.found


def written(directory: Path, uuids: frozenset[str]) -> bytes:
    journal = Journal(directory)
    journal.replace(uuids)
    journal.close()
    return (directory / "clocks.json").read_bytes()


@ANYWHERE
@given(UUIDS)
def test_what_is_written_is_found(tmp_path: Path, uuids: frozenset[str]) -> None:
    written(tmp_path, uuids)
    assert reopened(tmp_path) == uuids


def test_a_missing_file_proves_nothing_and_an_empty_one_does(tmp_path: Path) -> None:
    assert reopened(tmp_path) is None
    written(tmp_path, frozenset())
    assert reopened(tmp_path) == frozenset()


@ANYWHERE
@given(content=st.binary(max_size=200))
def test_garbage_counts_as_everything_and_is_kept_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clocks.json").write_bytes(content)
    assert reopened(tmp_path) is None
    assert (tmp_path / "clocks.damaged.json").read_bytes() == content
    assert not (tmp_path / "clocks.json").exists()


@ANYWHERE
@given(st.data())
def test_a_single_changed_byte_is_never_believed(tmp_path: Path, data: st.DataObject) -> None:
    uuids = frozenset({"GPU-1", "GPU-2"})
    content = bytearray(written(tmp_path, uuids))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    (tmp_path / "clocks.json").write_bytes(content)
    assert reopened(tmp_path) in (None, uuids)  # white space may change


@ANYWHERE
@given(st.integers(0, 200))
def test_a_torn_write_is_never_believed(tmp_path: Path, length: int) -> None:
    whole = written(tmp_path, frozenset({"GPU-1", "GPU-2"}))
    (tmp_path / "clocks.json").write_bytes(whole[:length])
    assert reopened(tmp_path) in (None, frozenset({"GPU-1", "GPU-2"}))


@pytest.mark.parametrize("body", [b"null", b"[]", b"{}", b'{"version": 1, "gpus": 3, "sha256": "x"}', b"[" * 60_000])
def test_json_that_is_no_journal(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "clocks.json").write_bytes(body)
    assert reopened(tmp_path) is None


def on_disk(directory: Path) -> frozenset[str] | None:
    """What the next agent would find."""
    path = directory / "clocks.json"
    copy = directory / "copy"
    copy.mkdir(exist_ok=True)
    (copy / "clocks.json").write_bytes(path.read_bytes() if path.exists() else b"")
    return reopened(copy)


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lets one step of every write fail from now on, or none."""
    really_replace = os.replace
    broken = ""

    def fsync(descriptor: int) -> None:
        if broken == ("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"):
            raise OSError(28, "No space left on device")

    def replace(source: Path, target: Path) -> None:
        if broken == "rename":
            raise OSError(30, "Read-only file system")
        really_replace(source, target)

    def fail(step: str) -> None:
        nonlocal broken
        broken = step

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    return fail


STEPS = ["file", "rename", "directory"]


@pytest.mark.parametrize("step", STEPS)
def test_a_write_that_fails_promises_nothing_new(journal: Journal, fail: Callable[[str], None], step: str) -> None:
    journal.replace({"GPU-1"})
    fail(step)
    for _ in range(2):
        with pytest.raises(JournalError, match=r"No space left on device|Read-only file system"):
            journal.replace({"GPU-1", "GPU-2"})
    assert journal.uuids == {"GPU-1"}
    assert "clocks.json" in journal.problem
    journal.replace({"GPU-1"})  # which it names
    assert journal.problem
    fail("")
    journal.replace({"GPU-1"})
    assert journal.problem == ""


@pytest.mark.parametrize("step", STEPS)
def test_names_that_may_have_been_struck_out_are_written_anew(
    journal: Journal, tmp_path: Path, fail: Callable[[str], None], step: str
) -> None:
    journal.replace({"GPU-1", "GPU-2"})
    fail(step)
    journal.replace({"GPU-1"})  # names one too many now, or not
    assert journal.uuids == {"GPU-1"}
    with pytest.raises(JournalError):
        journal.replace({"GPU-1", "GPU-2"})
    fail("")
    journal.replace({"GPU-1", "GPU-2"})
    assert on_disk(tmp_path) == {"GPU-1", "GPU-2"}


CHANGES = st.lists(st.tuples(st.frozensets(st.sampled_from("abc")), st.sampled_from(["", "", *STEPS])), max_size=12)


@ANYWHERE
@given(changes=CHANGES)
def test_whatever_fails_the_disk_names_all_that_is_promised(
    tmp_path: Path, fail: Callable[[str], None], changes: list[tuple[frozenset[str], str]]
) -> None:
    journal = Journal(tmp_path)
    try:
        for uuids, step in changes:
            fail(step)
            try:
                journal.replace(uuids)
                assert uuids <= journal.uuids
            except JournalError:
                assert journal.problem
            fail("")
            assert journal.uuids <= (on_disk(tmp_path) or frozenset())
    finally:
        journal.close()


def test_what_is_unchanged_is_not_written_again(journal: Journal, fail: Callable[[str], None]) -> None:
    journal.replace({"GPU-1"})
    fail("file")
    journal.replace({"GPU-1"})
    assert journal.problem == ""


def test_two_agents_do_not_share_one(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    with pytest.raises(OperationError, match="is in use by another agent on this node"):
        Journal(tmp_path)
    first.close()
    assert reopened(tmp_path) is None


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OperationError, match=r"cannot be used: .*; give a writable one .* with --journal-dir"):
        Journal(tmp_path / "file" / "journal")
