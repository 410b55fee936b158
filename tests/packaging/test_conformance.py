"""tools/conformance.py: what it lets pass as "as stock", and what it does not."""

import argparse
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.tidewire, pytest.mark.packaging]

spec = importlib.util.spec_from_file_location("conformance", ROOT / "tools" / "conformance.py")
conformance = importlib.util.module_from_spec(spec)
spec.loader.exec_module(conformance)


def failure(name, outcome="failed", text="Traceback:\n  x\nAssertionError: 1 != 2\n\n- 1\n+ 2\n"):
    return {"id": name, "outcome": outcome, "text": text}


def module(*failures, passed=10):
    return {"counts": {"passed": passed}, "failures": list(failures)}


def judged(ours, stock):
    """The Measurement of these results: {module name: result}."""
    class Told(conformance.Measurement):
        def tests(self, target, modules, match=""):
            assert target == conformance.STOCK
            return {name: stock[name] for name in modules.split(",")}

        def by_class(self, name):
            self.classes = name

    measurement = Told("3.11", "python", argparse.Namespace(only="", jobs=1))
    measurement.groups = {"an example": None}
    measurement.judge(ours)
    return measurement


def names(failures):
    return [failure["id"] for failure in failures]


def test_all_passed():
    measurement = judged({"test_a": module()}, {})
    assert measurement.fine
    assert measurement.row()[:5] == ["3.11", "10/10", "-", "-", "-"]


def test_the_same_on_the_stock_loop():
    a = failure("test_a.C.test_1")
    b = failure("test_a.C.test_2", "error", "Traceback:\n  x\nTimeoutError\n")
    c = failure("test_a.C.test_3", "hang", "one\n")
    measurement = judged({"test_a": module(a, b, c)},
                         {"test_a": module(a, b, {**c, "text": "another\n"})})
    assert measurement.fine and names(measurement.as_stock) == names([a, b, c])
    assert measurement.row()[:5] == ["3.11", "10/10", "-", "3", "-"]
    assert any("as stock: test_a.C.test_2 (error TimeoutError)" in line
               for line in measurement.names())


@pytest.mark.parametrize("theirs", [
    [],
    [failure("test_a.C.test_2")],
    [failure("test_a.C.test_1", "error")],
    [failure("test_a.C.test_1", text="Traceback:\n  x\nTypeError: 1 != 2\n")],
    [failure("test_a.C.test_1", "hang", "")],
], ids=["passes", "another test", "error", "another exception", "hang"])
def test_not_the_same_on_the_stock_loop(theirs):
    ours = failure("test_a.C.test_1")
    measurement = judged({"test_a": module(ours)}, {"test_a": module(*theirs)})
    assert not measurement.fine
    assert names(measurement.failures) == ["test_a.C.test_1"] and not measurement.as_stock
    assert measurement.row()[1:3] == ["10/11", "1 failed"]


def test_crash_by_another_signal():
    ours, theirs = (failure("test_a.C.test_1", "crash", f"worker ended with {code}\n...")
                    for code in (-11, -6))
    assert not judged({"test_a": module(ours)}, {"test_a": module(theirs)}).fine
    assert judged({"test_a": module(ours)}, {"test_a": module(ours)}).fine


def test_module_that_does_not_get_through():
    """By classes, if stock's does not either; a failure, if stock's got further."""
    whole = failure("test_a.<module>", "error", "worker ended\nAttributeError: 'Result'\nsys:1: x\n")
    measurement = judged({"test_a": module(whole, passed=0)}, {"test_a": module(whole, passed=0)})
    assert measurement.classes == "test_a" and not measurement.as_stock
    for theirs in module(whole, passed=1), module(passed=0):
        measurement = judged({"test_a": module(whole, passed=0)}, {"test_a": theirs})
        assert names(measurement.failures) == ["test_a.<module>"] and not measurement.fine


def test_private_tests():
    """Excluded by name, and only if they do not pass."""
    for pattern, reason in conformance.PRIVATE.items():
        name = pattern.replace("*", "Class")
        measurement = judged({"test_a": module(failure(name))}, {})
        assert measurement.fine and names(measurement.private) == [name]
        assert any(reason in line for line in measurement.names())


def test_nothing_measured_is_not_fine():
    assert not judged({}, {}).fine
    measurement = judged({"test_a": module()}, {})
    measurement.groups = {"an example": "failed"}
    assert not measurement.fine


def test_versions_asked_for(monkeypatch, tmp_path):
    """python3 is asked only if it is meant: a Debian may have none, but python3.15."""
    assert conformance.wanted("", {"3.9": "", "3.11": ""}) == ["3.9", "3.11"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert conformance.wanted("3.15,3.11,3.15", {}) == ["3.15", "3.11"]
    program = tmp_path / "python3"
    program.write_text("#!/bin/sh\necho 3.13\n")
    program.chmod(0o755)
    assert conformance.wanted("default,3.11,3.13", {}) == ["3.13", "3.11"]
