"""Faults of a real agent process: what is real, and how trials become a table.

Real are the agent's process, pynvml on the simulated driver's library, gRPC on a unix socket, HTTP, and the API server
of the sandbox. Judged is only by what the hardware is told, and what the agent tells of itself.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import ApiClient

from dynawatt.adapters.kubernetes.client import api_client
from dynawatt.sandbox.driver.build import ensure_driver

from .idle import IdlePods
from .ledger import Ledger, Trial
from .rig import Rig

_LEDGER = pytest.StashKey[Ledger]()
_FAILED = pytest.StashKey[bool]()
_OUT = Path(__file__).parents[3] / "build" / "faults-agent.json"


def pytest_addoption(parser: pytest.Parser) -> None:
    # Known only when this directory is named on the command line, as `make faults-agent` does.
    parser.addoption("--thorough", action="store_true", help="more rounds, longer waits, and the table at the end")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "thorough: left out without --thorough")
    config.stash[_LEDGER] = Ledger()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not _is_thorough(config):
        items[:] = [item for item in items if item.get_closest_marker("thorough") is None]


def _is_thorough(config: pytest.Config) -> bool:
    return bool(config.getoption("thorough", False))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: Any = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    ledger = config.stash[_LEDGER]
    if _is_thorough(config) and ledger.trials:
        ledger.save(_OUT)
        terminalreporter.section("what the agent does when things go wrong")
        for line in ledger.table():
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def thorough(pytestconfig: pytest.Config) -> bool:
    """Whether to take one's time."""
    return _is_thorough(pytestconfig)


@pytest.fixture(scope="session")
def fault_api(sandbox: Any) -> ApiClient:
    return api_client(sandbox.kubeconfig)


@pytest.fixture(scope="session")
def library() -> Path:
    return ensure_driver()


@pytest.fixture(scope="session")
def make_rig(
    sandbox: Any, fault_api: ApiClient, library: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Rig]:
    """Makes nodes, which whoever asks closes."""

    def make(*, library: Path = library, gpu_count: int = 8, behind_proxy: bool = False) -> Rig:
        return Rig(
            fault_api,
            kubeconfig=sandbox.kubeconfig,
            library=library,
            directory=tmp_path_factory.mktemp("faults"),
            gpu_count=gpu_count,
            behind_proxy=behind_proxy,
        )

    return make


@pytest.fixture(scope="module")
def new_rig(make_rig: Callable[..., Rig]) -> Iterator[Callable[..., Rig]]:
    """Makes nodes; they are gone when the module ends."""
    made: list[Rig] = []

    def make(**options: Any) -> Rig:
        made.append(make_rig(**options))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


@pytest.fixture(scope="session", autouse=True)
def idle_pods(request: pytest.FixtureRequest, make_rig: Callable[..., Rig]) -> Iterator[IdlePods | None]:
    """Pods without load, made before all tests: their governors take half a minute to go down."""
    if not any(item.path.name == "test_metrics.py" for item in request.session.items):
        yield None
        return
    rig = make_rig(gpu_count=16)
    try:
        yield IdlePods(rig)
    finally:
        rig.close()


@pytest.fixture
def trial(request: pytest.FixtureRequest) -> Iterator[Callable[..., Trial]]:
    """Begins a trial, which is one try of a row of the table."""
    begun: list[Trial] = []

    def begin(fault: str, outcome: str, wanted_s: float | None = None) -> Trial:
        begun.append(Trial(fault, outcome, wanted_s))
        return begun[-1]

    yield begin
    for each in begun:
        each.failed = request.node.stash.get(_FAILED, False)
    request.config.stash[_LEDGER].trials += begun
