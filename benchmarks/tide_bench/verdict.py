"""What is said of results: which rows are reached, which are close, which are behind."""
from . import stats

PAIRS = 15          # a close row counts only with so many
MARGIN = 0.15       # what is close
HOME = ("stock", "uvloop")      # never below these, whatever the case


def column(result, loop, key):
    return [s and s.get(key) for s in result["samples"].get(loop, [])]


def values(result, loop, key):
    return [v for v in column(result, loop, key) if v is not None]


def against(result, loop, base):
    """The pairs' median ratio of loop to base, with its interval; or None."""
    return stats.compare(column(result, loop, "rate"), column(result, base, "rate"))


def reached(result, loop):
    """Whether every target is met: "yes", "no", or "" without any.

    "yes*": met, but so closely that there are too few pairs; "–": not all of the loops
    that it is wanted against were there.
    """
    says = set()
    for base, wanted in result["targets"].items():
        got = against(result, loop, base)
        if got:
            near = got["ratio"] < wanted * (1 + MARGIN) and got["pairs"] < PAIRS
            says.add("no" if got["ratio"] < wanted else "yes*" if near else "yes")
        elif values(result, loop, "rate"):
            says.add("–")
    if result["limit"] and values(result, loop, "bytes"):
        size = stats.median(values(result, loop, "bytes"))
        says.add("yes" if size <= result["limit"] else "no")
    return next((word for word in ("no", "–", "yes*", "yes") if word in says), "")


def close(result, loop):
    """The bases that a loop is within the margin of what is wanted against.

    Wanted is the target; and 1 against the loops that it must never be below.
    """
    bars = [*result["targets"].items(), *((base, 1.0) for base in HOME)]
    found = set()
    for base, wanted in bars:
        got = against(result, loop, base)
        if got and abs(got["ratio"] / wanted - 1) < MARGIN:
            found.add(base)
    return found


def below(results, loop):
    """(case's title, base, ratio, wanted of it or None) wherever another loop is faster."""
    bases = [name for name in results["loops"] if name not in (loop, "floor")]
    for result in results["cases"].values():
        for base in bases:
            got = against(result, loop, base)
            if got and got["ratio"] < 1:
                yield result["title"], base, got, result["targets"].get(base)
