"""Any method with any arguments, compared with asyncio; `make fuzz` makes far more calls."""
import asyncio
import importlib.util
import pathlib
import sys

import pytest

pytestmark = pytest.mark.tidewire

PATH = pathlib.Path(__file__).with_name("machine.py")
spec = importlib.util.spec_from_file_location("tidewire_machine", PATH)
machine = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = machine
spec.loader.exec_module(machine)


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_calls(first):
    found = {seed: machine.compare(seed, 40) for seed in range(first, first + 50)}
    assert not any(found.values()), {seed: what for seed, what in found.items() if what}


def test_calls_while_the_collector_runs():
    assert [machine.compare(seed, 20, collect=True) for seed in range(1000, 1008)] == [None] * 8


def test_a_difference_is_found(monkeypatch):
    class Wrong(asyncio.SelectorEventLoop):
        def is_closed(self):
            return int(super().is_closed())

    import tidewire
    monkeypatch.setattr(tidewire, "new_event_loop", Wrong)
    found = list(filter(None, (machine.compare(seed, 40) for seed in range(20))))
    assert found and all("is_closed" in what[1] for what in found)
