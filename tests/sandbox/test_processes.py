import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dynawatt.errors import OperationError
from dynawatt.sandbox import processes
from dynawatt.sandbox.processes import (
    MARKER,
    end_all,
    find_marked,
    identify,
    is_running,
    quote_log,
    send,
    spawn,
    wait_gone,
)


def _python(marker, code):
    return spawn([sys.executable, "-c", code], log=marker / "log", marker=marker)


def _wait_for(path):
    deadline_s = time.monotonic() + 10
    while not (path.exists() and path.read_text().strip()):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    return path.read_text().strip()


def test_a_process_is_known_again_until_it_ends(marker):
    process = _python(marker, "import time; time.sleep(60)")
    assert identify(process.pid) == process
    assert is_running(process)
    send(process, signal.SIGTERM)
    assert wait_gone([process], timeout_s=10) == []
    assert not is_running(process)


def test_a_reused_pid_is_not_the_process_and_is_never_signalled(marker):
    stranger = _python(marker, "import time; time.sleep(60)")
    for field, value in (("start_ticks", stranger.start_ticks - 1), ("boot_id", "another boot")):
        ours = dataclasses.replace(stranger, **{field: value})
        assert not is_running(ours)
        send(ours, signal.SIGKILL)
    time.sleep(0.1)
    assert is_running(stranger)


def test_a_program_name_with_parentheses_and_spaces_is_read(marker, tmp_path):
    program = tmp_path / "a) S 1 (b"
    program.symlink_to("/bin/sleep")
    process = spawn([str(program), "60"], log=marker / "log", marker=marker)
    assert is_running(process)
    assert process.start_ticks > 1000


def test_a_zombie_counts_as_ended_and_is_reaped_only_if_it_is_the_process():
    child = subprocess.Popen(["sleep", "60"])
    process = identify(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert identify(child.pid) is None
    assert not is_running(dataclasses.replace(process, start_ticks=0))
    assert os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT).si_pid == child.pid
    assert not is_running(process)
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, os.WNOHANG)
    child.wait()


def test_a_process_is_detached(marker, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://192.0.2.1:1")
    monkeypatch.setenv("KUBECONFIG", "/elsewhere")
    code = "import os,sys; print(os.getsid(0), sys.stdin.read(), [k for k in os.environ if 'PROX' in k or 'KUBE' in k])"
    process = _python(marker, code)
    assert _wait_for(marker / "log") == f"{process.pid}  []"


def test_output_of_both_kinds_is_appended_to_a_private_log(marker):
    for text in ("one", "two"):
        process = _python(marker, f"import sys; print('{text}', flush=True); sys.exit('{text} failed')")
        assert wait_gone([process], timeout_s=10) == []
    assert (marker / "log").read_text().split("\n") == ["one", "one failed", "two", "two failed", ""]
    assert (marker / "log").stat().st_mode & 0o077 == 0
    assert quote_log(marker / "log").splitlines()[-1] == "  two failed"


def test_descendants_are_found_by_their_mark_and_ended(marker):
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)\n"
        "print(child.pid, flush=True)\ntime.sleep(60)"
    )
    process = _python(marker, code)
    child = identify(int(_wait_for(marker / "log")))
    assert set(find_marked(marker)) >= {process, child}
    end_all(marker)
    assert not is_running(process)
    assert not is_running(child)
    assert find_marked(marker) == []


def test_a_child_whose_program_is_still_being_loaded_is_found(marker, monkeypatch):
    process, read, asked = _python(marker, "import time; time.sleep(60)"), Path.read_bytes, []

    def empty_at_first(path):
        if path == Path(f"/proc/{process.pid}/environ"):
            asked.append(path)
            return b"" if len(asked) < 3 else read(path)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", empty_at_first)
    assert find_marked(marker) == [process]


def test_a_child_without_environment_holds_nothing_up_for_long(marker, monkeypatch):
    monkeypatch.setattr(processes, "_LOADING_S", 0.1)
    with subprocess.Popen(["/bin/sleep", "60"], env={}) as child:
        assert find_marked(marker) == []
        child.kill()


def test_only_the_exact_mark_counts(marker):
    process = _python(marker, "import time; time.sleep(60)")
    assert find_marked(marker.parent) == []
    assert find_marked(marker / "deeper") == []
    assert MARKER not in os.environ
    assert is_running(process)


def test_a_process_that_ignores_sigterm_is_reported_as_left(marker):
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    process = _python(marker, code)
    _wait_for(marker / "log")
    send(process, signal.SIGTERM)
    assert wait_gone([process], timeout_s=0.2) == [process]


def test_a_missing_program_is_named(marker):
    with pytest.raises(OperationError, match=r"/no/such could not be started: No such file"):
        spawn(["/no/such"], log=marker / "log", marker=marker)


def test_long_and_many_lines_are_cut(tmp_path):
    log = tmp_path / "log"
    log.write_text("".join(f"line {n}\n" for n in range(5000)) + "x" * 1000 + "\n\n")
    lines = quote_log(log).splitlines()
    assert lines[1:5] == [f"  line {n}" for n in range(4996, 5000)]
    assert lines[5] == "  " + "x" * 500 + "..."
    assert quote_log(tmp_path / "none").endswith("is empty")
