"""Objects that end, or are looked at, when nobody expects it.

Most of these crashed once; under a sanitizer they say where.
"""
import asyncio
import gc
import os
import socket

import pytest

import support


def pair(kind=socket.SOCK_STREAM):
    one, two = socket.socketpair(socket.AF_UNIX, kind)
    one.setblocking(False)
    two.setblocking(False)
    return one, two


# -- descriptors that are watched for something else ---------------------------

@pytest.mark.tidewire
def test_add_reader_for_a_listening_socket(run):
    """The server keeps it: asyncio would take it away from the server."""
    async def main():
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(lambda r, w: w.close(),
                                            "127.0.0.1", 0)
        sock = server.sockets[0]
        for fd in (sock, sock.fileno()):
            with pytest.raises(RuntimeError, match="is used by"):
                loop.add_reader(fd, print)
            assert not loop.remove_reader(fd)
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
    run(main())


@pytest.mark.tidewire
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="no pidfd")
def test_add_reader_for_the_descriptor_of_a_child(run):
    async def main():
        loop = asyncio.get_running_loop()
        child = await asyncio.create_subprocess_exec(
            "cat", stdin=asyncio.subprocess.PIPE)
        watched = [int(fd) for fd, what in descriptors().items()
                   if "pidfd" in what]
        for fd in watched:
            with pytest.raises(RuntimeError, match="is used by"):
                loop.add_reader(fd, print)
        child.stdin.close()
        assert await child.wait() == 0
    run(main())


def descriptors():
    out = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            out[fd] = os.readlink("/proc/self/fd/" + fd)
        except OSError:
            pass
    return out


@pytest.mark.tidewire
@pytest.mark.parametrize("others", [13, 14, 15, 16, 29, 30, 31, 32])
def test_many_are_ready_and_one_is_given_up(make_loop, others):
    """As many as the list of ready ones has room for, and one comes back."""
    loop = make_loop()
    loop.set_exception_handler(lambda loop, context: None)
    pairs = [pair() for _ in range(others)]
    transports, ready = [], []

    def on_ready(one):
        ready.append(one)
        one.recv(10)
        # The number was a reader's; now it is a transport's.
        transports.append(loop._make_socket_transport(one,
                                                      asyncio.Protocol()))

    async def main():
        for one, _ in pairs:
            loop.add_reader(one, on_ready, one)
        await asyncio.sleep(0.001)
        for _, two in pairs:
            two.send(b"x")
        os.write(loop._csock.fileno(), b"\0")
        while len(ready) < others:
            await asyncio.sleep(0)
        for transport in transports:
            transport.abort()
        await support.turns()

    loop.run_until_complete(main())
    for _, two in pairs:
        two.close()


@pytest.mark.tidewire
def test_a_poll_object_outlives_its_loop(loop_factory):
    """Tools that look at gc.get_objects() hold everything for a while."""
    one, two = pair()
    loop = loop_factory()
    loop.add_reader(one, print)
    held = [obj for obj in gc.get_objects()
            if type(obj).__name__ == "_UserFd"]
    loop.remove_reader(one)
    assert held
    loop.close()
    del loop
    gc.collect()
    held.clear()
    gc.collect()
    one.close()
    two.close()


# -- transports that cannot be made --------------------------------------------

@pytest.mark.parametrize("kind", ["socket", "datagram"])
def test_a_factory_gives_no_protocol(run, kind, unraisable):
    one, two = pair(socket.SOCK_DGRAM if kind == "datagram"
                    else socket.SOCK_STREAM)

    async def main():
        loop = asyncio.get_running_loop()
        with pytest.raises(AttributeError, match="connection_made"):
            if kind == "socket":
                await loop.create_connection(object, sock=one)
            else:
                await loop.create_datagram_endpoint(object, sock=one)
    run(main())
    one.close()
    two.close()
    gc.collect()
    for text in unraisable.take():      # asyncio's transport warns
        assert "ResourceWarning" in text


# -- bytes that run Python at their end ----------------------------------------

class Ends(bytes):
    """Calls `ends` once, when the first of them goes."""

    ends = None

    def __del__(self):
        action, Ends.ends = Ends.ends, None
        if action is not None:
            action()


async def drain(transport, read):
    while not transport.is_closing():
        try:
            read()
        except BlockingIOError:
            pass
        await asyncio.sleep(0)
    await support.io_turns()


@pytest.mark.parametrize("how", ["write", "writelines"])
def test_bytes_that_abort_the_stream_when_they_were_sent(run, how):
    async def main():
        loop = asyncio.get_running_loop()
        one, two = pair()
        transport, _ = await loop.create_connection(asyncio.Protocol,
                                                    sock=one)
        transport.write(b"z" * 2000000)
        if how == "write":
            for _ in range(50):
                transport.write(Ends(b"x" * 10))
        else:
            transport.writelines([Ends(b"x" * 10) for _ in range(50)])
        Ends.ends = transport.abort
        transport.write(Ends(b"y" * 10))
        await drain(transport, lambda: two.recv(1 << 20))
        two.close()
    run(main())


def test_bytes_that_abort_the_pipe_when_they_were_sent(run):
    async def main():
        loop = asyncio.get_running_loop()
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        transport, _ = await loop.connect_write_pipe(
            asyncio.BaseProtocol, os.fdopen(writing, "wb", 0))
        transport.write(b"z" * 200000)
        for _ in range(50):
            transport.write(Ends(b"x" * 10))
        Ends.ends = transport.abort
        transport.write(Ends(b"y" * 10))
        await drain(transport, lambda: os.read(reading, 1 << 20))
        os.close(reading)
    run(main())


def test_bytes_that_abort_the_endpoint_when_they_were_sent(run, errors):
    async def main():
        loop = asyncio.get_running_loop()
        one, two = pair(socket.SOCK_DGRAM)
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, sock=one)

        def send():
            for _ in range(5):
                transport.sendto(Ends(b"x" * 10))
            Ends.ends = transport.abort
            transport.sendto(Ends(b"y" * 10))
        loop.call_soon(send)
        await drain(transport, lambda: two.recv(100))
        two.close()
    run(main())
    errors.take()       # asyncio sends after connection_lost, and reports


@pytest.mark.parametrize("lost", [False, True])
def test_write_of_a_released_memoryview(run, lost, errors):
    async def main():
        loop = asyncio.get_running_loop()
        one, two = pair()
        transport, _ = await loop.create_connection(asyncio.Protocol,
                                                    sock=one)
        if lost:
            transport.abort()
        view = memoryview(b"abc")
        view.release()
        with pytest.raises(ValueError):
            transport.write(view)
        transport.abort()
        await support.turns()
        two.close()
    run(main())


# -- operations and handles that are given up from within ----------------------

class Closing(socket.socket):
    """Ends the coroutine that waits for it, from inside its own method."""

    victim = None
    where = ""

    def _end(self, where):
        if self.where == where and self.victim is not None:
            victim, self.victim = self.victim, None
            victim.close()

    def recv(self, *args):
        self._end("recv")
        return super().recv(*args)

    def fileno(self):
        self._end("fileno")
        return super().fileno()


@pytest.mark.parametrize("where", ["recv", "fileno"])
def test_operation_closed_by_its_socket(run, where, errors):
    async def main():
        loop = asyncio.get_running_loop()
        plain, two = pair()
        one = Closing(fileno=plain.detach())
        one.setblocking(False)
        operation = loop.sock_recv(one, 100)
        operation.send(None)
        one.where, one.victim = where, operation
        two.send(b"hi")
        await support.io_turns(5)
        loop.remove_reader(one)
        one.close()
        two.close()
    run(main())
    errors.take()       # asyncio: the future's value comes too late


def test_handle_cancelled_while_its_arguments_are_looked_at(run):
    """The collector runs when the tuple is made, and a finalizer cancels."""
    class Cancels:
        def __del__(self):
            self.handle.cancel()

    async def main():
        loop = asyncio.get_running_loop()
        threshold = gc.get_threshold()
        for _ in range(5):
            handle = loop.call_later(1000, print, object(), object())
            gc.disable()
            ends = Cancels()
            ends.handle = handle
            ends.ends = ends
            # No free tuple of that size may be left: a new one collects.
            tuples = [(i, ends.handle) for i in range(5000)]
            del ends
            gc.set_threshold(1)
            gc.enable()
            try:
                args = handle._args
            finally:
                gc.set_threshold(*threshold)
            assert args is None or len(args) == 2 and tuples
            handle.cancel()
    run(main())


# -- a clock that fails --------------------------------------------------------

@pytest.mark.parametrize("debug", [False, True])
def test_time_that_raises(loop_factory, debug):
    usual = loop_factory()
    usual.close()

    class Broken(type(usual)):
        broken = False

        def time(self):
            if self.broken:
                raise ZeroDivisionError("no time")
            return super().time()

    loop = Broken()
    loop.set_debug(debug)
    loop.call_later(1000, print)

    def end():
        loop.broken = True
    loop.call_soon(end)
    with pytest.raises(ZeroDivisionError):
        loop.run_forever()
    loop.close()


# -- after the end of the loop -------------------------------------------------

def test_transports_of_a_closed_loop(loop_factory, unraisable):
    """Their repr() says no more what they wait for, and they cannot read on."""
    loop = loop_factory()
    reading, writing = os.pipe()

    async def main():
        transport, _, peer = await support.connected("unix")
        endpoint, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
        read, _ = await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(reading, "rb", 0))
        write, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(writing, "wb", 0))
        await support.turns()
        return peer, transport, endpoint, read, write

    peer, *transports = loop.run_until_complete(main())
    loop.close()
    ends = [repr(transport).rpartition("=")[2] for transport in transports]
    numbers = [transport.get_extra_info("socket").fileno() for transport in transports[:2]]
    assert ends == [f"{numbers[0]}>", f"{numbers[1]}>", f"{reading} open>", f"{writing} open>"]
    for transport in transports[0], transports[2]:
        transport.pause_reading()
        with pytest.raises(RuntimeError, match="loop is closed"):
            transport.resume_reading()
    peer.close()
    transports.clear()
    del transport
    gc.collect()
    for text in unraisable.take():      # that they were not closed
        assert "ResourceWarning" in text


def test_pipe_for_a_closed_loop(loop_factory, unraisable):
    loop = loop_factory()
    loop.close()
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0) as one, \
            os.fdopen(writing, "wb", 0) as two:
        for make, file in ((loop.connect_read_pipe, one),
                           (loop.connect_write_pipe, two)):
            with pytest.raises(RuntimeError, match="loop is closed"):
                make(asyncio.Protocol, file).send(None)
    gc.collect()
    for text in unraisable.take():      # asyncio's transports warn
        assert "ResourceWarning" in text


def test_a_long_chain_of_handles(script):
    """Each is the next one's argument: freeing them takes no stack."""
    out = script("""
        loop = new_loop()
        handle = None
        for _ in range(300_000):
            handle = loop.call_soon(print, handle)
        loop.close()
        del loop, handle
        print("alive")
    """)
    assert out == ["alive"]
