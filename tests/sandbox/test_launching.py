import socket
import sys
import time

import pytest

from dynawatt.errors import OperationError
from dynawatt.sandbox import launching
from dynawatt.sandbox.launching import Component, check_running, start, wait_ready, wait_until
from dynawatt.sandbox.options import SandboxOptions
from dynawatt.sandbox.processes import end_all, is_running
from dynawatt.sandbox.state import SandboxState


@pytest.fixture
def state(marker):
    state = SandboxState(directory=marker, options=SandboxOptions(), pod_network="127.9.0.0/16")
    state.logs.mkdir()
    return state


def _server(port):
    return [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]


def _script(code):
    return lambda _port: [sys.executable, "-c", code]


def test_components_answer_after_wait_ready(state):
    components = [Component(name, _server, health="/") for name in ("one", "two")]
    start(state, components)
    wait_ready(state, components)
    assert len({record.url for record in state.processes.values()}) == 2
    check_running(state)


def test_a_component_that_loses_its_port_gets_another_once(state, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        [free] = launching.free_ports(1)
        offered = iter([[taken.getsockname()[1]], [free]])
        monkeypatch.setattr(launching, "free_ports", lambda _count: next(offered))
        component = Component("one", _server, health="/")
        start(state, [component])
        wait_ready(state, [component])
    assert state.processes["one"].url == f"http://127.0.0.1:{free}"


def test_a_component_that_loses_its_port_twice_is_named(state, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(launching, "free_ports", lambda _count: [taken.getsockname()[1]])
        component = Component("one", _server, health="/")
        start(state, [component])
        with pytest.raises(OperationError, match=r"(?s)^one died.*Address already in use"):
            wait_ready(state, [component])


def test_a_component_that_dies_is_named_with_its_last_lines(state):
    component = Component("one", _script("import sys; print('before'); sys.exit('no such disk')"), health="/")
    start(state, [component])
    with pytest.raises(OperationError, match=r"(?s)^one died; the last lines of .*one\.log:\n  .*no such disk"):
        wait_ready(state, [component])


def test_a_component_gets_its_own_environment_on_top_of_what_is_inherited(state, monkeypatch):
    monkeypatch.setenv("INHERITED", "kept")
    monkeypatch.setenv("CHANGED", "before")
    ask = _script(
        "import os, sys; sys.exit('/'.join(os.getenv(name, '-') for name in ('INHERITED', 'CHANGED', 'OWN')))"
    )
    start(state, [Component("one", ask, environment={"CHANGED": "after", "OWN": "own"}), Component("two", ask)])
    while any(is_running(record.identity) for record in state.processes.values()):
        time.sleep(0.01)
    with pytest.raises(OperationError, match=r"(?s)^one died.*kept/after/own.*\ntwo died.*kept/before/-"):
        check_running(state)


def test_a_component_that_moves_to_another_port_keeps_its_environment(state, monkeypatch):
    def server(port):
        code = f"import os, runpy, sys; os.environ['OWN']; sys.argv[1:] = ['{port}', '--bind', '127.0.0.1']; "
        return [sys.executable, "-c", code + "runpy.run_module('http.server', run_name='__main__')"]

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        [free] = launching.free_ports(1)
        offered = iter([[taken.getsockname()[1]], [free]])
        monkeypatch.setattr(launching, "free_ports", lambda _count: next(offered))
        component = Component("one", server, health="/", environment={"OWN": "own"})
        start(state, [component])
        wait_ready(state, [component])
    assert state.processes["one"].url == f"http://127.0.0.1:{free}"


def test_one_that_serves_nothing_is_watched_too(state):
    start(state, [Component("quiet", _script("raise SystemExit('broken')"))])
    with pytest.raises(OperationError, match=r"(?s)^quiet died.*broken"):
        wait_until(state, "never", lambda: False)


def test_what_does_not_come_about_is_named(state, monkeypatch):
    monkeypatch.setattr(launching, "_TIMEOUT_S", 0.2)
    start(state, [Component("slow", _script("import time; print('loading', flush=True); time.sleep(60)"), health="/")])
    with pytest.raises(OperationError, match="every node is Ready was not so after"):
        wait_until(state, "every node is Ready", lambda: False)
    with pytest.raises(OperationError, match="slow was not ready after"):
        wait_ready(state, [Component("slow", _server, health="/")])


def test_every_dead_component_is_named(state):
    start(state, [Component(name, _script("import time; time.sleep(60)")) for name in ("one", "two")])
    end_all(state.directory)
    assert not any(is_running(record.identity) for record in state.processes.values())
    with pytest.raises(OperationError, match=r"one died; its log .* is empty\ntwo died"):
        check_running(state)
