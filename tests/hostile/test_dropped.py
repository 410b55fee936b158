"""Loops and transports that the program drops without a word."""
import gc
import warnings
import weakref

import pytest

import support
from support import Recorder


def resource_warnings(action):
    """The texts of ResourceWarnings that action() and the collector give."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
        for _ in range(3):
            gc.collect()
    texts = [str(w.message) for w in caught
             if issubclass(w.category, ResourceWarning)]
    # Warnings hold their source, and from 3.15 on a weak reference to it
    # lives as long.
    caught.clear()
    gc.collect()
    return texts


def test_transport_dropped_while_paused(loop, run):
    """Nothing keeps it: it is collected, says so, and closes its socket."""
    keep = {}

    def drop():
        async def main():
            transport, protocol, peer = await support.connected("unix")
            keep["peer"] = peer
            keep["ref"] = weakref.ref(transport)
            transport.pause_reading()
            await support.turns()
            protocol.transport = None
        run(main())

    texts = resource_warnings(drop)
    gc.collect()
    assert keep["ref"]() is None
    assert any("unclosed transport" in text for text in texts), texts
    assert keep["peer"].recv(10) == b""
    keep["peer"].close()


def test_transport_in_a_cycle_with_its_protocol(loop, run):
    keep = {}

    def drop():
        async def main():
            transport, protocol, peer = await support.connected("unix")
            keep["peer"] = peer
            keep["refs"] = weakref.ref(transport), weakref.ref(protocol)
            transport.pause_reading()
            await support.turns()
            assert protocol.transport is transport
        run(main())

    texts = resource_warnings(drop)
    assert [ref() for ref in keep["refs"]] == [None, None]
    assert any("unclosed transport" in text for text in texts)
    keep["peer"].close()


def test_reading_transport_is_kept(loop, run):
    """While it reads, the loop holds it."""
    async def main():
        transport, protocol, peer = await support.connected("unix")
        ref = weakref.ref(transport)
        protocol.transport = None
        del transport
        await support.turns()
        gc.collect()
        assert ref() is not None
        peer.send(b"x")
        await protocol.got(b"x")
        peer.close()
        await protocol.saw("lost")
        del protocol
        await support.turns()
        gc.collect()
        return ref()

    assert run(main()) is None


def test_writing_transport_is_kept(loop, run):
    """Paused, but with bytes to send: they arrive."""
    async def main():
        ours, peer = support.socketpair()
        transport, protocol = await support.connect_sock(ours, Recorder)
        del ours
        transport.pause_reading()
        size = support.fill(transport)
        transport.close()
        ref = weakref.ref(transport)
        protocol.transport = None
        del transport, protocol
        gc.collect()
        assert len(await support.recv_all(peer)) == size
        await support.turns(3)
        gc.collect()
        peer.close()
        return ref()

    assert run(main()) is None


def test_loop_dropped_without_close(loop_factory, unraisable):
    """With readers, timers, transports and a server on it."""
    refs = []

    def drop():
        loop = loop_factory()
        refs.append(weakref.ref(loop))
        keep = []

        async def main():
            a, b = support.socketpair()
            loop.add_reader(b, print)
            keep.extend([a, b])
            loop.call_later(1000, print, loop)
            one, two = await support.pair("tcp")
            one.transport.pause_reading()
            support.fill(two.transport)
            server = await loop.create_server(Recorder, "127.0.0.1", 0)
            loop.call_soon(print, "never", loop)
            return one, two, server

        keep.append(loop.run_until_complete(main()))
        del loop, keep

    texts = resource_warnings(drop)
    assert refs[0]() is None
    assert any("unclosed event loop" in text for text in texts), texts
    unraisable.clear()


def test_loop_dropped_in_a_cycle(loop_factory, unraisable):
    refs = []

    def drop():
        loop = loop_factory()
        refs.append(weakref.ref(loop))
        loop.myself = loop
        loop.call_later(1000, loop.stop)
        loop.set_exception_handler(lambda *args: loop)

    texts = resource_warnings(drop)
    assert refs[0]() is None
    assert any("unclosed event loop" in text for text in texts)


def test_loop_dropped_while_a_transport_lives(loop_factory, unraisable):
    """The transport keeps its loop; it can be ended afterwards."""
    loop = loop_factory()
    transport, protocol, peer = loop.run_until_complete(
        support.connected("unix"))
    ref = weakref.ref(loop)
    del loop
    gc.collect()
    assert ref() is not None
    loop = ref()
    loop.run_until_complete(support.close(protocol))
    loop.close()
    peer.close()


def test_closed_loop_with_open_transports(make_loop, unraisable):
    """No callback runs any more; close() and abort() do not raise."""
    loop = make_loop()
    transport, protocol, peer = loop.run_until_complete(
        support.connected("unix"))

    def rest():
        nonlocal transport
        loop.close()
        for call in (lambda: transport.close(), lambda: transport.abort(),
                     lambda: transport.write(b"x"),
                     lambda: transport.pause_reading(),
                     lambda: transport.is_closing(),
                     lambda: transport.get_write_buffer_size(),
                     lambda: transport.get_extra_info("peername"),
                     lambda: repr(transport)):
            try:
                call()
            except RuntimeError as exc:
                assert "closed" in str(exc)
        protocol.transport = transport = None

    resource_warnings(rest)
    assert "lost" not in protocol.names
    peer.close()
    del loop, rest
    gc.collect()
    unraisable.clear()


def test_server_dropped(loop, run):
    """A serving Server is kept by the loop."""
    import socket

    async def main():
        seen = []

        def made(protocol):
            seen.append(1)
            protocol.transport.close()

        server = await loop.create_server(
            lambda: Recorder({"made": made}), "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        ref = weakref.ref(server)
        del server
        gc.collect()
        client = socket.create_connection(address)
        await support.io_turns(5)
        assert seen == [1]
        client.close()
        ref().close()
        await support.io_turns(3)

    run(main())


def test_handles_dropped(loop, run):
    """call_soon's result is nobody's business."""
    seen = []
    for i in range(1000):
        loop.call_soon(seen.append, i)
        loop.call_later(0, seen.append, i)
        loop.call_later(1000, seen.append, i).cancel()
    gc.collect()
    run(support.io_turns(2))
    assert len(seen) == 2000


def test_collector_runs_in_every_callback(loop, run):
    async def main():
        one, two = await support.pair(
            "unix", lambda: Recorder({name: lambda p, *a: gc.collect() and None
                                      for name in ("made", "data", "eof",
                                                   "pause", "resume")}))
        for _ in range(10):
            two.transport.write(b"x" * 1000)
            await support.io_turns(1)
        two.transport.pause_reading()
        support.fill(one.transport)
        one.transport.write(b"x" * 100000)
        two.transport.resume_reading()
        await one.saw("resume")
        two.transport.close()
        await one.saw("lost")
        await two.saw("lost")

    run(main())


def test_collector_with_threshold_one(script):
    """The collector looks at every object in every state."""
    out = script("""
        loop = new_loop()
        gc.set_threshold(1)
        async def main():
            server = await loop.create_server(
                lambda: support.Recorder(
                    {"data": lambda p, d: p.transport.write(d)}),
                "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            for i in range(5):
                transport, protocol = await loop.create_connection(
                    support.Recorder, "127.0.0.1", port)
                transport.write(b"hello")
                await protocol.got(b"hello")
                loop.call_later(100, print, protocol).cancel()
                await loop.run_in_executor(None, int)
                await support.close(protocol)
            a, b = support.socketpair()
            loop.add_reader(a, print)
            loop.remove_reader(a)
            task = asyncio.ensure_future(loop.sock_recv(a, 10))
            await support.turns(2)
            b.send(b"x")
            print(await task)
            a.close(); b.close()
            server.close()
            await server.wait_closed()
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    """, timeout=40)
    assert out == ["b'x'"]


@pytest.mark.parametrize("when", ["running", "stopped", "closed"])
def test_interpreter_ends(script, when):
    """With everything alive, in each state."""
    done = script(f"""
        warnings.simplefilter("ignore")
        loop = new_loop()
        keep = []
        async def main():
            keep.extend(await support.pair("tcp"))
            keep.append(await loop.create_server(
                support.Recorder, "127.0.0.1", 0))
            support.fill(keep[0].transport)
            loop.add_signal_handler(signal.SIGUSR1, print)
            loop.call_later(1000, print)
            loop.call_soon_threadsafe(print)
            if {when!r} == "running":
                sys.exit(3)
        try:
            loop.run_until_complete(main())
        finally:
            if {when!r} == "closed":
                loop.close()
        sys.exit(3)
    """, check=False)
    assert done.returncode == 3, (done.returncode, done.stderr)
