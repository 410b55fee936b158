"""Calls everything that tidewire._core has, the private names too, with arguments that make no sense.

A program: prints "went well" at the end.  Its log (a file, the first argument) names the call that was
under way when it did not get there.
"""
import asyncio
import contextlib
import contextvars
import faulthandler
import gc
import inspect
import os
import pathlib
import random
import signal
import socket
import sys
import warnings

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tls")]

import support  # noqa: E402
import tlskit  # noqa: E402

import tidewire  # noqa: E402
from tidewire import _core  # noqa: E402

faulthandler.enable()
warnings.simplefilter("ignore")
sys.unraisablehook = lambda args: None
RANDOM = random.Random(int(os.environ.get("GARBAGE_SEED", "1")))
MANY = int(os.environ.get("GARBAGE_CALLS", "12"))   # calls with several arguments, for each name
# These wait for ever, end the process, or are the test's own ground.
LEFT_OUT = {"run_forever", "run_until_complete", "_run", "_run_nested", "__class__",
            "__subclasshook__", "__init_subclass__"}
# The same for the loop that runs the test.
LOOPS_OWN = {"_run_turns", "_run_forever_setup", "_run_forever_cleanup",
            "set_exception_handler", "call_exception_handler",
            "_shut", "_after_fork", "stop", "__init__", "__setattr__", "__delattr__"}


class Fileno:
    def __init__(self, number):
        self.number = number

    def fileno(self):
        if isinstance(self.number, Exception):
            raise self.number
        return self.number


class Raises:
    def __getattr__(self, name):
        raise ZeroDivisionError(name)

    def __call__(self, *args):
        raise ZeroDivisionError

    def __index__(self):
        raise ZeroDivisionError

    def __hash__(self):
        raise ZeroDivisionError

    def __buffer__(self, flags):
        raise ZeroDivisionError


class Number(int):
    pass


class Text(str):
    pass


class Octets(bytes):
    pass


def closed_socket():
    sock = socket.socket()
    sock.close()
    return sock


def plain_values(loop):
    return [
        None, True, -1, 0, 987, 1 << 31, 1 << 70, -(1 << 70), Number(3), 1.5, "", "text",
        Text("text"), "nul\0", "\udc80", b"", b"bytes", Octets(b"octets"), bytearray(b"more"),
        memoryview(b"abcdef")[::2], [], [b"x", 5], (), ("127.0.0.1", 9),
        ("::1", 9, 0, 0), {}, {1: 2}, set(), object(), object, print, len, lambda *args: None, Raises(),
        Fileno(-1), Fileno(987), Fileno("x"), Fileno(ZeroDivisionError()), closed_socket(),
        asyncio.Protocol(),
        asyncio.Protocol,
        asyncio.BufferedProtocol(), asyncio.DatagramProtocol(), contextvars.copy_context(),
        tlskit.client_context(), tlskit.server_context(), iter([1]), NotImplemented, Exception("x"),
        Exception, loop, asyncio.SelectorEventLoop(), tidewire.new_event_loop(),
        tidewire.Loop.__new__(tidewire.Loop), _core.Loop.__new__(_core.Loop),
        asyncio.StreamReader(loop=loop), asyncio.StreamReader.__new__(asyncio.StreamReader),
        asyncio.StreamReaderProtocol.__new__(asyncio.StreamReaderProtocol), loop.create_future(),
        asyncio.Future.__new__(asyncio.Future),
    ]


# -- one of each ------------------------------------------------------------

async def stream():
    a, b = support.socketpair()
    b.send(b"x" * 100)
    transport, _ = await asyncio.get_running_loop().create_unix_connection(asyncio.Protocol, sock=a)
    return transport, b


async def tls():
    one, peer = await tlskit.with_peer()
    return one.transport, peer


async def adapter():
    one, peer = await tlskit.with_peer()
    return one.transport._ssl_protocol, peer


async def tls_without_a_lower_one():
    loop = asyncio.get_running_loop()
    return _core.tls_over(
        loop, asyncio.Protocol(), tlskit.client_context(), None, False, tlskit.NAME, 1, 1, False), None


async def udp():
    return await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))


async def read_pipe():
    r, w = os.pipe()
    os.write(w, b"x" * 100)
    os.close(w)
    return await asyncio.get_running_loop().connect_read_pipe(asyncio.Protocol, os.fdopen(r, "rb"))


async def write_pipe():
    r, w = os.pipe()
    return await asyncio.get_running_loop().connect_write_pipe(
        asyncio.Protocol, os.fdopen(w, "wb"))


async def handle():
    return asyncio.get_running_loop().call_soon(lambda: None), None


async def timer():
    return asyncio.get_running_loop().call_later(0.001, lambda: None), None


async def threadsafe():
    return asyncio.get_running_loop().call_soon_threadsafe(lambda: None), None


async def sock_recv():
    a, b = support.socketpair()
    return asyncio.get_running_loop().sock_recv(a, 10), (a, b)


async def sock_sendall_waiting():
    a, b = support.socketpair()
    loop = asyncio.get_running_loop()
    task = loop.create_task(loop.sock_sendall(a, b"x" * 10_000_000))
    await asyncio.sleep(0)
    return task.get_coro(), (task, a, b)


async def other_loop():
    return tidewire.new_event_loop(), None


async def closed_loop():
    loop = tidewire.new_event_loop()
    loop.close()
    return loop, None


async def raw_loop():
    return tidewire.Loop.__new__(tidewire.Loop), None


async def raw_core_loop():
    return _core.Loop.__new__(_core.Loop), None


async def running_loop():
    return asyncio.get_running_loop(), None


async def module():
    return _core, None


async def hidden():
    """What has no name: the objects behind readers, servers, children, look-ups."""
    loop = asyncio.get_running_loop()
    a, b = support.socketpair()
    loop.add_reader(a, lambda: None)
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    transport, _ = await loop.subprocess_exec(
        asyncio.SubprocessProtocol, "/bin/true", stdin=None, stdout=None, stderr=None)
    look_up = loop.create_task(loop.getaddrinfo("127.0.0.1", 5))
    await asyncio.sleep(0)
    return [o for o in gc.get_objects() if type(o).__module__ == "tidewire._core"
            and type(o).__name__ in ("_UserFd", "_Accept", "Child", "Resolver")], (
                a, b, server, transport, look_up)


MAKERS = [module, stream, tls, adapter, tls_without_a_lower_one, udp, read_pipe, write_pipe, handle,
          timer, threadsafe, sock_recv, sock_sendall_waiting, other_loop, closed_loop, raw_loop,
          raw_core_loop, hidden, running_loop]


# -- the calls --------------------------------------------------------------

def names(thing):
    for name in dir(type(thing) if not inspect.ismodule(thing) else thing):
        if name not in LEFT_OUT and not (name in LOOPS_OWN and thing is asyncio.get_running_loop()):
            if getattr(type(thing), name, None) is getattr(object, name, ()):
                continue        # not of ours
            with contextlib.suppress(Exception):
                value = getattr(thing, name)
                if callable(value) and not isinstance(value, type):
                    yield name


def arguments(values, things):
    """Tuples of arguments."""
    everything = values + things
    yield ()
    for value in everything:
        yield (value,)
    for _ in range(MANY):
        yield tuple(RANDOM.choice(everything) for _ in range(RANDOM.randrange(2, 5)))
    for _ in range(MANY // 2):
        yield tuple(RANDOM.choice(everything) for _ in range(RANDOM.randrange(5, 14)))


def put_away(result):
    close = getattr(result, "close", None)
    if inspect.iscoroutine(result) or type(result).__name__ == "SockOp":
        with contextlib.suppress(Exception):
            close()


class Log:
    def __init__(self, path, loop):
        self.loop = loop
        self.file = open(path, "w", encoding="utf-8")

    def note(self, *what):
        self.file.seek(0)
        self.file.truncate()
        text = []
        for part in what:
            try:
                text.append(repr(part)[:60])
            except BaseException as exc:
                text.append(f"{type(part).__name__}: {exc!r}"[:60])
        self.file.write(" ".join(text))
        self.file.flush()


def call(log, thing, name, args):
    log.note(type(thing).__name__, name, *args)
    try:
        if name == "_run_turns":
            thing.stop()
        put_away(getattr(thing, name)(*args))
    except (Exception, asyncio.CancelledError):
        pass
    asyncio._set_running_loop(log.loop)


def change_class(log, things):
    for thing in things:
        for other in things:
            log.note("class", type(thing), type(other))
            if type(thing) is not type(other):
                with contextlib.suppress(TypeError):
                    thing.__class__ = type(other)


async def everything_of(log, make, values, samples):
    found, _ = await make()
    whole = found if isinstance(found, list) else [found]
    for which in range(len(whole)):
        for name in list(names(whole[which])):
            found, keep = await make()
            again = found if isinstance(found, list) else [found]
            if which >= len(again):
                break
            thing = again[which]
            for args in arguments(values, samples):
                call(log, thing, name, args)
            log.note(type(thing).__name__, name, "after")
            await asyncio.sleep(0)
            for part in keep if isinstance(keep, tuple) else (keep, thing):
                for method in "cancel", "abort", "kill", "close":
                    if not isinstance(part, asyncio.AbstractEventLoop) or method == "close":
                        with contextlib.suppress(Exception):
                            getattr(part, method)()
            put_away(thing)
        await asyncio.sleep(0.001)


async def main(log):
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)
    values = plain_values(loop)
    samples = []
    for make in MAKERS:
        found, _ = await make()
        samples += found if isinstance(found, list) else [found]
    change_class(log, samples)
    only = sys.argv[2:]
    for make in MAKERS:
        if not only or make.__name__ in only:
            log.note(make.__name__)
            await everything_of(log, make, values, samples)
            gc.collect()


def run():
    if "GARBAGE_ALOUD" not in os.environ:
        sys.stderr = open(os.devnull, "w")
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    loop = tidewire.new_event_loop()
    log = Log(sys.argv[1], loop)
    loop.run_until_complete(main(log))
    log.note("the end")
    print("went well")
    sys.stdout.flush()
    os._exit(0)


run()
