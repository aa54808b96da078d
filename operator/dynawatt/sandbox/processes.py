"""Detached processes that are known again later, and never mistaken for others.

A sandbox outlives the command that started it, so its processes are found
again by pid. A pid alone may have passed to a stranger: the start time that
the kernel keeps for each process, together with the boot, tells. Every process
also carries the sandbox's directory in its environment, which its own
children inherit; that finds those whose pid was never written down because
the starting command died.
"""

import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dynawatt.errors import OperationError

MARKER = "DYNAWATT_SANDBOX"
_POLL_S = 0.02
_LOADING_S = 2.0
_LINE_LENGTH = 500


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process, for ever."""

    pid: int
    start_ticks: int
    boot_id: str


def identify(pid: int) -> ProcessIdentity | None:
    """Who has this pid now; None when nobody, or only a zombie."""
    state, process = _look_up(pid)
    return None if state in "ZX" else process


def is_running(process: ProcessIdentity) -> bool:
    """Whether this very process still runs; if it was our own child and has ended, it is reaped."""
    state, found = _look_up(process.pid)
    if found != process:
        return False
    if state in "ZX":
        with suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)
        return False
    return True


def _look_up(pid: int) -> tuple[str, ProcessIdentity | None]:
    """The kernel's letter for the process's state, and who it is."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "X", None
    # The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    state, *numbers = stat.rpartition(")")[2].split()
    return state, ProcessIdentity(pid=pid, start_ticks=int(numbers[18]), boot_id=boot_id)


def spawn(
    command: Sequence[str], *, log: Path, marker: Path, environment: Mapping[str, str] | None = None
) -> ProcessIdentity:
    """Start a program in a session of its own, without input, with its output appended to ``log``.

    All a sandbox talks to is on the loopback interface, so no proxy is passed on.
    Raises OperationError when it cannot be started.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and k != "KUBECONFIG"}
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        pid = os.posix_spawn(
            command[0],
            list(command),
            {**inherited, **(environment or {}), MARKER: str(marker)},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGHUP],
        )
    except OSError as error:
        raise OperationError(f"{command[0]} could not be started: {error.strerror}") from error
    process = identify(pid)
    if process is None:
        raise OperationError(f"{command[0]} ended at once{quote_log(log)}")
    return process


def send(process: ProcessIdentity, number: signal.Signals) -> None:
    """Signal this very process; nothing happens when it is gone."""
    if is_running(process):
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


def wait_gone(processes: Iterable[ProcessIdentity], *, timeout_s: float) -> list[ProcessIdentity]:
    """Wait until all have ended; returns those that have not."""
    deadline_s = time.monotonic() + timeout_s
    left = [process for process in processes if is_running(process)]
    while left and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
        left = [process for process in left if is_running(process)]
    return left


def find_marked(marker: Path) -> list[ProcessIdentity]:
    """Every process of this user that ``spawn`` started for ``marker``, and their descendants."""
    wanted = f"{MARKER}={marker}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = _environment(int(entry.name))
        except OSError:  # ended meanwhile, or somebody else's
            continue
        if wanted in environment.split(b"\0") and (process := identify(int(entry.name))):
            found.append(process)
    return found


def _environment(pid: int) -> bytes:
    """What a process was started with. Raises OSError.

    A child that was spawned this moment has none until its program is loaded: one that ``spawn`` was interrupted over
    would be missed.
    """
    path = Path(f"/proc/{pid}/environ")
    deadline_s = time.monotonic() + _LOADING_S
    while not (found := path.read_bytes()) and _is_own_child(pid) and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
    return found


def _is_own_child(pid: int) -> bool:
    """Whether this process started it and it has not ended. Raises OSError."""
    state, parent, *_ = (
        Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    )
    return state not in "ZX" and int(parent) == os.getpid()


def end_all(marker: Path, *, timeout_s: float = 10.0) -> None:
    """Kill every process of ``marker`` and wait until all are really gone; OperationError when they will not go."""
    deadline_s = time.monotonic() + timeout_s
    while processes := find_marked(marker):
        for process in processes:
            send(process, signal.SIGKILL)
        left = wait_gone(processes, timeout_s=max(0.0, deadline_s - time.monotonic()))
        if left:
            pids = ", ".join(str(process.pid) for process in left)
            raise OperationError(f"processes {pids} did not end after SIGKILL; wait for the disk and try again")


def last_lines(log: Path, *, lines: int) -> list[str]:
    """The end of a log, cut to what one can read; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    kept = [line for line in text.splitlines() if line.strip()][-lines:]
    return [line if len(line) <= _LINE_LENGTH else f"{line[:_LINE_LENGTH]}..." for line in kept]


def quote_log(log: Path) -> str:
    """The end of a log as the end of an error message."""
    lines = last_lines(log, lines=5)
    return "\n  ".join([f"; the last lines of {log}:", *lines]) if lines else f"; its log {log} is empty"
