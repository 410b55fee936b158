"""benchmarks/: its statistics, its tables, and cases from end to end on the stock loop."""
import json
import pathlib
import shutil
import statistics
import subprocess
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from tide_bench import case, loops, stats, table  # noqa: E402

needs_compiler = pytest.mark.skipif(
    not (shutil.which("cc") and shutil.which("pkg-config") and shutil.which("openssl")),
    reason="needs a C compiler, pkg-config and openssl")


def test_ratios_are_formed_within_a_round():
    assert stats.pair_ratios([2, None, 9], [1, 5, 3]) == [2, 3]
    got = stats.compare([2.0, 4.0, 6.0], [1.0, 2.0, 4.0])
    assert got["ratio"] == 2.0 and got["pairs"] == 3
    assert stats.compare([None], [1.0]) is None


def test_interval_contains_the_median_and_shrinks_with_more_values():
    few = [1.0, 1.1, 0.9, 1.3, 0.8]
    many = few * 20
    low, high = stats.bootstrap_interval(few)
    assert 0.8 <= low <= statistics.median(few) <= high <= 1.3
    narrow_low, narrow_high = stats.bootstrap_interval(many)
    assert narrow_high - narrow_low < high - low
    assert stats.bootstrap_interval([1.5] * 5) == (1.5, 1.5)


def test_spread_is_half_the_quartiles_distance():
    assert stats.spread([1.0]) == 0
    assert stats.spread([8.0, 9.0, 10.0, 11.0, 12.0]) == pytest.approx(0.1)


def result(ours, theirs, **kw):
    told = {"title": "a case", "targets": {"uvloop": 2.0}, "limit": None}
    return {**told, **kw, "samples": {"tidewire": [{"rate": r, "cost_us": 1 / r} for r in ours],
                                      "uvloop": [{"rate": r, "cost_us": 1 / r} for r in theirs]}}


@pytest.mark.parametrize("ours, pairs, says", [
    (1.9, 20, "no"), (2.1, 20, "yes"), (2.1, 5, "yes*"), (2.5, 5, "yes")])
def test_reached_needs_many_pairs_where_it_is_close(ours, pairs, says):
    assert table.reached(result([ours] * pairs, [1.0] * pairs), "tidewire") == says


def test_below_names_the_slower_cases():
    results = {"cases": {"x": result([0.5], [1.0])}}
    assert list(table.below(results, "tidewire")) == [("a case", "uvloop", 0.5)]


def test_a_limit_in_bytes():
    small = {"title": "", "targets": {}, "limit": 1700,
             "samples": {"tidewire": [{"bytes": 1500, "rate": 1 / 1500}]}}
    assert table.reached(small, "tidewire") == "yes"
    assert table.cost(small, "tidewire") == "1,500 B"


def test_every_case_is_named_once_and_selected_by_globs():
    cases = case.load_all()
    assert all(c.name == name for name, c in cases.items())
    assert [c.name for c in case.select("tcp/protocol/1KiB")] == ["tcp/protocol/1KiB"]
    assert len(case.select("", everything=True)) > len(case.select("")) > 40


def test_loops_are_named_or_given():
    assert loops.parse("stock").factory == "asyncio:SelectorEventLoop"
    mine = loops.parse("mine=package.module:new@/some/where")
    assert (mine.name, mine.factory, mine.path) == ("mine", "package.module:new", "/some/where")
    with pytest.raises(ValueError):
        loops.parse("nothing")


@needs_compiler
@pytest.mark.parametrize("names", [
    "tcp/protocol/1KiB,tcp/churn,udp/1KiB", "tls/protocol/1KiB,unix/streams/1KiB",
    "sched/call_soon/chain,process/spawn"])
def test_cases_from_end_to_end(names, tmp_path):
    out = tmp_path / "results.json"
    subprocess.run(
        [sys.executable, str(BENCHMARKS / "run.py"), "--cases", names, "--loops", "stock,floor",
         "--rounds", "2", "--seconds", "0.2", "--warm", "0.05", "--json", str(out)],
        check=True, capture_output=True, text=True, timeout=50)
    results = json.loads(out.read_text())
    assert sorted(results["cases"]) == sorted(names.split(","))
    for got in results["cases"].values():
        assert len(got["samples"]["stock"]) == 2
        assert all(s["ops"] > 0 and s["rate"] > 0 for s in got["samples"]["stock"])
