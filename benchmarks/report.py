#!/usr/bin/env python3
"""Tables and plots from results: ``report.py RESULTS.json...``.

Writes the README's table between its markers, docs/speed-results.rst and the
plots beside it. Where several files of run.py have the same case, the last one
counts. Files with ``--malloc fresh`` fill a second column, for the cases in
which it makes a difference. Files of pyperf_loops.py get a table of their own.
With ``--page`` the whole table goes to a page of its own, as for another
Python. What the pages are made of is packed into docs/data/, from which
``report.py docs/data/*.json.xz`` makes them again.
"""
import argparse
import json
import lzma
import os
import pathlib
import sys

from tide_bench import ROOT, case, machine, plots, table, verdict

BEGIN, END = ".. benchmark-table-begin", ".. benchmark-table-end"
OTHERS = ("stock", "aiofastnet", "rloop", "rsloop", "zuvloop", "floor")
# The README's rows: what most programs do most.
FEW = {"http/uvicorn": "uvicorn, HTTP", "http/aiohttp": "aiohttp, HTTP",
       "tcp/protocol/1KiB": "TCP echo, 1 KiB", "tcp/streams/1KiB": "streams echo, 1 KiB",
       "tls/protocol/1KiB": "TLS echo, 1 KiB", "udp/1KiB": "UDP echo, 1 KiB"}
APART = 0.15    # the states of malloc differ if a ratio does by more
PACKED = ".json.xz"
MOST = 300_000      # bytes of all packed files


def text_of(path):
    data = pathlib.Path(path).read_bytes()
    return lzma.decompress(data) if path.endswith(".xz") else data


def publish(paths):
    """Pack the results into docs/data; a line that links each."""
    data = ROOT / "docs" / "data"
    data.mkdir(exist_ok=True)
    names = []
    for path in map(pathlib.Path, paths):
        name = path.name.removesuffix(PACKED).removesuffix(".json") + PACKED
        if path.name != name:
            small = json.dumps(json.loads(path.read_text()), separators=(",", ":"))
            (data / name).write_bytes(lzma.compress(small.encode(), preset=9))
        names.append(name)
    if sum(file.stat().st_size for file in data.iterdir()) > MOST:
        sys.exit(f"docs/data has more than {MOST:,} bytes: remove what no page is made of")
    links = ", ".join(f":download:`{name} <data/{name}>`" for name in names)
    return f"All samples: {links}."


def read(paths):
    """{"fresh": …, "settled": …, "pyperf": [parsed, …]} of all files."""
    found = {"fresh": [], "settled": [], "pyperf": []}
    for path in paths:
        got = json.loads(text_of(path))
        if "benchmarks" in got:
            found["pyperf"].append(path)
        else:
            found[got["malloc"]].append(got)
    return {key: got if key == "pyperf" else merged(got) for key, got in found.items()}


def merged(runs):
    """One of several, which are kept in "runs"; cases in the suite's order."""
    if not runs:
        return None
    results = dict(runs[-1], runs=runs, cases={}, loops={})
    for run in runs:
        results["cases"].update(run["cases"])
        results["loops"].update(run["loops"])
    order = {name: i for i, name in enumerate(case.load_all())}
    results["cases"] = dict(sorted(results["cases"].items(),
                                   key=lambda item: order.get(item[0], len(order))))
    return results


def circumstances(results):
    return "\n".join(machine.circumstances(run) for run in results["runs"])


def few_table(results):
    """The README's: a few rows without the suite's own words.

    Ratios, and one loop's cost: a ratio is the median over pairs of rounds, so it is not
    that of two medians, and a table of costs would seem to contradict it.
    """
    head = ["Times as fast as uvloop", "asyncio", "tidewire", "interval", "uvloop's CPU time"]
    body = []
    for name, title in FEW.items():
        result = results["cases"].get(name)
        got = result and verdict.against(result, "tidewire", "uvloop")
        if got:
            stock = verdict.against(result, "stock", "uvloop")
            body.append([title, f"{stock['ratio']:.2f}" if stock else "–", f"{got['ratio']:.2f}",
                         f"{got['low']:.2f}–{got['high']:.2f}", table.cost(result, "uvloop")])
    return table.rst(head, body)


def fresh_ratio(fresh, name, settled):
    """The ratio with a fresh malloc where it is another one, else ""."""
    result = fresh and fresh["cases"].get(name)
    got = result and verdict.against(result, "tidewire", "uvloop")
    if not got or not settled or abs(got["ratio"] / settled["ratio"] - 1) <= APART:
        return ""
    return f"{got['ratio']:.2f}"


def whole_table(found):
    """The rows that have a target, in the order in which they were set."""
    results = found["settled"]
    others = [name for name in OTHERS if name in results["loops"]]
    head = ["CPU time per operation", "uvloop", "tidewire", "times uvloop", "fresh malloc",
            *others]
    body = []
    for name in case.TABLE:
        result = results["cases"].get(name)
        if result:
            ours = verdict.against(result, "tidewire", "uvloop")
            row = [result["title"], table.cost(result, "uvloop"), table.cost(result, "tidewire"),
                   table.ratio(result, "tidewire", "uvloop"),
                   fresh_ratio(found["fresh"], name, ours)]
            for loop in others:
                got = verdict.against(result, loop, "uvloop")
                row.append(f"{got['ratio']:.2f}" if got else "–")
            body.append(row)
    return table.rst(head, body)


def write_readme(text):
    readme = ROOT / "README.rst"
    before, begin, rest = readme.read_text().partition(BEGIN + "\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"README.rst has no {BEGIN} … {END}")
    readme.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def details(results):
    body = [[r["title"], loop, *table.words(table.details(r, loop))]
            for r in results["cases"].values() for loop in r["samples"]]
    return table.rst(["case", "loop", *table.DETAILS], body)


def behind(results):
    lines = [f"* {line}" for line in table.below(results, "tidewire")]
    return "\n".join(lines or ["In none."]) + "\n"


def instructions(results):
    """Of the cases for which callgrind counted; "" without any."""
    counted = {name: r["instructions"] for name, r in results["cases"].items()
               if "instructions" in r}
    if not counted:
        return ""
    loops = [n for n in results["loops"] if any(n in c for c in counted.values())]
    body = []
    for name, counts in counted.items():
        ours, theirs = counts.get("tidewire"), counts.get("uvloop")
        body.append([results["cases"][name]["title"],
                     *(f"{counts[n]:,.0f}" if n in counts else "–" for n in loops),
                     f"{theirs / ours:.2f}" if ours and theirs else "–"])
    return table.rst(["case", *loops, "uvloop / tidewire"], body)


def pyperf_table(paths):
    """Mean and standard deviation per operation; and pyperf's own conditions."""
    import pyperf
    suites = {}
    for path in paths:
        suite = pyperf.BenchmarkSuite.load(str(path))
        suites[suite.get_metadata().get("event_loop", os.path.basename(path))] = suite
    names = list(dict.fromkeys(n for s in suites.values() for n in s.get_benchmark_names()))
    body = []
    for name in names:
        row, means = [name], {}
        for loop, suite in suites.items():
            bench = suite.get_benchmark(name) if name in suite.get_benchmark_names() else None
            means[loop] = bench.mean() if bench else None
            row.append(f"{bench.mean() * 1e6:.3g} us ± {bench.stdev() / bench.mean():.0%}"
                       if bench else "–")
        ours, theirs = means.get("tidewire"), means.get("uvloop")
        row.append(f"{theirs / ours:.2f}" if ours and theirs else "–")
        body.append(row)
    return table.rst(["time per operation", *suites, "uvloop / tidewire"], body)


def section(title, *parts):
    return "\n".join([title, "=" * len(title), "", *parts])


def write_docs(found, figures, command, data):
    results, fresh = found["settled"], found["fresh"]
    parts = ["=======\nResults\n=======\n", circumstances(results), f"``{command}``\n",
             f"{data}\n"]
    for path, caption in figures:
        parts.append(f".. figure:: {path.relative_to(ROOT / 'docs')}\n\n   {caption}\n")
    parts.append(section("The table", whole_table(found)))
    parts.append(section(
        "Cost and ratios",
        "CPU time per operation; how many times faster than uvloop, with the interval in which",
        "the median of all such pairs lies with 95 %; what is wanted of tidewire, and whether it",
        "is reached.\n", table.rst(*table.rows(results))))
    parts.append(section("Where another loop is faster", behind(results)))
    if counted := instructions(results):
        parts.append(section("Instructions per operation", "By callgrind, user space only.\n",
                             counted))
    if fresh:
        parts.append(section("With a fresh malloc", circumstances(fresh),
                             table.rst(*table.rows(fresh)), behind(fresh)))
    if found["pyperf"]:
        parts.append(section("In one process, by pyperf", pyperf_table(found["pyperf"])))
    parts.append(section(
        "Throughput, latency, memory, spread",
        "Busy is the share of the time in which the server's process had its core; what is below",
        "the whole was spent waiting for the load.\n", details(results)))
    (ROOT / "docs" / "speed-results.rst").write_text("\n".join(parts))


def write_page(path, results, text):
    title = f"CPython {results['runs'][-1]['python']}"
    line = "=" * len(title)
    pathlib.Path(path).write_text("\n".join([
        line, title, line, "", text, section("Where another loop is faster", behind(results))]))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", help="JSON files of run.py and pyperf_loops.py")
    parser.add_argument("--print", action="store_true",
                        help="print the short table, write nothing")
    parser.add_argument("--page", metavar="FILE",
                        help="write the short table to this page, and nothing else")
    args = parser.parse_args(argv)
    found = read(args.results)
    results = found["settled"]
    if not results:
        parser.error("no results with a settled malloc")
    page = [f"--page {os.path.basename(args.page)}"] if args.page else []
    command = " ".join(["benchmarks/report.py", *page, *map(os.path.basename, args.results)])
    text = f"{whole_table(found)}\n{circumstances(results)}\n``{command}``\n"
    if args.print:
        print(text)
    elif args.page:
        write_page(args.page, results, f"{text}\n{publish(args.results)}\n")
    else:
        write_readme(few_table(results))
        write_docs(found, plots.draw(results, ROOT / "docs" / "plots"), command,
                   publish(args.results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
