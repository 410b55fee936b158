#!/usr/bin/env python3
"""Tables and plots from results: ``report.py RESULTS.json...``.

Writes the README's table between its markers, docs/speed-results.rst and the
plots beside it. Of several files the later ones' cases replace the earlier's.
"""
import argparse
import json
import pathlib
import sys

from tide_bench import ROOT, plots, table

BEGIN, END = ".. benchmark-table-begin", ".. benchmark-table-end"
README_LOOPS = ["stock", "uvloop", "tidewire"]
README_CASES = [
    "tcp/protocol/1KiB", "tcp/protocol/100KiB", "tcp/protocol/1KiB/c500", "tcp/three-writes",
    "tcp/buffered/1KiB", "tcp/streams/1KiB", "tcp/sock/1KiB", "tcp/receive/protocol",
    "tcp/churn", "unix/protocol/1KiB", "udp/1KiB", "udp/1KiB/x16", "tls/protocol/1KiB",
    "tls/protocol/100KiB", "tls/streams/1KiB", "tls/handshakes", "sched/call_soon/chain",
    "sched/call_later/cancel", "sched/call_later/fire", "sched/threadsafe/thread",
    "tasks/sleep0", "tasks/gather", "tasks/wait_for", "process/spawn", "memory/pair",
    "memory/tls",
]


def merged(paths):
    results = None
    for path in paths:
        got = json.loads(pathlib.Path(path).read_text())
        if results:
            got["cases"] = {**results["cases"], **got["cases"]}
            got["loops"] = {**results["loops"], **got["loops"]}
        results = got
    return results


def only(results, cases=None, loops=None):
    """The results of some cases and loops alone, in the given order."""
    chosen = {name: results["cases"][name] for name in cases or results["cases"]
              if name in results["cases"]}
    loops = [name for name in loops or results["loops"] if name in results["loops"]]
    return dict(results, loops={name: results["loops"][name] for name in loops}, cases={
        name: dict(r, samples={k: v for k, v in r["samples"].items() if k in loops})
        for name, r in chosen.items()})


def circumstances(results):
    versions = ", ".join(f"{name} {version}".strip()
                         for name, version in results["loops"].items())
    return (f"{results['date']}, commit {results['commit']}; CPython {results['python']}, "
            f"{results['openssl']}, Linux {results['system']}, {results['machine']}, "
            f"{results['cores']} cores; {versions}; medians of {results['rounds']} rounds of "
            f"{results['seconds']:g} s, malloc {results['malloc']}. ``{results['command']}``\n")


def short_table(results):
    """The README's: what an operation costs, and how many times cheaper it is."""
    head = ["CPU time per operation", *[n for n in README_LOOPS if n in results["loops"]],
            "against uvloop", "against stock"]
    body = []
    for name in README_CASES:
        result = results["cases"].get(name)
        if result:
            row = [table.cost(result, loop) for loop in head[1:-2]]
            for base in ("uvloop", "stock"):
                got = table.against(result, "tidewire", base)
                row.append(f"{got['ratio']:.2f}x" if got else "–")
            body.append([result["title"], *row])
    return table.rst(head, body)


def write_readme(results):
    readme = ROOT / "README.rst"
    text = readme.read_text()
    before, begin, rest = text.partition(BEGIN + "\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"README.rst has no {BEGIN} … {END}")
    readme.write_text(f"{before}{begin}\n{short_table(results)}\n{circumstances(results)}\n"
                      f"{end}{after}")


def details(results):
    body = [[r["title"], loop, *table.words(table.details(r, loop))]
            for r in results["cases"].values() for loop in r["samples"]]
    return table.rst(["case", "loop", *table.DETAILS], body)


def write_docs(results, figures):
    parts = ["=======\nResults\n=======\n", circumstances(results)]
    for path, caption in figures:
        parts.append(f".. figure:: {path.relative_to(ROOT / 'docs')}\n\n   {caption}\n")
    parts += ["Cost and ratios\n===============\n",
              "The ratio's interval is the median's, 95 %, by bootstrap over the rounds' pairs.\n",
              table.rst(*table.rows(results)),
              "Throughput, latency, memory, spread\n===================================\n",
              details(results)]
    (ROOT / "docs" / "speed-results.rst").write_text("\n".join(parts))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", help="JSON files of run.py")
    parser.add_argument("--print", action="store_true",
                        help="print the short table, write nothing")
    args = parser.parse_args(argv)
    results = merged(args.results)
    if args.print:
        print(short_table(results), circumstances(results), sep="\n")
        return 0
    write_readme(results)
    write_docs(results, plots.draw(results, ROOT / "docs" / "plots"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
