"""Names that the C library looks up, on loops with the executor they were made with."""
import _socket
import asyncio
import concurrent.futures
import itertools
import os
import random
import select
import socket
import threading

import pytest

from ops.test_dns import outcome, shape

# In debug mode asyncio asks in an executor, by a function of its own.
pytestmark = pytest.mark.usefixtures("ordinary_mode")

STREAM, DGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM
# Those that need no name server, and those that do unless they are said to be addresses.
HOSTS = ["localhost", b"localhost", "LOCALHOST", None, "127.1", "127.0.0.1",
         "::1", "fe80::1%lo", "0x7f000001", 5, bytearray(b"localhost")]
NUMERIC = ["localhost", "localhost.", "", b"", ".", "a..b", ".localhost",
           "x" * 63, "x" * 64, b"x" * 64, "x" * 80, ".".join(["y" * 50] * 6),
           "localhost\0", b"localhost\0", "loc\xe4lhost", "\u65e5\u672c",
           "\u2488com", "\ud800", "1.2.3.4.5", "local host", "localhost\n",
           "-", b"\xff", "x" * 63 + ".", "x" * 64 + ".", "a." * 130]
PORTS = [80, 0, 65535, 65536, -1, 2 ** 40, 2 ** 70, True, None, "80", b"80",
         "http", b"http", "no such service", "", b"", "x" * 100, "80\0",
         "\u0663", "-1", "65536", 80.0, []]
FAMILIES = [0, socket.AF_INET, socket.AF_INET6, 1, 77, -1, 2 ** 40, None]
TYPES = [STREAM, 0, DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET, 77, -1]
PROTOS = [0, 6, 17, socket.IPPROTO_TCP, 132, 136, 255, -1]
FLAGS = [0, socket.AI_CANONNAME, socket.AI_PASSIVE, socket.AI_NUMERICHOST,
         socket.AI_NUMERICSERV, socket.AI_ADDRCONFIG, socket.AI_V4MAPPED,
         socket.AI_ALL | socket.AI_V4MAPPED, 2 ** 20, -1, "x"]


def local(question):
    """The same, not to be asked of a name server: localhost may have no IPv6."""
    host, port, family, type, proto, flags = question
    if family == socket.AF_INET6 and flags in FLAGS[:-2]:
        flags |= socket.AI_NUMERICHOST
    return host, port, family, type, proto, flags


def combinations():
    yield from itertools.product(
        HOSTS[:3], [80, "http", None], FAMILIES[:3], TYPES[:3], [0, 6],
        FLAGS[:3])
    for host in HOSTS:
        yield host, 80, 0, STREAM, 0, 0
    for host in NUMERIC:
        yield host, 80, 0, STREAM, 0, socket.AI_NUMERICHOST
    for port in PORTS:
        yield "localhost", port, 0, STREAM, 0, 0
    rng = random.Random(1)
    for _ in range(2000):
        yield [rng.choice(values) if rng.random() < .3 else values[0]
               for values in (HOSTS, PORTS, FAMILIES, TYPES, PROTOS, FLAGS)]


async def awaited(coro):
    try:
        return await coro
    except Exception as exc:
        return type(exc), str(exc)


def test_every_combination_as_the_socket_module(loop, monkeypatch):
    async def ask():
        for host, port, family, type, proto, flags in map(
                local, combinations()):
            kwargs = {"family": family, "type": type, "proto": proto,
                      "flags": flags}
            want = outcome(socket.getaddrinfo, host, port, **kwargs)
            got = await awaited(loop.getaddrinfo(host, port, **kwargs))
            assert shape(got) == shape(want), (host, port, kwargs)

    loop.run_until_complete(ask())


ADDRESSES = [("127.0.0.1", 80), ("127.0.0.1", 0), ("127.0.0.1", 65535),
             ("127.0.0.1", 65536), ("127.0.0.1", -1), ("127.0.0.1", True),
             ("127.0.0.1", "80"), ("127.0.0.1", 80, 0, 0), ("::1", 80),
             ("127.0.0.1", 80, 0), ("::1", 80, 0), ("::1", 80, 1, 1),
             ("::1", 80, 0xfffff, 0), ("::1", 80, 0x100000, 0),
             ("::1", 80, 0, 2 ** 32), ("::1", 80, -1, 0), ("::1", 80, 0, -1),
             ("::1", 80, 0, 0, 0), ("fe80::1", 80, 0, 1), ("fe80::1%lo", 80),
             ("::ffff:127.0.0.1", 80), ("127.0.0.1",), (), [], None,
             ["127.0.0.1", 80], ("localhost", 80), ("", 80),
             (b"127.0.0.1", 80), ("127.0.0.1\0", 80), ("\xe4", 80)]
NAME_FLAGS = [0, socket.NI_NUMERICHOST, socket.NI_NUMERICSERV, socket.NI_DGRAM,
              socket.NI_NAMEREQD | socket.NI_NUMERICHOST, socket.NI_NOFQDN,
              2 ** 20, -1, True, None]


@pytest.mark.parametrize("address", ADDRESSES, ids=repr)
def test_getnameinfo_as_the_socket_module(loop, address):
    async def ask():
        for flags in NAME_FLAGS:
            if ":" in str(address) and flags in NAME_FLAGS[:-3]:
                flags |= socket.NI_NUMERICHOST
            want = outcome(socket.getnameinfo, address, flags)
            got = await awaited(loop.getnameinfo(address, flags))
            assert shape(got) == shape(want), flags

    loop.run_until_complete(ask())


# -- which way --------------------------------------------------------------

def find(loop, run):
    """Does a lookup of each kind, and are the answers right?"""
    assert (run(loop.getaddrinfo("localhost", 80, type=STREAM))
            == socket.getaddrinfo("localhost", 80, type=STREAM))
    assert (run(loop.getnameinfo(("127.0.0.1", 80)))
            == socket.getnameinfo(("127.0.0.1", 80), 0))


class Counting(concurrent.futures.ThreadPoolExecutor):
    used = 0

    def submit(self, *args, **kwargs):
        self.used += 1
        return super().submit(*args, **kwargs)


@pytest.mark.tidewire
def test_names_take_no_executor(loop, run, monkeypatch):
    find(loop, run)
    assert loop._default_executor is None
    run(loop.run_in_executor(None, int))
    monkeypatch.setattr(loop._default_executor, "submit", None)
    find(loop, run)


def test_an_executor_that_was_set_is_used(loop, run):
    find(loop, run)
    executor = Counting(1)
    loop.set_default_executor(executor)
    find(loop, run)
    assert executor.used == 2


def test_run_in_executor_of_a_subclass(loop):
    used = []

    class Loop(type(loop)):
        def run_in_executor(self, executor, function, *args):
            used.append((executor, function, args))
            return super().run_in_executor(executor, function, *args)

    loop = Loop()
    find(loop, loop.run_until_complete)
    assert used == [
        (None, socket.getaddrinfo, ("localhost", 80, 0, STREAM, 0, 0)),
        (None, socket.getnameinfo, (("127.0.0.1", 80), 0))]
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_run_in_executor_of_an_instance(loop, run, monkeypatch):
    def answer(*args):
        future = loop.create_future()
        future.set_result(args)
        return future

    monkeypatch.setattr(loop, "run_in_executor", answer)
    assert (run(loop.getaddrinfo("localhost", 80))
            == (None, socket.getaddrinfo, "localhost", 80, 0, 0, 0, 0))
    assert (run(loop.getnameinfo(("127.0.0.1", 80)))
            == (None, socket.getnameinfo, ("127.0.0.1", 80), 0))


def test_executor_that_was_shut_down(loop, run):
    find(loop, run)
    run(loop.shutdown_default_executor())
    for coro in (loop.getaddrinfo("localhost", 80),
                 loop.getnameinfo(("127.0.0.1", 80))):
        with pytest.raises(RuntimeError, match="Executor shutdown has been"):
            run(coro)


def test_functions_that_were_patched_are_asked(loop, run, monkeypatch):
    monkeypatch.setattr(socket, "getnameinfo", lambda *args: args)
    assert run(loop.getnameinfo(("127.0.0.1", 80), 7)) == (("127.0.0.1", 80), 7)
    monkeypatch.setattr(_socket, "getaddrinfo", lambda *args: [(2, 1, 6, "", args)])
    assert (run(loop.getaddrinfo("localhost", 80))
            == [(2, 1, 6, "", ("localhost", 80, 0, 0, 0, 0))])


def test_audit_hooks_see_it(script):
    out = script("""
        def hook(event, args):
            if event in ("socket.getaddrinfo", "socket.getnameinfo"):
                print(event, args)
                if args[0] in ("refused", ("127.0.0.1", 81)):
                    raise ZeroDivisionError

        async def main():
            loop = asyncio.get_running_loop()
            await loop.getaddrinfo("localhost", "80", type=socket.SOCK_STREAM)
            await loop.getnameinfo(("127.0.0.1", 80), 1)
            for coro in (loop.getaddrinfo(b"localhost", None),
                         loop.getaddrinfo("refused", 80),
                         loop.getnameinfo(("127.0.0.1", 81))):
                try:
                    await coro
                    print("went on")
                except ZeroDivisionError:
                    print("was refused")

        loop = new_loop()
        sys.addaudithook(hook)
        loop.run_until_complete(main())
        loop.close()
    """)
    assert out == [
        "socket.getaddrinfo ('localhost', '80', 0, 1, 0)",
        "socket.getnameinfo (('127.0.0.1', 80),)",
        "socket.getaddrinfo (b'localhost', None, 0, 0, 0)", "went on",
        "socket.getaddrinfo ('refused', 80, 0, 0, 0)", "was refused",
        "socket.getnameinfo (('127.0.0.1', 81),)", "was refused"]


@pytest.mark.tidewire
def test_audit_hooks_run_in_the_loops_thread(script):
    out = script("""
        def hook(event, args):
            if event in ("socket.getaddrinfo", "socket.getnameinfo"):
                print(event, threading.current_thread().name)

        loop = new_loop()
        sys.addaudithook(hook)
        loop.run_until_complete(loop.getaddrinfo("localhost", 80))
        loop.run_until_complete(loop.getnameinfo(("127.0.0.1", 80)))
        loop.close()
    """)
    assert out == ["socket.getaddrinfo MainThread",
                   "socket.getnameinfo MainThread"]


def test_no_thread_to_be_had(script):
    out = script("""
        loop = new_loop()
        threading.stack_size(2 ** 46)
        for _ in range(2):
            try:
                loop.run_until_complete(loop.getaddrinfo("localhost", 80))
                print("found")
            except RuntimeError as exc:
                print(exc)
            threading.stack_size(0)
        loop.close()
    """)
    assert out == ["can't start new thread", "found"]


def wait_for_a_ring():
    """Until an eventfd of this process is readable; stock asyncio has none."""
    links = {fd: os.path.join("/proc/self/fd", fd) for fd in os.listdir("/proc/self/fd")}
    rung = [int(fd) for fd, link in links.items()
            if os.path.lexists(link) and os.readlink(link) == "anon_inode:[eventfd]"]
    if rung:
        assert select.select(rung, [], [], 10)[0]


def test_another_thread_runs_the_loop_when_the_answer_is_there(make_loop):
    """The main thread's run has another wakeup descriptor; the answer rang the old one."""
    def begin():
        loop = make_loop()
        task = loop.create_task(loop.getaddrinfo("localhost", 80))
        loop.call_soon(loop.stop)
        loop.run_forever()      # one turn
        begun.append((loop, task))

    begun = []
    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    (loop, task), = begun
    wait_for_a_ring()
    assert loop.run_until_complete(asyncio.wait_for(task, 10))


# -- many -------------------------------------------------------------------

def test_many_at_once(loop, run):
    want = socket.getaddrinfo("localhost", 80, type=STREAM)

    async def main():
        coros = [loop.getaddrinfo("localhost", 80, type=STREAM)
                 for _ in range(1000)]
        assert await asyncio.gather(*coros) == [want] * 1000
        coros = [loop.getaddrinfo("localhost", i, type=STREAM)
                 for i in range(1000)]
        assert [found[0][4][1] for found in await asyncio.gather(*coros)
                ] == list(range(1000))

    run(main())


def test_while_the_loop_is_busy(loop, run):
    async def main():
        task = asyncio.ensure_future(loop.getaddrinfo("localhost", 80))
        for _ in range(10 ** 6):
            await asyncio.sleep(0)
            if task.done():
                return await task
        raise AssertionError("never done")

    assert run(main())


def test_loops_of_several_threads(loop_factory):
    answers = []

    def work():
        loop = loop_factory()

        async def main():
            for _ in range(100):
                answers.append(await loop.getaddrinfo("localhost", 80))

        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [socket.getaddrinfo("localhost", 80)] * 400


def test_closing_right_after_an_answer(loop_factory):
    for _ in range(50):
        loop = loop_factory()
        loop.run_until_complete(loop.getaddrinfo("localhost", 80))
        loop.close()


def test_a_call_soon_that_fails(loop):
    """One future cannot be told: the others are."""
    class Loop(type(loop)):
        fails = 0

        def call_soon(self, callback, *args, context=None):
            if self.fails:
                self.fails -= 1
                raise ZeroDivisionError
            return super().call_soon(callback, *args, context=context)

    if Loop.__mro__[1].__module__.startswith("asyncio"):
        pytest.skip("of the answers in C")
    loop, reports = Loop(), []
    loop.set_exception_handler(
        lambda loop, context: reports.append(context.get("exception")))

    async def main():
        lost, other = (asyncio.ensure_future(loop.getaddrinfo("localhost", 80))
                       for _ in range(2))
        await asyncio.sleep(0)
        loop.fails = 1
        done, pending = await asyncio.wait([lost, other], timeout=.3)
        assert len(done) == 1 and len(pending) == 1
        for task in pending:    # nobody can wake it any more
            task._log_destroy_pending = False

    loop.run_until_complete(main())
    loop.close()
    assert [type(exc) for exc in reports] == [ZeroDivisionError]
