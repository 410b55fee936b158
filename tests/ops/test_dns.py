"""getaddrinfo and getnameinfo."""
import asyncio
import concurrent.futures
import inspect
import itertools
import logging
import random
import socket
import subprocess
import sys
import threading

import pytest

STREAM, DGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM

# Hosts, ports and keywords; those of the first list need no thread.
LITERAL = [
    ("127.0.0.1", 80, {}),
    ("127.0.0.1", 80, {"type": STREAM}),
    ("127.0.0.1", 0, {"type": DGRAM, "proto": socket.IPPROTO_UDP}),
    ("127.0.0.1", None, {}),
    ("127.0.0.1", "80", {}),
    ("127.0.0.1", b"80", {"type": STREAM}),
    (b"127.0.0.1", 80, {}),
    ("255.255.255.255", 65535, {}),
    ("127.0.0.1", 65536, {"type": STREAM}),
    ("127.0.0.1", "65535", {"type": STREAM}),
    ("127.0.0.1", "65536", {"type": STREAM}),
    ("127.0.0.1", "000080", {"type": STREAM}),
    ("127.0.0.1", "99999", {"type": STREAM}),
    ("127.0.0.1", 1 << 70, {"type": STREAM}),
    ("127.0.0.1", "80", {"type": STREAM, "flags": socket.AI_NUMERICSERV}),
    ("127.0.0.1", 80, {"family": socket.AF_INET}),
    ("127.0.0.1", 80, {"family": socket.AF_INET6}),
    ("127.0.0.1", 80, {"family": socket.AF_INET6,
                       "flags": socket.AI_V4MAPPED}),
    ("127.0.0.1", 80, {"type": STREAM, "proto": socket.IPPROTO_UDP}),
    ("127.0.0.1", 80, {"type": 77}),
    ("127.0.0.1", 80, {"family": 77}),
    ("127.0.0.1", 80, {"flags": socket.AI_NUMERICHOST}),
    ("127.0.0.1", 80, {"flags": socket.AI_PASSIVE, "type": STREAM}),
    ("127.0.0.1", 80, {"flags": socket.AI_ADDRCONFIG, "type": STREAM}),
    ("127.0.0.1", 70000, {}),
    ("127.0.0.1", -1, {}),
    ("::1", 80, {}),
    ("::1", 80, {"family": socket.AF_INET}),
    ("::1", 80, {"family": socket.AF_INET6, "type": STREAM}),
    ("fe80::1%lo", 80, {"type": STREAM}),
    ("fe80::1%1", 80, {"type": STREAM}),
    ("fe80::1%nowhere0", 80, {"type": STREAM}),
    ("::ffff:127.0.0.1", 80, {"type": STREAM}),
    (None, 80, {"type": STREAM}),
    (None, 80, {"type": STREAM, "flags": socket.AI_PASSIVE}),
    (None, None, {}),
]
OTHERS = [
    ("localhost", 80, {"type": STREAM}),
    ("127.0.0.1", "http", {"type": STREAM}),
    ("127.0.0.1", "", {"type": STREAM}),
    ("127.0.0.1", "no such service", {"type": STREAM}),
    ("127.1", 80, {"type": STREAM}),
    ("1.2.3.4.5", 80, {"type": STREAM, "flags": socket.AI_NUMERICHOST}),
    ("no.such.host.invalid", 80, {}),
    ("", 80, {"type": STREAM}),
    ("127.0.0.1", 80, {"flags": socket.AI_CANONNAME, "type": STREAM}),
    ("localhost", 80, {"flags": socket.AI_NUMERICHOST}),
    ("1.2.3.4.", 80, {"flags": socket.AI_NUMERICHOST}),
    ("1.2.3.4 ", 80, {"flags": socket.AI_NUMERICHOST, "type": STREAM}),
    (" ::1", 80, {"flags": socket.AI_NUMERICHOST, "type": STREAM}),
    ("[::1]", 80, {"flags": socket.AI_NUMERICHOST, "type": STREAM}),
    (":", 80, {"flags": socket.AI_NUMERICHOST}),
    ("1\0", 80, {"flags": socket.AI_NUMERICHOST}),
    (5, 80, {}),
    ([], 80, {}),
    ("127.0.0.1", [], {}),
    ("127.0.0.1", 80.5, {}),
    ("127.0.0.1", 80, {"flags": "x"}),
    ("127.0.0.1", 80, {"type": None}),
    ("x" * 80, 80, {}),
]


class NoThreads(concurrent.futures.ThreadPoolExecutor):
    def __init__(self):
        super().__init__(1)
        self.used = 0

    def submit(self, *args, **kwargs):
        self.used += 1
        return super().submit(*args, **kwargs)


def outcome(function, *args, **kwargs):
    try:
        return function(*args, **kwargs)
    except BaseException as exc:
        return type(exc), str(exc)


@pytest.fixture
def executor(loop):
    executor = NoThreads()
    loop.set_default_executor(executor)
    return executor


@pytest.mark.parametrize("host, port, kwargs", LITERAL + OTHERS)
def test_as_the_socket_module(loop, executor, host, port, kwargs):
    want = outcome(socket.getaddrinfo, host, port, **kwargs)
    got = outcome(loop.run_until_complete,
                  loop.getaddrinfo(host, port, **kwargs))
    assert got == want


@pytest.mark.tidewire
@pytest.mark.parametrize("host, port, kwargs", LITERAL)
def test_literals_take_no_thread(loop, executor, host, port, kwargs):
    outcome(loop.run_until_complete, loop.getaddrinfo(host, port, **kwargs))
    assert executor.used == 0


HOSTS = ["127.0.0.1", "0.0.0.0", "255.255.255.255", "1.2.3.4", b"9.8.7.6",
         "::", "::1", "fe80::1", "2001:DB8::00FF", "::ffff:1.2.3.4",
         "1:2:3:4:5:6:7:8", b"::2", "::1.2.3.4", "fe80::1%1",
         "01.2.3.4", "1.2.3", "1.2.3.4\0", "::1\0", b"::1\0",
         bytearray(b"::1")]
PORTS = [0, 1, 80, 65535, 65536, 70000, -1, 2 ** 40, 2 ** 70, True, None,
         "80", "080", "0", "65535", "65536", b"443", b"", "", "8 0", "+8",
         "\u0663", "80\0", "000080", 80.0]
FAMILIES = [0, socket.AF_INET, socket.AF_INET6, 2, 10, 1, 77, -1, 2 ** 40,
            True, None]
TYPES = [0, STREAM, DGRAM, socket.SOCK_RAW, 1, 5, STREAM | 2048, -1, 2 ** 70]
PROTOS = [0, 6, 17, 1, socket.IPPROTO_TCP, 132, -1]
FLAGS = [0, socket.AI_PASSIVE, socket.AI_NUMERICHOST, socket.AI_NUMERICSERV,
         socket.AI_PASSIVE | socket.AI_NUMERICHOST, socket.AI_V4MAPPED,
         socket.AI_ALL, socket.AI_ADDRCONFIG, socket.AI_CANONNAME, 2 ** 20,
         -1]


def shape(found):
    """What a result is, down to the classes of its items."""
    if isinstance(found, (list, tuple)):
        return type(found), [shape(item) for item in found]
    return type(found), found


def combinations():
    """The ordinary ones all, and some thousands of the others."""
    yield from itertools.product(HOSTS[:13], [80, None, "80"], FAMILIES[:3],
                                 TYPES[:4], PROTOS[:3], FLAGS[:2])
    rng = random.Random(0)
    for _ in range(4000):
        yield [rng.choice(values) if rng.random() < .5 else values[0]
               for values in (HOSTS, PORTS, FAMILIES, TYPES, PROTOS, FLAGS)]


def test_every_combination_as_the_socket_module(loop, executor):
    async def ask():
        for host, port, family, type, proto, flags in combinations():
            kwargs = {"family": family, "type": type, "proto": proto,
                      "flags": flags}
            want = outcome(socket.getaddrinfo, host, port, **kwargs)
            try:
                got = await loop.getaddrinfo(host, port, **kwargs)
            except Exception as exc:
                got = exc.__class__, str(exc)
            assert shape(got) == shape(want), (host, port, kwargs)

    loop.run_until_complete(ask())


def test_a_patched_function_is_asked(loop, executor, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: [args])
    got = loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 80,
                                                   type=STREAM))
    assert got == [("127.0.0.1", 80, 0, STREAM, 0, 0)]


PATCHED = """
import asyncio, socket, sys
socket.getaddrinfo = lambda *args: [args]
sys.path[:0] = {path!r}
from support import factory
loop = factory({name!r})()
print(loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 80)))
loop.close()
"""


def test_a_function_patched_before_the_import_is_asked(loop_name):
    program = PATCHED.format(path=sys.path, name=loop_name)
    said = subprocess.run([sys.executable, "-c", program], check=True,
                          timeout=60, capture_output=True, text=True).stdout
    assert said == "[('127.0.0.1', 80, 0, 0, 0, 0)]\n"


AUDITED = """
import asyncio, socket, sys
sys.path[:0] = {path!r}
from support import factory
loop = factory({name!r})()
def hook(event, args):
    if event == "socket.getaddrinfo":
        print(args)
        if args[1] == 81:
            raise ZeroDivisionError
sys.addaudithook(hook)
loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 80, type=1, proto=6))
try:
    loop.run_until_complete(loop.getaddrinfo("::1", 81))
except ZeroDivisionError:
    print("refused")
loop.close()
"""


def test_audit_hooks_see_it(loop_name):
    program = AUDITED.format(path=sys.path, name=loop_name)
    said = subprocess.run([sys.executable, "-c", program], check=True,
                          timeout=60, capture_output=True, text=True).stdout
    assert said == ("('127.0.0.1', 80, 0, 1, 6)\n"
                    "('::1', 81, 0, 0, 0)\nrefused\n")


def test_names_take_a_thread(loop, executor, monkeypatch):
    threads = []

    def lookup(*args):
        threads.append(threading.current_thread())
        return [args]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    got = loop.run_until_complete(
        loop.getaddrinfo("name", 1, family=2, type=3, proto=4, flags=5))
    assert got == [("name", 1, 2, 3, 4, 5)]
    assert executor.used == 1
    assert threads[0] is not threading.current_thread()


def test_signatures(loop):
    for name in "getaddrinfo", "getnameinfo":
        assert (inspect.signature(getattr(type(loop), name))
                == inspect.signature(getattr(asyncio.BaseEventLoop, name)))
        assert inspect.iscoroutinefunction(getattr(loop, name))


def test_nothing_happens_before_it_is_awaited(loop):
    coro = loop.getaddrinfo("127.0.0.1", "x" * 100)
    assert asyncio.iscoroutine(coro)
    coro.close()
    with pytest.raises(TypeError):
        loop.getaddrinfo("127.0.0.1", 80, socket.AF_INET)


def test_closed_loop(make_loop):
    loop = make_loop()
    loop.close()
    for coro in (loop.getaddrinfo("127.0.0.1", 80),
                 loop.getaddrinfo("localhost", 80),
                 loop.getnameinfo(("127.0.0.1", 80), 3)):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            coro.send(None)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_debug_log(loop, run, caplog, host):
    loop.set_debug(True)
    with caplog.at_level(logging.DEBUG, "asyncio"):
        result = run(loop.getaddrinfo(host, 80, family=socket.AF_INET,
                                      type=STREAM))
    texts = [r.getMessage() for r in caplog.records]
    assert any(t.startswith(f"Get address info {host}:80, family=")
               for t in texts)
    assert any(t.startswith(f"Getting address info {host}:80, ")
               and t.endswith(f"ms: {result!r}") for t in texts)


NAMES = [
    (("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
    (("::1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
    (("::1", 80, 0, 0), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
    (("fe80::1", 80, 0, 1), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
    (("127.0.0.1", 53), 0),
    (("127.0.0.1", 53), socket.NI_DGRAM | socket.NI_NUMERICHOST),
    (("localhost", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
    (("127.0.0.1", 70000), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
    (("127.0.0.1",), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
    ("127.0.0.1", socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
    (None, 0),
    (("127.0.0.1", 80), "x"),
]


@pytest.mark.parametrize("address, flags", NAMES)
def test_getnameinfo(loop, executor, address, flags):
    want = outcome(socket.getnameinfo, address, flags)
    assert outcome(loop.run_until_complete,
                   loop.getnameinfo(address, flags)) == want


def test_getnameinfo_flags_default(run, loop):
    assert (run(loop.getnameinfo(("127.0.0.1", 80)))
            == socket.getnameinfo(("127.0.0.1", 80), 0))


@pytest.mark.tidewire
def test_numbers_take_no_thread(loop, executor):
    assert loop.run_until_complete(
        loop.getnameinfo(*NAMES[0])) == ("127.0.0.1", "80")
    assert executor.used == 0


def test_cancelled_lookup(loop, monkeypatch):
    started, go = threading.Event(), threading.Event()

    def lookup(*args):
        started.set()
        go.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", lookup)

    async def main():
        task = asyncio.ensure_future(loop.getaddrinfo("name", 80))
        while not started.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()

    loop.run_until_complete(main())
