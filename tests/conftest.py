"""What every test gets: a loop to run on, and a guard around it.

``--loop`` says which loop: ``tidewire`` (the default), ``stock`` (asyncio's
own: every test here must hold for it, it is the reference), or
``MODULE:CALLABLE``.

The guard fails a test that leaves an open descriptor or a thread behind, that
makes a loop report an error nobody asked for, that logs to the ``asyncio``
logger, or in which an exception could not be raised (``sys.unraisablehook``).
Tests that expect such things take the ``errors`` or ``logs`` fixture and
empty it with ``take()``.
"""
import asyncio
import faulthandler
import gc
import importlib
import logging
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import warnings

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import skips  # noqa: E402
import support  # noqa: E402

# Children run in other folders: PYTHONPATH=pkg must mean the same there.
if os.environ.get("PYTHONPATH"):
    os.environ["PYTHONPATH"] = os.pathsep.join(
        map(os.path.abspath, os.environ["PYTHONPATH"].split(os.pathsep)))


# -- options and markers ----------------------------------------------------

def pytest_addoption(parser):
    parser.addoption(
        "--loop", default=os.environ.get("TIDEWIRE_TEST_LOOP", "tidewire"),
        help="stock, tidewire (default), or MODULE:CALLABLE")
    parser.addoption(
        "--conformance", action="store_true",
        help="also run the tests marked conformance (minutes)")
    parser.addoption(
        "--long", type=float, nargs="?", const=3600, metavar="SECONDS",
        help="tests of long loads take so long (an hour)")
    parser.addoption(
        "--order", type=int, metavar="SEED",
        help="the files, and the tests in each, in an order of this number")


def pytest_configure(config):
    # Shells and nohup have what they put into the background ignore signals; children inherit it.
    for number, usual in ((signal.SIGINT, signal.default_int_handler),
                          (signal.SIGQUIT, signal.SIG_DFL), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    for line in (
            "conformance: other people's test suites; with --conformance",
            "ecosystem: programs of others, run on the loop",
            "timeout(seconds): pytest-timeout's limit",
            "allow_threads: the test leaves threads behind on purpose",
            "tidewire: about tidewire's own choices, not true of asyncio",
            "asyncio_defect(reason, since): asyncio itself fails it"):
        config.addinivalue_line("markers", line)
    for line in (
            "error",
            # Policies are deprecated from 3.14 on, by asyncio itself.
            "ignore:.*[Ee]vent_?[Ll]oop_?[Pp]olicy.*:DeprecationWarning",
            # Hypothesis counts references, which 3.14 has fewer of.
            "ignore:.*register_random:Warning",
            # Sockets of a test that failed are not worth a second report.
            "default::pytest.PytestUnraisableExceptionWarning"):
        config.addinivalue_line("filterwarnings", line)


def pytest_report_header(config):
    name = config.getoption("--loop")
    lines = [f"loop: {name} ({support.factory_name(name)})"]
    if (seed := config.getoption("--order")) is not None:
        lines.append(f"order: {seed}")
    if name == "tidewire":
        try:
            lines.append(f"from: {importlib.import_module(name).__file__}")
        except ImportError as exc:
            lines.append(f"from: nowhere, {exc}")
    return lines


def pytest_terminal_summary(terminalreporter):
    if skipped := terminalreporter.stats.get("skipped"):
        terminalreporter.section(f"{len(skipped)} skipped", sep="-")
        for line in skips.lines(skips.of_reports(skipped)):
            terminalreporter.line(line)


def pytest_collection_finish(session):
    # Tests collect a lot; what pytest itself has made need not be looked at.
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config, items):
    stock = config.getoption("--loop") != "tidewire"
    skip_slow = pytest.mark.skip(reason="asked for by --conformance")
    skip_own = pytest.mark.skip(reason="about tidewire only")
    for item in items:
        if (item.get_closest_marker("conformance")
                and not config.getoption("--conformance")):
            item.add_marker(skip_slow)
        if stock and item.get_closest_marker("tidewire"):
            item.add_marker(skip_own)
        defect = item.get_closest_marker("asyncio_defect")
        if (stock and defect
                and sys.version_info >= defect.kwargs.get("since", (3,))):
            item.add_marker(pytest.mark.skip(
                reason=f"asyncio's own defect: {defect.args[0]}"))
    if (seed := config.getoption("--order")) is not None:
        items[:] = shuffled(items, random.Random(seed))


def shuffled(items, rng):
    files = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    groups = list(files.values())
    rng.shuffle(groups)
    for group in groups:
        rng.shuffle(group)
    return [item for group in groups for item in group]


# -- the guard --------------------------------------------------------------

class Expected(list):
    """A list that must be empty when the test ends; ``take()`` empties it."""

    def take(self):
        out = list(self)
        self.clear()
        return out


class LogList(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.records = Expected()

    def emit(self, record):
        # "Executing ... took 0.1 seconds": a busy machine, no defect.  Tests
        # of this very message ask for it with ``slow_logs``.
        if record.getMessage().startswith("Executing "):
            self.slow.append(record.getMessage())
            return
        if record.getMessage().startswith("Close running child process"):
            return          # debug mode tells of each, and so it should
        self.records.append(record)

    @property
    def slow(self):
        return self.__dict__.setdefault("_slow", [])


def open_descriptors():
    out = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            out[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass            # the one listdir itself had open
    return out


def settle(check, seconds=5.0):
    """Wait for check() to give something false; returns its last result."""
    deadline = time.monotonic() + seconds
    while True:
        left = check()
        if not left or time.monotonic() > deadline:
            return left
        gc.collect()
        time.sleep(0.01)


def stderr_of_pytest(config):
    try:
        from _pytest.faulthandler import fault_handler_stderr_fd_key
        return config.stash[fault_handler_stderr_fd_key]
    except Exception:
        return 2


def limit_of(request):
    marker = request.node.get_closest_marker("timeout")
    if marker:
        return float(marker.args[0])
    try:
        return float(request.config.getini("timeout") or 60)
    except (KeyError, ValueError):      # no pytest-timeout
        return 60.0


class Guard:
    def __init__(self):
        self.errors = Expected()        # contexts given to exception handlers
        self.unraisable = Expected()
        self.log = LogList()

    def on_unraisable(self, info):
        text = "".join(traceback.format_exception_only(info.exc_value))
        self.unraisable.append(f"{info.err_msg or 'in'} {info.object!r}: "
                               f"{text.strip()}")

    def on_thread_exception(self, args):
        self.unraisable.append(f"thread {args.thread}: {args.exc_value!r}")


class Watchdog:
    """pytest-timeout raises in the test; a loop may swallow that.

    It is a thread, which costs more than most tests: one serves the tests
    of half a minute.
    """
    limit, armed = 0.0, 0.0

    @classmethod
    def arm(cls, request):
        limit, now = limit_of(request), time.monotonic()
        if limit != cls.limit or now > cls.armed + 30:
            cls.limit, cls.armed = limit, now
            faulthandler.dump_traceback_later(
                limit + 45, exit=True, file=stderr_of_pytest(request.config))


def pytest_unconfigure(config):
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def guard(request):
    state = Guard()
    Watchdog.arm(request)
    hooks = sys.unraisablehook, threading.excepthook
    sys.unraisablehook = state.on_unraisable
    threading.excepthook = state.on_thread_exception
    logger = logging.getLogger("asyncio")
    logger.addHandler(state.log)
    fds, threads = open_descriptors(), set(threading.enumerate())
    try:
        yield state
        problems = []
        if state.errors or state.unraisable or state.log.records:
            gc.collect()
        late = settle(lambda: set(open_descriptors()) - set(fds))
        if late:
            now = open_descriptors()
            problems.append("descriptors left open: %r"
                            % {fd: now.get(fd) for fd in sorted(late)})
        gone = set(fds) - set(open_descriptors())
        if gone:
            problems.append("descriptors closed that were not ours: %r"
                            % {fd: fds[fd] for fd in sorted(gone)})
        if not request.node.get_closest_marker("allow_threads"):
            left = settle(lambda: set(threading.enumerate()) - threads)
            if left:
                problems.append(f"threads left: {left}")
        problems += [f"loop reported: {c}" for c in state.errors]
        problems += [f"unraisable: {u}" for u in state.unraisable]
        problems += [f"logged: {r.getMessage()}" for r in state.log.records]
        if problems:
            more = len(problems) - 10
            text = "\n".join(p[:400] for p in problems[:10])
            pytest.fail(text + (f"\nand {more} more" if more > 0 else ""),
                        pytrace=False)
    finally:
        sys.unraisablehook, threading.excepthook = hooks
        logger.removeHandler(state.log)


@pytest.fixture
def errors(guard):
    """Contexts that loops gave to their exception handlers."""
    return guard.errors


@pytest.fixture
def unraisable(guard):
    return guard.unraisable


@pytest.fixture
def logs(guard):
    """Records of the asyncio logger, warnings and worse."""
    return guard.log.records


@pytest.fixture
def slow_logs(guard):
    """Texts of debug mode's reports of slow callbacks."""
    return guard.log.slow


# -- loops ------------------------------------------------------------------

@pytest.fixture(scope="session")
def loop_name(request):
    return request.config.getoption("--loop")


@pytest.fixture(scope="session")
def loop_factory(loop_name):
    return support.factory(loop_name)


@pytest.fixture(scope="session", autouse=True)
def first_loop(loop_name, loop_factory):
    """libuv keeps a pipe from its first loop on: no test's leak."""
    loop_factory().close()
    if loop_name == "tidewire" and "libuv" in importlib.import_module(
            "tidewire._core").build_info()["pollers"]:
        loop_factory(poller="libuv").close()


@pytest.fixture
def is_stock(loop_name):
    return loop_name == "stock"


@pytest.fixture
def make_loop(loop_factory, guard):
    """Make loops that report to the guard; all are closed at the end."""
    made = []

    def make():
        loop = loop_factory()
        made.append(loop)
        loop.set_exception_handler(
            lambda loop, context: guard.errors.append(context))
        return loop

    try:
        yield make
    finally:
        for loop in made:
            if not loop.is_closed():
                finish(loop)
        made.clear()


def finish(loop):
    """As asyncio.Runner ends a loop."""
    if loop.is_running():
        raise RuntimeError("a test left its loop running")
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=5))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture
def ordinary_mode(monkeypatch):
    """Loops made from now on, and children's, are not in debug mode."""
    monkeypatch.delenv("PYTHONASYNCIODEBUG", raising=False)
    monkeypatch.delenv("PYTHONDEVMODE", raising=False)
    monkeypatch.setattr("asyncio.coroutines._is_debug_mode", lambda: False)


@pytest.fixture
def loop(make_loop):
    return make_loop()


@pytest.fixture
def run(loop):
    """run(coroutine): its result; TimeoutError after ten seconds."""
    def run(coro, timeout=10.0):
        return loop.run_until_complete(
            asyncio.wait_for(coro, timeout * support.SLOWER))
    return run


@pytest.fixture(scope="session")
def preloaded(tmp_path_factory):
    """preloaded(C source): the library's path, and an environment that preloads it."""
    def preloaded(source):
        if not shutil.which("cc"):
            pytest.skip("no cc here")
        folder = tmp_path_factory.mktemp("preloaded")
        (folder / "library.c").write_text(source)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", "library.so", "library.c", "-ldl"],
                       cwd=folder, check=True)
        library = folder / "library.so"
        return library, {"LD_PRELOAD": f"{os.environ.get('LD_PRELOAD', '')} {library}".strip()}
    return preloaded


# -- programs of their own --------------------------------------------------

PRELUDE = """\
import asyncio, gc, os, signal, socket, sys, threading, time, warnings
import faulthandler; faulthandler.enable()
sys.path[:0] = {path!r}
import support
new_loop = support.factory({loop!r})
"""


@pytest.fixture
def script(loop_name):
    """Run a program that may take its interpreter down.

    script(source) runs it with new_loop() and support at hand, and asserts
    that it ended well; returns what it printed, line by line.
    """
    def script(source, *, check=True, timeout=20, args=(), env=None,
               python=("-X", "faulthandler")):
        paths = [str(HERE)] + [p for p in sys.path if p]
        text = PRELUDE.format(path=paths, loop=loop_name)
        done = subprocess.run(
            [sys.executable, *python, "-c", text + textwrap.dedent(source),
             *args],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=timeout * support.SLOWER, env={**os.environ, **(env or {})})
        if check:
            assert done.returncode == 0, (
                f"exit status {done.returncode}\n{done.stdout}{done.stderr}")
            return done.stdout.splitlines()
        return done
    return script


@pytest.fixture
def no_gc():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.fixture
def catch_warnings():
    """Warnings as a list, none is an error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
