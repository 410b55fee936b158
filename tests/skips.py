"""Why tests were skipped, in a few lines for the one who ran them.

A skipped test tells its own reason; here the reasons are sorted into what a
person may want to know: what is missing on this machine, and what is about
another Python, another way to build or another command.
"""
import platform
import re

# The first pattern that is found in a reason names its group.
MISSING = re.compile(
    r"^(no|needs) (?P<name>.*?)(?: here.*| within reach| of ours)?$"
    r"|^could not import '(?P<module>[\w.]+)'"
    r"|^(?P<program>[\w.-]+) is not installed$"
    r"|^(?P<old>[\w.-]+ \S+) is older than ")
GROUPS = [
    ("run by other commands: make conformance, make test-ecosystem",
     r"--conformance|make test-ecosystem|not asked for"),
    ("not for asyncio's own loop", r"about tidewire only|tidewire's own|asyncio's own defect"),
    ("about another version of Python (this is {python})",
     r"\b3\.\d+|later releases|this version|all share the GIL|no __buffer__|create_connection\(\)'s"
     r"|child watchers"),
    ("about another build or mode: debug mode, sanitizers, free threads, the portable build",
     r"debug|sanitize|free-threaded|portable|libuv|slow then|quick then"),
]
OTHER = "for reasons of their own (pytest -rs prints all)"


def group(reason):
    """The group of a reason, and the name of what is missing if that is it."""
    for text, pattern in GROUPS:
        if re.search(pattern, reason):
            return text, None
    if found := MISSING.match(reason):
        return "not on this machine", next(filter(None, found.groupdict().values()))
    return OTHER, None


def lines(reasons):
    """At most five lines, the largest groups first."""
    counts, names = {OTHER: 0}, []
    for reason in reasons:
        text, name = group(reason)
        counts[text] = counts.get(text, 0) + 1
        if name and name not in names:
            names.append(name)
    order = sorted(counts, key=lambda text: (text == OTHER, -counts[text]))
    while len(order) > 5:       # the smallest group is not worth a line of its own
        counts[OTHER] += counts.pop(order.pop(-2))
    shown = []
    for text in order:
        number = counts[text]
        if not number:
            continue
        if text == "not on this machine":
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            text += ": " + ", ".join(names[:8]) + more
        shown.append(f"{number:5} {text.format(python=platform.python_version())}")
    return shown


def of_reports(reports):
    """The reasons in pytest's reports."""
    for report in reports:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        yield reason.removeprefix("Skipped: ")
