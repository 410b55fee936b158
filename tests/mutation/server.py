"""Runs tests in forked children of a process that has imported all but the extension."""
import asyncio  # noqa: F401
import ctypes
import importlib
import importlib.metadata
import json
import os
import resource
import select
import signal
import ssl  # noqa: F401
import sys
import time

import pytest

# Without them pytest would compile the tests for each mutant again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

MEMORY = 8 << 30


class Watch:
    """A plugin: writes which test runs, and which failed."""

    def __init__(self, out):
        self.out = out

    def say(self, *what):
        os.write(self.out, (json.dumps(what) + "\n").encode())

    def pytest_runtest_logstart(self, nodeid):
        self.say("start", nodeid)

    def pytest_runtest_logreport(self, report):
        if report.outcome == "failed":
            self.say("failed", report.nodeid)

    def pytest_collectreport(self, report):
        if report.outcome == "failed":
            self.say("failed", None)


class Server:
    def __init__(self, root):
        self.root = str(root)
        # What a test's children leave behind comes to us.
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
        for entry in importlib.metadata.entry_points(group="pytest11"):
            entry.load()
        for name in ("trustme", "hypothesis"):
            try:
                importlib.import_module(name)
            except ImportError:
                pass

    def child(self, lib, tests, seconds, poller, out):
        os.setsid()
        os.chdir(self.root)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        most = int(30 + 3 * seconds)        # a loop that spins: SIGXCPU ends it
        resource.setrlimit(resource.RLIMIT_CPU, (most, most + 5))
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nowhere, number)
        os.environ["PYTHONPATH"] = lib
        os.environ["TIDEWIRE_TEST_SLOWER"] = "4"
        if poller:
            os.environ["TIDEWIRE_POLLER"] = poller
        sys.path.insert(0, lib)
        status = pytest.main(
            ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:faulthandler", "-o", "timeout=20",
             "-W", "ignore::pytest.PytestAssertRewriteWarning", *tests], plugins=[Watch(out)])
        os._exit(int(status))

    def run(self, lib, tests, seconds, poller):
        """(None, None): all passed; else how it ended, and which test."""
        came, out = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(came)
            self.child(str(lib), tests, seconds, poller, out)
        os.close(out)
        end = time.monotonic() + 120 + 10 * seconds     # the machine may be busy
        test, failed, data = None, False, b""
        status = None
        while status is None and time.monotonic() < end:
            if select.select([came], [], [], 0.05)[0]:
                data += os.read(came, 65536)
            done, how = os.waitpid(pid, os.WNOHANG)
            status = how if done else None
        for line in data.splitlines():
            what, nodeid = json.loads(line)
            if not failed:
                test, failed = nodeid, what == "failed"
        os.close(came)
        self.end(pid, status is None)
        if status is None:
            return "hang", test
        if os.WIFSIGNALED(status):
            return f"crash {os.WTERMSIG(status)}", test
        code = os.WEXITSTATUS(status)
        if code == 0:
            return None, None
        if failed:
            return "failed", test
        return f"exit {code}", test

    @staticmethod
    def end(pid, alive):
        """The group of the tests, and whatever it left to us."""
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        if alive:
            os.waitpid(pid, 0)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
