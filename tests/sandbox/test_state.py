import pytest

from dynawatt.sandbox.options import SandboxOptions
from dynawatt.sandbox.paths import binaries_root, sandboxes_root
from dynawatt.sandbox.processes import ProcessIdentity
from dynawatt.sandbox.state import (
    ProcessRecord,
    SandboxState,
    directory_of,
    existing_names,
    load_state,
    remove_files,
)


@pytest.fixture
def state(own_folders):
    directory = directory_of("x")
    directory.mkdir(parents=True)
    return SandboxState(
        directory=directory, options=SandboxOptions(name="x", nodes=2, plan_interval_s=7.5), pod_network="127.9.0.0/16"
    )


def test_round_trip(state):
    identity = ProcessIdentity(pid=1, start_ticks=2, boot_id="b")
    for name in ("etcd", "agent-gpu-node-0"):
        log = state.logs / f"{name}.log"
        state.processes[name] = ProcessRecord(name=name, identity=identity, log=log, url="http://127.0.0.1:1")
    state.ready = True
    state.save()
    again = load_state("x")
    assert again == state
    assert list(again.processes) == ["etcd", "agent-gpu-node-0"]


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", "null", '{"options": {"nodes": 0}}', '{"options": {"new": 1}}']
)
def test_what_cannot_be_read_is_no_state(state, content):
    if content is not None:
        (state.directory / "state.json").write_text(content)
    assert load_state("x") is None
    assert existing_names() == ["x"]


def test_removal_takes_every_file_but_leaves_what_links_point_to(state, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("kept")
    (state.directory / "link").symlink_to(tmp_path / "mine")
    (state.directory / "etcd" / "member").mkdir(parents=True)
    state.save()
    remove_files(state.directory)
    assert list(state.directory.iterdir()) == []
    assert (tmp_path / "mine" / "file").read_text() == "kept"


def test_no_sandbox_yet(own_folders):
    assert existing_names() == []


@pytest.mark.parametrize("value", ["", "relative/path", None])
def test_only_absolute_xdg_paths_count(monkeypatch, tmp_path, value):
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("XDG_CACHE_HOME", "XDG_STATE_HOME"):
        if value is None:
            monkeypatch.delenv(variable, raising=False)
        else:
            monkeypatch.setenv(variable, value)
    assert binaries_root() == tmp_path / ".cache/dynawatt/bin"
    assert sandboxes_root() == tmp_path / ".local/state/dynawatt/sandboxes"
