"""A plugin for pytest: which parts of the extension each test runs.

    TW_TRACE=FILE TW_TRACE_OUT=FILE.jsonl python -m pytest -p trace    (with this folder in PYTHONPATH)

It needs a build that trace.c is part of.  One line of JSON for each test: its name, its seconds
of processor time (which a busy machine does not change), whether it passed, and the addresses,
relative to the start of the extension, of the basic blocks that ran in the test and its children.
"""
import json
import mmap
import os
import re

import pytest

SIZE = 16 << 20
NAME, OUT = os.environ["TW_TRACE"], os.environ["TW_TRACE_OUT"]

with open(NAME, "wb") as file:
    file.truncate(SIZE)
with open(NAME, "r+b") as file:
    marks = mmap.mmap(file.fileno(), SIZE)
HIGH = 4 << 20          # the extension is smaller
EMPTY = bytes(HIGH)
outcomes = {}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item, nextitem):
    marks[:HIGH] = EMPTY
    before = sum(os.times()[:4])        # and of children that were waited for
    yield
    seconds = sum(os.times()[:4]) - before
    ran = [match.start() for match in re.finditer(b"\x01", marks[:HIGH])]
    with open(OUT, "a") as out:
        print(json.dumps([item.nodeid, round(seconds, 3), outcomes.pop(item.nodeid, True), ran]),
              file=out)


def pytest_runtest_logreport(report):
    outcomes[report.nodeid] = outcomes.get(report.nodeid, True) and report.outcome == "passed"
