"""The whole interface is asyncio's of the running Python: names and arguments."""
import asyncio
import inspect
import os
import subprocess
import sys
from asyncio import selector_events, sslproto, unix_events

import pytest

import support
import tidewire
from support import Recorder
from tidewire import _core, _process

#: Ours, and asyncio's class that does the same.
PAIRS = {
    "loop": (tidewire.Loop, asyncio.SelectorEventLoop),
    "tcp": (_core.SocketTransport, selector_events._SelectorSocketTransport),
    "tls": (_core.SSLTransport, sslproto._SSLProtocolTransport),
    "udp": (_core.DatagramTransport, selector_events._SelectorDatagramTransport),
    "read pipe": (_core.ReadPipeTransport, unix_events._UnixReadPipeTransport),
    "write pipe": (_core.WritePipeTransport, unix_events._UnixWritePipeTransport),
    "subprocess": (_process.SubprocessTransport, unix_events._UnixSubprocessTransport),
    "handle": (_core.Handle, asyncio.Handle),
    "timer": (_core.TimerHandle, asyncio.TimerHandle),
}

#: Signatures that differ in form, with the reason.
FORMS = {
    ("loop", "create_task"):
        "takes **kwargs, as asyncio's own does from 3.13.3 on: name and context are among them",
}

#: Public names that are ours alone.
ADDED = {
    ("loop", "stats"): "docs/api.rst",
    ("loop", "name"): "docs/api.rst",
    ("handle", "get_context"): "asyncio's from 3.12 on",
    ("timer", "get_context"): "asyncio's from 3.12 on",
}


#: Public names that are asyncio's alone: docs/differences.rst.
ABSENT = {"max_size"}


def public(kind):
    return {n for n in dir(kind) if not n.startswith("_")}


def parameters(kind, name):
    """(name, kind, default) of each parameter but self."""
    values = list(inspect.signature(getattr(kind, name)).parameters.values())
    return [(p.name, p.kind.name, p.default) for p in values[1:]]


METHODS = [(pair, name) for pair, (_, stock) in PAIRS.items() for name in sorted(public(stock))
           if inspect.isroutine(getattr(stock, name))]


@pytest.mark.parametrize("pair, name", METHODS, ids=lambda x: x)
def test_same_arguments(pair, name):
    ours, stock = PAIRS[pair]
    assert hasattr(ours, name)
    if parameters(ours, name) != parameters(stock, name):
        assert (pair, name) in FORMS, (
            inspect.signature(getattr(ours, name)), inspect.signature(getattr(stock, name)))


@pytest.mark.parametrize("pair", PAIRS)
def test_same_names(pair):
    ours, stock = PAIRS[pair]
    assert public(stock) - public(ours) <= ABSENT
    assert {n for n in public(ours) - public(stock) if (pair, n) not in ADDED} == set()


def test_abstract_names():
    assert not public(asyncio.AbstractEventLoop) - public(tidewire.Loop)


@pytest.mark.parametrize("pair", PAIRS)
def test_our_methods_explain_themselves(pair):
    """What is in C has a text, and names asyncio's page."""
    ours, _ = PAIRS[pair]
    for name, method in vars(ours).items():
        if not name.startswith("_") and inspect.ismethoddescriptor(method):
            assert method.__doc__, name
            assert "library/asyncio-" in method.__doc__ or (pair, name) in ADDED or (
                name.endswith(("read_buffer_size", "read_buffer_limits"))), name


def test_help():
    done = subprocess.run(
        [sys.executable, "-c", "import tidewire; help(tidewire.Loop.create_server); "
         "help(tidewire.Loop.call_later)"],
        capture_output=True, text=True, timeout=60 * support.SLOWER,
        env={**os.environ, "PAGER": "cat", "TERM": "dumb"})
    assert "reuse_port=None" in done.stdout
    assert "delay, callback, *args, context=None" in done.stdout
    assert "library/asyncio-eventloop" in done.stdout


# -- arguments by name --------------------------------------------------------

def test_scheduling_by_name(run):
    async def main():
        loop, seen = asyncio.get_running_loop(), []
        loop.call_soon(callback=lambda: seen.append("soon"))
        loop.call_soon_threadsafe(callback=lambda: seen.append("safe"))
        loop.call_later(delay=0, callback=lambda: seen.append("later"))
        loop.call_at(when=0, callback=lambda: seen.append("at"))
        await loop.create_task(coro=support.io_turns(), name="named", context=None)
        assert sorted(seen) == ["at", "later", "safe", "soon"]

    run(main())


def test_descriptors_by_name(run):
    async def main():
        loop, seen = asyncio.get_running_loop(), []
        a, b = support.socketpair()
        loop.add_reader(fd=a, callback=lambda: seen.append(a.recv(1)))
        loop.add_writer(fd=a, callback=lambda: (seen.append("can"), loop.remove_writer(fd=a)))
        b.send(b"x")
        await support.io_turns()
        assert sorted(map(str, seen)) == ["b'x'", "can"]
        assert loop.remove_reader(fd=a) is True
        assert loop.remove_writer(fd=a) is False
        for wrong in ({}, {"fd": a}, {"callback": print}, {"fd": a, "callback": print, "x": 1}):
            with pytest.raises(TypeError):
                loop.add_reader(**wrong)
        for wrong in ({}, {"file": a}):
            with pytest.raises(TypeError):
                loop.remove_reader(**wrong)
        a.close()
        b.close()

    run(main())


def test_transport_by_name(run):
    async def main():
        transport, protocol, peer = await support.connected("unix")
        transport.write(data=b"one")
        transport.writelines(list_of_data=[b"two"])
        assert await support.recv_exactly(peer, 6) == b"onetwo"
        other = Recorder()
        transport.set_protocol(protocol=other)
        assert transport.get_protocol() is other
        transport.set_protocol(protocol)
        for method in (transport.write, transport.writelines, transport.set_protocol):
            for args, kwargs in (((), {}), ((b"x", b"x"), {}), ((), {"wrong": b"x"}),
                                 ((b"x",), {"data": b"x"})):
                with pytest.raises(TypeError):
                    method(*args, **kwargs)
        assert transport.get_protocol() is protocol
        await support.close(protocol)
        peer.close()

    run(main())


def test_pipe_by_name(run):
    async def main():
        loop = asyncio.get_running_loop()
        r, w = os.pipe()
        reader, protocol = await loop.connect_read_pipe(
            protocol_factory=Recorder, pipe=os.fdopen(r, "rb", 0))
        writer, _ = await loop.connect_write_pipe(Recorder, os.fdopen(w, "wb", 0))
        writer.write(data=b"data")
        await protocol.got(b"data")
        other = Recorder()
        for transport in reader, writer:
            transport.set_protocol(protocol=other)
            assert transport.get_protocol() is other
        writer.close()
        await other.saw("lost", 2)

    run(main())


def test_override_that_passes_names_on(make_loop):
    """A subclass may call the original with other arguments by name."""
    seen = []

    class Loop(type(make_loop())):
        def call_soon(self, callback, *args, context=None):
            seen.append("soon")
            return super().call_soon(callback=callback, context=context)

        def add_reader(self, fd, callback, *args):
            seen.append("reader")
            return super().add_reader(fd=fd, callback=callback)

    loop = Loop()
    a, b = support.socketpair()
    try:
        loop.call_soon(loop.stop)
        loop.add_reader(a, print)
        loop.run_forever()
        assert loop.remove_reader(a)
        assert seen == ["soon", "reader"]
    finally:
        loop.close()
        a.close()
        b.close()


def test_the_table_is_up_to_date():
    """docs/api-table.rst: what the notes say, and the notes what this Python has."""
    tool = os.path.join(os.path.dirname(__file__), "..", "tools", "api_table.py")
    done = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True,
                          timeout=60 * support.SLOWER)
    assert done.returncode == 0, done.stderr


# -- subclasses -----------------------------------------------------------------

def test_call_later_goes_through_an_overridden_call_at(make_loop):
    """As asyncio's: whoever replaces the clock or the timers overrides call_at()."""
    seen = []

    class Loop(type(make_loop())):
        def call_at(self, when, callback, *args, context=None):
            seen.append(args)
            return super().call_at(when, callback, *args, context=context)

    loop = Loop()
    try:
        for debug in False, True:
            loop.set_debug(debug)
            loop.call_later(0, seen.append, "ran")
            loop.call_later(delay=0, callback=loop.stop)
            with pytest.raises(TypeError):
                loop.call_later(None, print)
            loop.run_forever()
        assert seen == [("ran",), (), "ran"] * 2
    finally:
        loop.close()


def test_repr_of_what_is_closed(run):
    async def main():
        transport, protocol, peer = await support.connected("tcp")
        assert "read=polling write=<idle, bufsize=0>" in repr(transport)
        await support.close(protocol)
        peer.close()
        assert " closed fd=" in repr(transport)
        assert "read=" not in repr(transport)

    run(main())
