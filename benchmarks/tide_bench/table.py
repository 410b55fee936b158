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


def reached(result, loop, bases=("uvloop", "stock")):
    """Whether the targets are met: "", "yes", "no", or "few pairs"."""
    says = []
    for base, key in zip(bases, ("target", "stock_target")):
        got = result.get(key) and against(result, loop, base)
        if not got:
            continue
        close = got["ratio"] < result[key] * 1.15 and got["pairs"] < 15
        says.append("no" if got["ratio"] < result[key] else "yes*" if close else "yes")
    if result.get("limit") and values(result, loop, "bytes"):
        size = stats.median(values(result, loop, "bytes"))
        says.append("yes" if size <= result["limit"] else "no")
    return "no" if "no" in says else max(says, default="", key=len)


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
        row += [target(result), reached(result, ours)]
        body.append(row)
    return head + ["wanted", "reached"], body


def target(result):
    if result.get("limit"):
        return f"<= {result['limit']:,} B"
    wanted = result.get("target") and f"{result['target']:g}"
    if result.get("stock_target"):
        by_stock = f"{result['stock_target']:g} stock"
        return f"{wanted}; {by_stock}" if wanted else by_stock
    return wanted or ""


def details(result, loop):
    """Throughput, latency, memory and spread of one loop in one case."""
    def middle(key):
        got = values(result, loop, key)
        return stats.median(got) if got else None
    rates = values(result, loop, "rate")
    return {"throughput": middle("throughput"), "p50_us": middle("p50_us"),
            "p99_us": middle("p99_us"), "peak_kib": middle("peak_kib"),
            "spread": stats.spread(rates) if rates else None}


def plain(head, body):
    widths = [max(len(str(r[i])) for r in [head, *body]) for i in range(len(head))]
    lines = ["  ".join(str(c).ljust(w) if i == 0 else str(c).rjust(w)
                       for i, (c, w) in enumerate(zip(row, widths))).rstrip()
             for row in [head, ["-" * w for w in widths], *body]]
    return "\n".join(lines) + "\n"


def rst(head, body):
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in [head, *body]:
        for i, cell in enumerate(row):
            lines.append(("   * - " if i == 0 else "     - ") + str(cell))
    return "\n".join(line.rstrip() for line in lines) + "\n"
