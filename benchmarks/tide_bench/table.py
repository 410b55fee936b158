"""Results as tables: for the terminal, and in reStructuredText."""
from . import stats


def column(result, loop, key):
    return [s and s.get(key) for s in result["samples"].get(loop, [])]


def values(result, loop, key):
    return [v for v in column(result, loop, key) if v is not None]


def against(result, loop, base):
    """The pairs' median ratio of loop to base, with its interval; or None."""
    return stats.compare(column(result, loop, "rate"), column(result, base, "rate"))


def cost(result, loop):
    """A loop's cost in words: time or bytes per unit."""
    size = values(result, loop, "bytes")
    if size:
        return f"{stats.median(size):,.0f} B"
    us = values(result, loop, "cost_us")
    if not us:
        return "–"
    middle = stats.median(us)
    if middle >= 10000:
        return f"{middle / 1000:.1f} ms"
    return f"{middle:.3g} us"


def ratio(result, loop, base):
    got = against(result, loop, base)
    return f"{got['ratio']:.2f} [{got['low']:.2f}–{got['high']:.2f}]" if got else "–"


def reached(result, loop):
    """Whether every target is met: "yes", "no", or "" without any.

    "yes*": met, but so closely (under 15 %) that fewer than 15 pairs are few.
    """
    says = set()
    for base, wanted in result["targets"].items():
        got = against(result, loop, base)
        if got:
            close = got["ratio"] < wanted * 1.15 and got["pairs"] < 15
            says.add("no" if got["ratio"] < wanted else "yes*" if close else "yes")
    if result["limit"] and values(result, loop, "bytes"):
        size = stats.median(values(result, loop, "bytes"))
        says.add("yes" if size <= result["limit"] else "no")
    return next((word for word in ("no", "yes*", "yes") if word in says), "")


def below(results, loop, bases=("stock", "uvloop")):
    """(case's title, base, ratio) wherever the loop is slower than a base."""
    for result in results["cases"].values():
        for base in bases:
            got = against(result, loop, base)
            if got and got["ratio"] < 1:
                yield result["title"], base, got["ratio"]


def rows(results, base="uvloop", ours="tidewire"):
    """A header and a row per case: cost of each loop, ratio to the base."""
    loops = [name for name in results["loops"] if any(
        name in r["samples"] for r in results["cases"].values())]
    head = ["case"]
    for loop in loops:
        head += [loop] if loop == base or base not in loops else [loop, f"/ {base}"]
    body = []
    for result in results["cases"].values():
        row = [result["title"]]
        for loop in loops:
            row.append(cost(result, loop))
            if loop != base and base in loops:
                row.append(ratio(result, loop, base))
        row += [wanted(result), reached(result, ours)]
        body.append(row)
    return head + ["wanted", "reached"], body


def wanted(result):
    if result["limit"]:
        return f"<= {result['limit']:,} B"
    return ", ".join(f"{ratio:g}" if base == "uvloop" else f"{ratio:g} {base}"
                     for base, ratio in result["targets"].items())


def details(result, loop):
    """Throughput, latency, memory and spread of one loop in one case."""
    def middle(key):
        got = values(result, loop, key)
        return stats.median(got) if got else None
    rates = values(result, loop, "rate")
    return {"throughput": middle("throughput"), "p50_us": middle("p50_us"),
            "p99_us": middle("p99_us"), "peak_kib": middle("peak_kib"),
            "spread": stats.spread(rates) if rates else None}


DETAILS = ["per second", "p50 us", "p99 us", "peak MiB", "spread"]


def words(detail):
    """A detail's cells, in the order of DETAILS."""
    def number(value, form):
        return format(value, form) if value else "–"
    peak = detail["peak_kib"] and detail["peak_kib"] / 1024
    return [number(detail["throughput"], ",.0f"), number(detail["p50_us"], ".0f"),
            number(detail["p99_us"], ".0f"), number(peak, ".0f"),
            number(detail["spread"], ".1%")]


def plain(head, body, rule="-", frame=False):
    widths = [max(len(str(r[i])) for r in [head, *body]) for i in range(len(head))]
    line = [rule * w for w in widths]
    rows = [line, head, line, *body, line] if frame else [head, line, *body]
    return "\n".join("  ".join(str(c).ljust(w) if i == 0 else str(c).rjust(w)
                               for i, (c, w) in enumerate(zip(row, widths, strict=True))).rstrip()
                     for row in rows) + "\n"


def rst(head, body):
    """A simple table of reStructuredText."""
    return plain(head, body, "=", frame=True)
