"""Options of the benchmark of the operator."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    # Known only when this directory is named on the command line, as `make bench-operator` does.
    parser.addoption("--growth", action="store_true", help="100 and 1,000 services as well: takes half an hour")
    parser.addoption("--samples", action="store_true", help="sample the operator's stacks into build/bench-operator")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "count" in metafunc.fixturenames:
        grown = metafunc.config.getoption("--growth", default=False)
        metafunc.parametrize("count", [100, 300, 1000] if grown else [300])
