import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dynawatt.agent.journal import Journal
from dynawatt.agent.resetting import reset_all
from dynawatt.cli import agent as command
from dynawatt.cli.main import build_app
from dynawatt.errors import InvalidInputError, OperationError
from dynawatt.ports import ClockMethod, GpuError


def run(*arguments: str) -> None:
    build_app(["agent", *arguments])(["agent", *arguments], standalone_mode=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--node-name=Not_A_Node"], "--node-name 'Not_A_Node': must be a DNS-1123 name"),
        ([], "--node-name is missing: give it, or set NODE_NAME from the pod's spec.nodeName"),
        (["--node-name=n0", "--namespace=a/b"], "--namespace 'a/b': must be a DNS-1123 label"),
        (["--node-name=n0"], "--kubeconfig /does/not/exist: No such file or directory; give"),
    ],
)
def test_bad_options_name_field_value_and_remedy(
    monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.delenv("NODE_NAME", raising=False)
    with pytest.raises(InvalidInputError) as caught:
        run("--kubeconfig=/does/not/exist", *options)
    assert message in str(caught.value)


def test_the_node_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_NAME", "n0")
    with pytest.raises(InvalidInputError, match="--kubeconfig"):
        run("--kubeconfig=/does/not/exist")


@pytest.mark.parametrize(
    ("choice", "method"),
    [
        ("auto", None),
        ("locked", ClockMethod.LOCKED_CLOCKS),
        ("applications", ClockMethod.APPLICATIONS_CLOCKS),
        ("none", ClockMethod.NONE),
    ],
)
def test_every_choice_of_clocks_is_a_method(choice: str, method: ClockMethod | None) -> None:
    assert command.ClockChoice(choice).method is method


def opening(*answers: Any) -> Any:
    """In place of ``open_gpus``: one answer per call."""
    remaining = list(answers)

    def open_gpus(*, clock_method: ClockMethod | None) -> Any:
        assert clock_method is ClockMethod.LOCKED_CLOCKS
        answer = remaining.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return open_gpus


def test_waits_until_the_driver_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_RETRY_S", 0.0)
    monkeypatch.setattr(
        command, "open_gpus", opening(OperationError("not loaded"), OperationError("not loaded"), "node")
    )
    assert command._wait_for_gpus(ClockMethod.LOCKED_CLOCKS, threading.Event()) == "node"


def test_gives_up_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_GPUS_WITHIN_S", 0.0)
    monkeypatch.setattr(command, "open_gpus", opening(OperationError("driver not loaded")))
    with pytest.raises(OperationError, match="driver not loaded"):
        command._wait_for_gpus(ClockMethod.LOCKED_CLOCKS, threading.Event())


def test_told_to_stop_while_waiting() -> None:
    stop = threading.Event()
    stop.set()
    assert command._wait_for_gpus(None, stop) is None


class Gpu:
    """Refuses to be reset as often as it is told to."""

    def __init__(self, uuid: str, refusals: int = 0) -> None:
        self.uuid = uuid
        self.refusals = refusals
        self.resets = 0

    def reset_clocks(self) -> None:
        self.resets += 1
        if self.resets <= self.refusals:
            raise GpuError(f"{self.uuid} does not want to")


class Node(SimpleNamespace):
    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[Gpu]:
    gpus = [Gpu("GPU-0"), Gpu("GPU-1", refusals=1)]
    monkeypatch.setattr(command, "open_gpus", lambda: Node(gpus=gpus, left_out=()))
    monkeypatch.setattr(command, "reset_all", partial(reset_all, sleep=lambda _: None))
    return gpus


def test_reset_all_resets_what_no_journal_names(
    tmp_path: Path, gpus: list[Gpu], capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal(tmp_path)
    journal.replace(())
    journal.close()
    run("reset-all", f"--journal-dir={tmp_path}")
    assert capsys.readouterr().out == "2 of 2 GPUs are at their default clocks\n"
    assert [gpu.resets for gpu in gpus] == [1, 2]


def test_reset_all_names_what_it_could_not(tmp_path: Path, gpus: list[Gpu]) -> None:
    gpus[0].refusals = 99
    with pytest.raises(OperationError, match="not reset: GPU-0; a reboot of the node does it"):
        run("reset-all", f"--journal-dir={tmp_path}")
    assert gpus[1].resets == 2
    journal = Journal(tmp_path)
    assert journal.found == {"GPU-0"}
    journal.close()


def test_reset_all_is_refused_while_an_agent_runs(tmp_path: Path, gpus: list[Gpu]) -> None:
    journal = Journal(tmp_path)
    with pytest.raises(OperationError, match="in use by another agent on this node"):
        run("reset-all", f"--journal-dir={tmp_path}")
    assert [gpu.resets for gpu in gpus] == [0, 0]
    journal.close()
