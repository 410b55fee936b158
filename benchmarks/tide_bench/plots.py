"""Plots of results, as SVG: ratios, and cost over sizes and connections."""
from . import stats
from .case import SIZES, swept
from .verdict import against, values

COLOURS = {"stock": "#999999", "uvloop": "#d08030", "tidewire": "#2060a0", "floor": "#303030",
           "aiofastnet": "#50a060", "rloop": "#a05090", "zuvloop": "#807030"}
CURVES = ("stock", "uvloop", "tidewire", "floor")


def _bars(cases, axes, loops, base):
    for offset, loop in zip((-0.2, 0.2), loops, strict=True):
        got = [against(r, loop, base) for r in cases]
        at = [i + offset for i, g in enumerate(got) if g]
        got = [g for g in got if g]
        middle = [g["ratio"] for g in got]
        errors = [[g["ratio"] - g["low"] for g in got], [g["high"] - g["ratio"] for g in got]]
        axes.barh(at, middle, 0.4, xerr=errors, label=loop, color=COLOURS[loop],
                  error_kw={"lw": 0.8})


def _marks(cases, axes, base):
    """What is wanted, and where the floor is."""
    for name, marker, colour in (("wanted", "|", "#c02020"), ("floor", "D", COLOURS["floor"])):
        points = [(got["ratio"] if name == "floor" else got, i) for i, r in enumerate(cases)
                  if (got := against(r, "floor", base) if name == "floor"
                      else r["targets"].get(base))]
        if points:
            axes.scatter(*zip(*points, strict=True), marker=marker, color=colour, zorder=3,
                         s=60 if name == "wanted" else 9, label=name)


def ratios(results, figure, loops=("stock", "tidewire"), base="uvloop"):
    """Bars: how many times as fast as the base, with intervals."""
    cases = [r for r in results["cases"].values() if against(r, "tidewire", base)]
    if not cases:
        return False
    figure.set_size_inches(8, 1.2 + 0.24 * len(cases))
    axes = figure.subplots()
    _bars(cases, axes, loops, base)
    _marks(cases, axes, base)
    axes.axvline(1, color=COLOURS[base], label=base)
    axes.set_yticks(range(len(cases)), [r["title"] for r in cases], fontsize=7)
    axes.set_xscale("log")
    axes.set_xticks([0.1, 0.25, 0.5, 1, 2, 5, 10], ["0.1", "0.25", "0.5", "1", "2", "5", "10"])
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.legend(loc="lower right", fontsize=8)
    axes.grid(True, axis="x", alpha=0.3)
    axes.set_title(f"times as fast as {base}, per CPU second", fontsize=10)
    return True


# What a visitor of the README looks for, in plain words.
FRONT = {"http/uvicorn": "uvicorn, HTTP", "http/aiohttp": "aiohttp, HTTP",
         "db/asyncpg/one": "asyncpg, SELECT 1", "tls/protocol/1KiB": "TLS echo, 1 KiB",
         "tcp/streams/1KiB": "streams echo, 1 KiB", "udp/1KiB": "UDP echo, 1 KiB"}
FRONT_LOOPS = {"stock": "asyncio", "uvloop": "uvloop", "tidewire": "tidewire"}


def front(results, figure):
    """Three bars for each of six loads, on a linear axis."""
    longest = 1.0
    cases = {title: results["cases"][name] for name, title in FRONT.items()
             if name in results["cases"] and against(results["cases"][name], "tidewire", "uvloop")}
    if not cases:
        return False
    # Narrow, so that a phone shrinks its letters little.
    figure.set_size_inches(5.4, 0.9 + 0.55 * len(cases))
    axes = figure.subplots()
    for place, (loop, label) in enumerate(FRONT_LOOPS.items()):
        got = [against(r, loop, "uvloop") for r in cases.values()]
        ratios = [1.0 if loop == "uvloop" else g["ratio"] if g else 0 for g in got]
        longest = max(longest, *ratios)
        at = [i + (place - 1) * 0.26 for i in range(len(cases))]
        bars = axes.barh(at, ratios, 0.26, label=label, color=COLOURS[loop])
        if loop == "tidewire":
            axes.bar_label(bars, [f"{r:.2f}" for r in ratios], padding=3, fontsize=10)
    axes.set_yticks(range(len(cases)), list(cases), fontsize=11)
    axes.set_xlim(0, longest * 1.15)
    axes.invert_yaxis()
    axes.set_xlabel("operations per second of the server's CPU; uvloop = 1", fontsize=10)
    figure.legend(loc="outside upper center", ncols=len(FRONT_LOOPS), fontsize=10, frameon=False)
    axes.grid(True, axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    return True


def series(results, places):
    """{loop: [(x, cost), …]} for cases of which places gives x."""
    lines = {}
    for x, name in places:
        result = results["cases"].get(name)
        for loop in CURVES if result else ():
            costs = values(result, loop, "cost_us")
            if costs:
                lines.setdefault(loop, []).append((x, stats.median(costs)))
    return {loop: points for loop, points in lines.items() if len(points) > 2}


def _lines(axes, lines, yscale, **words):
    for loop, points in lines.items():
        axes.plot(*zip(*points, strict=True), marker="o", ms=3, label=loop, color=COLOURS[loop])
    axes.set(xscale="log", yscale=yscale, **words)
    if yscale == "linear":
        axes.set_ylim(0, None)
    axes.grid(True, alpha=0.3)
    axes.legend(fontsize=8)


def _beside(figure, found, yscale="log", **words):
    """The (title, lines) that have any, side by side."""
    found = [(title, lines) for title, lines in found if lines]
    if not found:
        return False
    figure.set_size_inches(4.5 * len(found), 3.6)
    for axes, (title, lines) in zip(figure.subplots(1, len(found), squeeze=False)[0], found,
                                    strict=True):
        _lines(axes, lines, yscale, title=title, **words)
    return True


def _over_sizes(results, over, least=0):
    return series(results, [(n, f"{over}/protocol/{size}") for size, n in SIZES.items()
                            if n >= least])


def sizes(results, figure):
    return _beside(figure, [(f"{over.upper()} echo, 10 connections", _over_sizes(results, over))
                            for over in ("tcp", "tls")],
                   xlabel="bytes per message", ylabel="server CPU us per message")


def per_kib(results, figure):
    found = []
    for over in ("tcp", "tls"):
        lines = _over_sizes(results, over, 1024)
        found.append((f"{over.upper()} echo, 10 connections", {
            loop: [(n, us * 1024 / n) for n, us in points] for loop, points in lines.items()}))
    return _beside(figure, found, xlabel="bytes per message", ylabel="server CPU us per KiB")


def connections(results, figure):
    return _beside(figure, [(f"{over.upper()} echo, 1 KiB", series(results, swept(over)))
                            for over in ("tcp", "tls")],
                   yscale="linear", xlabel="connections", ylabel="server CPU us per message")


PLOTS = (
    ("front", front, "Six loads on three loops."),
    ("ratios", ratios, "Every case, as a multiple of uvloop's speed: bars with 95 % intervals, "
     "what is wanted, and the floor."),
    ("connections", connections, "Cost of a message over the number of connections."),
    ("sizes", sizes, "Cost of a message over its size."),
    ("sizes-per-kib", per_kib, "The same per KiB."),
)


def draw(results, directory):
    """Write the plots that the results suffice for; [(path, caption)]."""
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "tidewire", "svg.fonttype": "none"})
    from matplotlib import pyplot
    directory.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, plot, caption in PLOTS:
        figure = pyplot.figure(layout="constrained")
        if plot(results, figure):
            path = directory / f"{name}.svg"
            figure.savefig(path, metadata={"Date": None})
            drawn.append((path, caption))
        pyplot.close(figure)
    return drawn
