import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))


def pytest_generate_tests(metafunc):
    """Each test runs once with each engine (once only on another loop)."""
    if "engine" not in metafunc.fixturenames:
        return
    own = metafunc.config.getoption("--loop") == "tidewire"
    metafunc.parametrize("engine", ["direct", "memorybio"] if own else ["-"], indirect=True)


@pytest.fixture(autouse=True)
def engine(request, monkeypatch):
    monkeypatch.setenv("TIDEWIRE_TLS", request.param)
    return request.param
