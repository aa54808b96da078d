import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dynawatt.agent.journal import Journal
from dynawatt.agent.resetting import reset_all
from dynawatt.cli import agent as command
from dynawatt.cli.main import build_app
from dynawatt.errors import InvalidInputError, OperationError
from dynawatt.perfmodel.gpus import H100_SXM
from dynawatt.ports import ClockMethod
from dynawatt.sandbox.driver.build import ensure_driver
from dynawatt.sandbox.driver.control import SimulatedDriver
from dynawatt.sandbox.driver.models import GpuModel

from .memory_node import MemoryGpu, Node

GIVEN = {"--node-name": "n0", "--kubeconfig": "x"}


def run(*arguments: str) -> None:
    build_app(["agent"])(["agent", *arguments], standalone_mode=False)


# Options


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--node-name", "", "--node-name is missing: give it, or set NODE_NAME from the pod's spec.nodeName"),
        ("--node-name", "Not_A_Node", "--node-name 'Not_A_Node': must be a DNS-1123 name"),
        ("--node-name", "n" * 254, "at most 253"),
        ("--namespace", "a/b", "--namespace 'a/b': must be a DNS-1123 label"),
        ("--namespace", "a.b", "--namespace 'a.b': must be a DNS-1123 label"),
        ("--namespace", "", "--namespace '': must be a DNS-1123 label"),
        ("--kubeconfig", "/does/not/exist", "--kubeconfig /does/not/exist: No such file or directory; give"),
    ],
)
def test_bad_options_name_field_value_and_remedy(
    monkeypatch: pytest.MonkeyPatch, option: str, value: str, message: str
) -> None:
    monkeypatch.delenv("NODE_NAME", raising=False)
    with pytest.raises(InvalidInputError) as caught:
        run(*(f"{name}={text}" for name, text in (GIVEN | {option: value}).items()))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clocks=fast"], "'fast' is not one of 'auto', 'locked', 'applications', 'none'"),
        (["--metrics-port=0"], "Invalid value for '--metrics-port'"),
        (["--log-level=loud"], "'loud' is not one of"),
        (["reset-all", "--node-name=n0"], "No such option"),
    ],
)
def test_options_that_the_parser_refuses(arguments: list[str], message: str) -> None:
    done = dynawatt("agent", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_node_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_NAME", "Bad Name")
    with pytest.raises(InvalidInputError, match="--node-name 'Bad Name'"):
        run("--kubeconfig=x")


@pytest.mark.parametrize("option", ["--journal-dir=/x", "--log-level=debug"])
def test_options_before_the_subcommand_are_not_ignored(option: str) -> None:
    name = option.partition("=")[0]
    with pytest.raises(InvalidInputError, match=f"{name} stands before reset-all: put it behind"):
        run(option, "reset-all")


@pytest.mark.parametrize("subcommand", [[], ["reset-all"]])
def test_a_journal_directory_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subcommand: list[str]
) -> None:
    monkeypatch.setattr(command, "_stop_on_signals", threading.Event)
    (tmp_path / "file").touch()
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG)
    before = [] if subcommand else ["--node-name=n0", f"--kubeconfig={kubeconfig}"]
    with pytest.raises(OperationError) as caught:
        run(*before, *subcommand, f"--journal-dir={tmp_path}/file/journal")
    assert f"the journal directory {tmp_path}/file/journal cannot be used: Not a directory" in str(caught.value)
    assert "--journal-dir" in str(caught.value)
    assert "\n" not in str(caught.value)


KUBECONFIG = """
current-context: none
contexts: [{name: none, context: {cluster: none, user: none}}]
clusters: [{name: none, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: none, user: {token: none}}]
"""


# Waiting for the driver


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What opening the GPUs gives, one after the other; errors are raised."""
    answers: list[Any] = []

    def open_gpus(*, clock_method: ClockMethod | None) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer, clock_method

    monkeypatch.setattr(command, "open_gpus", open_gpus)
    monkeypatch.setattr(command, "_RETRY_S", 0.0)
    return answers


def test_it_waits_until_the_driver_is_there(answers: list[Any]) -> None:
    answers += [OperationError("NVML does not start"), OperationError("no NVIDIA GPU to work with"), "the node"]
    assert command._wait_for_gpus(None, threading.Event()) == ("the node", None)


def test_it_gives_up_with_the_reason(answers: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_GPUS_WITHIN_S", 0.0)
    answers.append(OperationError("NVML does not start: no driver"))
    with pytest.raises(OperationError, match="NVML does not start: no driver"):
        command._wait_for_gpus(None, threading.Event())


def test_it_may_be_told_to_stop_while_it_waits(answers: list[Any]) -> None:
    stop = threading.Event()
    stop.set()
    assert command._wait_for_gpus(None, stop) is None


@pytest.mark.parametrize(
    ("choice", "method"),
    [
        ("auto", None),
        ("locked", ClockMethod.LOCKED_CLOCKS),
        ("applications", ClockMethod.APPLICATIONS_CLOCKS),
        ("none", ClockMethod.NONE),
    ],
)
def test_the_user_may_choose_how_clocks_are_set(answers: list[Any], choice: str, method: ClockMethod | None) -> None:
    answers.append("the node")
    assert command._wait_for_gpus(command.ClockChoice(choice).method, threading.Event()) == ("the node", method)


# Resetting all


class OpenNode:
    """GPUs in memory as the NVML adapter hands them out."""

    def __init__(self, gpus: Sequence[MemoryGpu], left_out: Sequence[str] = ()) -> None:
        self.gpus = gpus
        self.left_out = left_out
        self.closed = False

    def __enter__(self) -> "OpenNode":
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


@pytest.fixture
def opened(node: Node, monkeypatch: pytest.MonkeyPatch) -> OpenNode:
    """The GPUs of a node, all locked, without an agent."""
    node.close()
    for gpu in node.gpus:
        gpu.locked = (345, 345)
    opened = OpenNode(node.gpus)
    monkeypatch.setattr(command, "open_gpus", lambda: opened)
    monkeypatch.setattr(command, "reset_all", partial(reset_all, sleep=lambda _: None))
    return opened


def test_reset_all_resets_every_gpu(node: Node, opened: OpenNode, capsys: pytest.CaptureFixture[str]) -> None:
    run("reset-all", f"--journal-dir={node.directory}")
    assert node.locked() == [None] * 4
    assert capsys.readouterr().out == "4 of 4 GPUs are at their default clocks\n"
    assert opened.closed
    Journal(node.directory).close()  # nobody holds it any more


def test_reset_all_names_what_it_could_not_reset(
    node: Node, opened: OpenNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.gpus[1].broken.add("reset")
    opened.left_out = ["the GPU with index 4 is lost"]
    with pytest.raises(OperationError, match="not reset: GPU-1, the GPU with index 4 is lost; a reboot of the node"):
        run("reset-all", f"--journal-dir={node.directory}")
    assert node.locked() == [None, (345, 345), None, None]
    assert capsys.readouterr().out == "3 of 4 GPUs are at their default clocks\n"
    assert node.journalled() == {"GPU-1"}


def test_reset_all_is_refused_while_an_agent_runs(node: Node, opened: OpenNode) -> None:
    journal = Journal(node.directory)
    with pytest.raises(OperationError, match="in use by another agent on this node: stop that one first"):
        run("reset-all", f"--journal-dir={node.directory}")
    journal.close()
    assert node.locked() == [(345, 345)] * 4


# The same, on the simulated driver, as an administrator would run it


def dynawatt(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dynawatt", *arguments],
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[SimulatedDriver]:
    driver = SimulatedDriver.create(tmp_path / "gpus", [GpuModel.of(H100_SXM, f"GPU-{index}") for index in range(2)])
    yield driver
    driver.close()


@pytest.fixture
def environment(driver: SimulatedDriver) -> Mapping[str, str]:
    return driver.environment(ensure_driver())


@pytest.fixture
def lock_by_hand(environment: Mapping[str, str]) -> Callable[[], None]:
    """Locks all GPUs as another program would."""
    code = "from dynawatt.adapters.nvml.node import open_gpus\nfor gpu in open_gpus().gpus: gpu.lock_clocks(345, 900)"

    def lock() -> None:
        subprocess.run([sys.executable, "-c", code], env=os.environ | environment, timeout=60, check=True)

    return lock


def test_reset_all_of_real_clocks(
    tmp_path: Path, driver: SimulatedDriver, environment: Mapping[str, str], lock_by_hand: Callable[[], None]
) -> None:
    lock_by_hand()
    assert [driver.locked_mhz(uuid) for uuid in driver.uuids] == [(345, 900)] * 2
    journal = Journal(tmp_path / "journal")
    refused = dynawatt("agent", "reset-all", f"--journal-dir={tmp_path}/journal", environment=environment)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "is in use by another agent on this node: stop that one first" in refused.stderr
    assert [driver.locked_mhz(uuid) for uuid in driver.uuids] == [(345, 900)] * 2

    journal.close()
    done = dynawatt("agent", "reset-all", f"--journal-dir={tmp_path}/journal", environment=environment)
    assert (done.returncode, done.stdout) == (0, "2 of 2 GPUs are at their default clocks\n"), done.stderr
    assert [driver.locked_mhz(uuid) for uuid in driver.uuids] == [None] * 2


def test_without_a_driver_the_remedy_is_told(tmp_path: Path, driver: SimulatedDriver, environment: Any) -> None:
    driver.set_loaded(False)
    done = dynawatt("agent", "reset-all", f"--journal-dir={tmp_path}/journal", environment=environment)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("dynawatt: NVML does not start: ")
    assert "check that nvidia-smi works on the node" in done.stderr
