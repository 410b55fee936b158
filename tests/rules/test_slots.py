"""asyncio's slots are never reached in our types: they lie where C has its fields."""
import os
import subprocess
import sys
import types

import pytest

pytest.importorskip("tidewire")


def subclasses(kind):
    for sub in type.__subclasses__(kind):
        yield sub
        yield from subclasses(sub)


def own_types():
    # Some classes of other modules have no readable __module__.
    return sorted({t for t in subclasses(object)
                   if getattr(t, "__module__", None) == "tidewire._core"},
                  key=lambda t: t.__name__)


def inherited_slots(kind):
    """The slots of foreign bases: name and the class that a look-up finds it in."""
    for base in kind.__mro__:
        if base.__module__ != "tidewire._core":
            for name, value in vars(base).items():
                if isinstance(value, types.MemberDescriptorType):
                    yield name, next(k for k in kind.__mro__ if name in vars(k))


def test_the_types_are_seen():
    with_slots = {t.__name__ for t in own_types() if list(inherited_slots(t))}
    assert with_slots == {
        "Handle", "TimerHandle", "SocketTransport", "DatagramTransport", "ReadPipeTransport",
        "WritePipeTransport", "SSLTransport"}


@pytest.mark.parametrize("kind", own_types(), ids=lambda t: t.__name__)
def test_slots_are_shadowed(kind):
    for name, found in inherited_slots(kind):
        assert found.__module__ == "tidewire._core", name
        assert isinstance(vars(found)[name], types.GetSetDescriptorType), name


def test_a_tls_transport_has_no_fields_of_a_descriptor():
    """With all of its own it is smaller than a stream's."""
    sizes = {t.__name__: t.__basicsize__ for t in own_types()}
    assert sizes["SSLTransport"] < sizes["SocketTransport"]


PROGRAM = """
import asyncio, contextlib, gc, os, socket, sys, types
sys.path[:0] = %r
import support, tlskit, tidewire
sys.unraisablehook = lambda args: None
NOTHING = object()
VALUES = [NOTHING, None, 5, -1, 1 << 70, 1.5, True, "text", b"", {}, {1: 2}, [], object(), print]


def slots(kind):
    return sorted({name for base in kind.__mro__ for name, value in vars(base).items()
                   if isinstance(value, (types.MemberDescriptorType, types.GetSetDescriptorType))
                   and name not in ("__dict__", "__weakref__")})


async def udp():
    loop = asyncio.get_running_loop()
    return await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))


async def read_pipe():
    r, w = os.pipe()
    os.write(w, b"x" * 100)
    os.close(w)
    return await asyncio.get_running_loop().connect_read_pipe(asyncio.Protocol, os.fdopen(r, "rb"))


async def write_pipe():
    r, w = os.pipe()
    os.close(os.dup(r))
    return await asyncio.get_running_loop().connect_write_pipe(asyncio.Protocol, os.fdopen(w, "wb"))


async def stream():
    a, b = support.socketpair()
    b.send(b"x" * 100)
    transport, _ = await asyncio.get_running_loop().create_unix_connection(asyncio.Protocol, sock=a)
    return transport, b


async def tls():
    one, peer = await tlskit.with_peer()
    return one.transport, peer


async def child():
    return await asyncio.get_running_loop().subprocess_exec(
        asyncio.SubprocessProtocol, "/bin/cat", stdout=None)


async def handle():
    loop = asyncio.get_running_loop()
    return loop.call_soon(print), loop


async def timer():
    loop = asyncio.get_running_loop()
    return loop.call_later(0.001, print), loop


async def threadsafe():
    loop = asyncio.get_running_loop()
    return loop.call_soon_threadsafe(print), loop


def use(thing):
    for call in (
            lambda: repr(thing), lambda: thing.get_extra_info("pipe"),
            lambda: thing.get_extra_info("socket"), lambda: thing.get_extra_info("peername", 5),
            lambda: thing.write(b"x" * 1000), lambda: thing.sendto(b"x", ("127.0.0.1", 9)),
            lambda: thing.set_write_buffer_limits(10), lambda: thing.write(b"x" * 1000),
            lambda: thing.set_protocol(asyncio.Protocol()), lambda: thing.pause_reading(),
            lambda: thing.resume_reading(), lambda: thing.get_write_buffer_size(),
            lambda: thing.is_closing(), lambda: thing._run(), lambda: thing.cancelled(),
            lambda: thing.when(), lambda: hash(thing), lambda: thing == thing,
            lambda: thing.get_context(), lambda: thing.close(), lambda: thing.abort(),
            lambda: thing.kill(), lambda: thing.cancel()):
        with contextlib.suppress(Exception):
            call()


async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)
    sys.stdout = open(os.devnull, "w")
    for make in (stream, tls, read_pipe, write_pipe, udp, handle, timer, threadsafe, child):
        names = slots(type((await make())[0]))
        for name in names:
            for value in VALUES:
                thing, other = await make()
                try:
                    if value is NOTHING:
                        delattr(thing, name)
                    else:
                        setattr(thing, name, value)
                except (AttributeError, TypeError, ValueError, OverflowError):
                    pass
                use(thing)
                await asyncio.sleep(0)
                if make is child and hasattr(thing, "_proc"):
                    with contextlib.suppress(Exception):
                        thing._proc.kill()
                if hasattr(other, "sock"):
                    other.close()
        gc.collect()
    await asyncio.sleep(0.01)
    print("went well", file=sys.__stdout__)

loop = tidewire.new_event_loop()
loop.run_until_complete(main())
"""


def test_whatever_is_assigned_or_deleted():
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    program = PROGRAM % ([tests, os.path.join(tests, "tls")],)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          timeout=120, check=False)
    assert done.stdout == "went well\n" and done.returncode == 0, (
        done.returncode, done.stderr[-2000:])
