"""getaddrinfo and getnameinfo."""
import asyncio
import concurrent.futures
import inspect
import logging
import socket
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
    ("127.0.0.1", "no such service", {"type": STREAM}),
    ("127.1", 80, {"type": STREAM}),
    ("1.2.3.4.5", 80, {"type": STREAM, "flags": socket.AI_NUMERICHOST}),
    ("no.such.host.invalid", 80, {}),
    ("", 80, {"type": STREAM}),
    ("127.0.0.1", 80, {"flags": socket.AI_CANONNAME, "type": STREAM}),
    ("localhost", 80, {"flags": socket.AI_NUMERICHOST}),
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
