"""Plots of results, as SVG: ratios, and cost over sizes and connections."""
from . import stats, table
from .case import SIZES

COLOURS = {"stock": "#999999", "uvloop": "#d08030", "tidewire": "#2060a0", "floor": "#303030",
           "aiofastnet": "#50a060", "rloop": "#a05090", "zuvloop": "#807030"}


def _style(axes, title, ylabel):
    axes.set_title(title)
    axes.set_ylabel(ylabel)
    axes.grid(True, alpha=0.3)
    axes.legend()


def ratios(results, axes, loops=("stock", "tidewire"), base="uvloop"):
    """Bars: how many times as fast as the base, with intervals."""
    cases = [r for r in results["cases"].values()
             if r.get("main") and table.against(r, "tidewire", base)]
    for offset, loop in zip((-0.2, 0.2), loops, strict=True):
        got = [table.against(r, loop, base) for r in cases]
        at = [i + offset for i, g in enumerate(got) if g]
        got = [g for g in got if g]
        middle = [g["ratio"] for g in got]
        errors = [[max(0, g["ratio"] - g["low"]) for g in got],
                  [max(0, g["high"] - g["ratio"]) for g in got]]
        axes.barh(at, middle, 0.4, xerr=errors, label=loop, color=COLOURS[loop],
                  error_kw={"lw": 0.8})
    axes.axvline(1, color=COLOURS[base], label=base)
    axes.set_yticks(range(len(cases)), [r["title"] for r in cases], fontsize=7)
    axes.set_xscale("log")
    axes.set_xticks([0.1, 0.25, 0.5, 1, 2, 5, 10], ["0.1", "0.25", "0.5", "1", "2", "5", "10"])
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.legend(loc="lower right")
    axes.grid(True, axis="x", alpha=0.3)
    axes.set_title(f"times as fast as {base}, per CPU second")
    return bool(cases)


def _series(results, places):
    """{loop: [(x, cost), …]} for cases of which places gives x."""
    lines = {}
    for x, name in places:
        result = results["cases"].get(name)
        for loop in result["samples"] if result else ():
            costs = table.values(result, loop, "cost_us")
            if costs:
                lines.setdefault(loop, []).append((x, stats.median(costs)))
    return {loop: points for loop, points in lines.items() if len(points) > 2}


def _lines(axes, lines, xlabel):
    for loop, points in lines.items():
        axes.plot(*zip(*points, strict=True), marker="o", ms=3, label=loop,
                  color=COLOURS.get(loop))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(xlabel)


def sizes(over):
    def draw(results, axes):
        lines = _series(results, [(n, f"{over}/protocol/{s}") for s, n in SIZES.items()])
        _lines(axes, lines, "bytes per message")
        _style(axes, f"{over.upper()} echo, 10 connections", "server CPU us per message")
        return bool(lines)
    return draw


def connections(results, axes):
    counts = (1, 10, 100, 500, 1000, 2000, 5000, 10000)
    lines = _series(results, [
        (n, "tcp/protocol/1KiB" + (f"/c{n}" if n != 10 else "")) for n in counts])
    _lines(axes, lines, "connections")
    _style(axes, "TCP echo, 1 KiB", "server CPU us per message")
    return bool(lines)


PLOTS = (
    ("ratios", ratios, (8, 12), "Speed of each case as a multiple of uvloop's."),
    ("sizes-tcp", sizes("tcp"), (7, 4), "Cost over the message's size, TCP."),
    ("sizes-tls", sizes("tls"), (7, 4), "Cost over the message's size, TLS."),
    ("connections", connections, (7, 4), "Cost over the number of connections."),
)


def draw(results, directory):
    """Write the plots that the results suffice for; [(path, caption)]."""
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "tidewire"
    from matplotlib import pyplot
    directory.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, plot, size, caption in PLOTS:
        figure, axes = pyplot.subplots(figsize=size, layout="constrained")
        if plot(results, axes):
            path = directory / f"{name}.svg"
            figure.savefig(path, metadata={"Date": None})
            drawn.append((path, caption))
        pyplot.close(figure)
    return drawn
