"""Results as tables: for the terminal, and in reStructuredText."""
from . import stats, verdict
from .verdict import against, reached, values


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
    return f"{middle:,.0f} us" if middle >= 1000 else f"{middle:.3g} us"


def ratio(result, loop, base):
    got = against(result, loop, base)
    return f"{got['ratio']:.2f} [{got['low']:.2f}–{got['high']:.2f}]" if got else "–"


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


def below(results, loop):
    """A line for each case in which another loop is faster."""
    for title, base, got, wanted in verdict.below(results, loop):
        asked = f", wanted {wanted:g}" if wanted else ""
        yield (f"below {base}: {title}, {got['ratio']:.2f} "
               f"[{got['low']:.2f}–{got['high']:.2f}]{asked}")


def wanted(result):
    if result["limit"]:
        return f"<= {result['limit']:,} B"
    return ", ".join(f"{ratio:g}" if base == "uvloop" else f"{ratio:g} {base}"
                     for base, ratio in result["targets"].items())


def details(result, loop):
    """Throughput, latency, memory and spread of one loop in one case.

    busy: the share of the time in which the server's process had the CPU.
    """
    def middle(key):
        got = values(result, loop, key)
        return stats.median(got) if got else None
    rates = values(result, loop, "rate")
    got = {key: middle(key) for key in ("throughput", "p50_us", "p99_us", "p999_us",
                                        "peak_kib", "conn_bytes", "cost_us")}
    timed = got["throughput"] and result["clock"] == "cpu"
    got["busy"] = got["throughput"] * got["cost_us"] / 1e6 if timed else None
    got["spread"] = stats.spread(rates) if rates else None
    got["rounds"] = len(rates)
    return got


DETAILS = ["per second", "p50 us", "p99 us", "p99.9 us", "busy", "peak MiB", "B/connection",
           "spread", "rounds"]


def words(detail):
    """A detail's cells, in the order of DETAILS."""
    def number(value, form):
        return format(value, form) if value else "–"
    peak = detail["peak_kib"] and detail["peak_kib"] / 1024
    return [number(detail["throughput"], ",.0f"), number(detail["p50_us"], ".0f"),
            number(detail["p99_us"], ".0f"), number(detail["p999_us"], ".0f"),
            number(detail["busy"], ".0%"),
            number(peak, ".0f"), number(detail["conn_bytes"], ",.0f"),
            number(detail["spread"], ".1%"), str(detail["rounds"])]


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
