"""Debug mode: the same lines in the log, on asyncio's loop and on ours.

With PYTHONASYNCIODEBUG=1 all programs of test_parity compare them.
"""
import asyncio

import pytest

from parity import harness, programs

PROGRAMS = [
    "tcp: nothing in made", "unix: pause, resume in data", "unix: close in made",
    "unix: raise in data", "unix: peer closes, close, queued", "unix: peer resets, queued",
    "order_made_and_returned", "serving-factory fails", "serving-unix", "exception_in-reader",
    "datagrams-echo", "pipes-echo", "pipes-pause", "pipes-reader closes", "subprocesses-cat",
    "subprocesses-closed", "subprocesses-missing", "tls-echo", "tls-wrong name", "tls-plain peer",
    "start_tls-client", "start_tls_fails-wrong name", "sendfile over unix: whole",
]


@pytest.mark.parametrize("name", PROGRAMS)
def test_lines(name, loop_factory):
    def traces():
        return [harness.run(factory, programs.PROGRAMS[name], debug=True)
                for factory in (asyncio.SelectorEventLoop, loop_factory)]

    differences = harness.compare(*traces()) and harness.compare(*traces())
    assert not differences, "\n".join(differences)


def test_there_are_lines():
    trace = harness.run(asyncio.SelectorEventLoop, programs.PROGRAMS["tls-echo"], debug=True)
    assert len(trace["logs"]) >= 4


def test_planted_line_is_found(monkeypatch):
    trace = harness.run(asyncio.SelectorEventLoop, programs.PROGRAMS["pipes-pause"], debug=True)
    silent = {**trace, "logs": [line for line in trace["logs"] if "pauses" not in line]}
    assert harness.compare(trace, silent)
