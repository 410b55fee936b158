"""Datagrams that the methods of the Python socket receive and send.

Those of a family that the loop does not know are received so (Linux has netlink sockets everywhere,
and asks for no privilege), and those to a host's name are sent so.  Each scenario runs on asyncio's
loop, too, and has to show the same.
"""
import asyncio
import contextlib
import socket
import struct
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_NETLINK"), reason="no netlink sockets")

# "Which interfaces are there?": a header of a netlink message, and the question.
ASK = struct.pack("=IHHII", 32, 18, 0x301, 7, 0) + bytes(16)
KERNEL = (0, 0)


class Socket(socket.socket):
    """Its methods do what a test says first."""

    def __init__(self, family, address):
        super().__init__(family, socket.SOCK_DGRAM, 0)
        self.bind(address)
        self.setblocking(False)
        self.reads, self.writes, self.calls = [], [], []

    def recvfrom(self, size):
        self.calls.append("recvfrom")
        if self.reads:
            act = self.reads.pop(0)
            if isinstance(act, BaseException):
                raise act
            super().recvfrom(size)
            return act
        return super().recvfrom(size)

    def sendto(self, *args):
        self.calls.append(("sendto", len(args), args[-1]))
        if self.writes:
            act = self.writes.pop(0)
            if isinstance(act, BaseException):
                raise act
            return act
        return super().sendto(*args)


class Protocol(asyncio.DatagramProtocol):
    def __init__(self):
        self.notes = []
        self.lost = asyncio.get_running_loop().create_future()
        self.came = asyncio.Event()

    def datagram_received(self, data, addr):
        length, kind = struct.unpack_from("=IH", data)
        self.notes.append((kind, addr))
        if kind == 3:       # the end of the answer
            self.came.set()

    def error_received(self, exc):
        self.notes.append(repr(exc))
        self.came.set()

    def connection_lost(self, exc):
        self.lost.set_result(repr(exc))

    def pause_writing(self):
        self.notes.append("pause")

    def resume_writing(self):
        self.notes.append("resume")


@pytest.fixture
def both(make_loop):
    """both(scenario): its result on asyncio's loop, and on ours."""
    def both(scenario):
        results = []
        for loop in asyncio.SelectorEventLoop(), make_loop():
            reports = []
            loop.set_exception_handler(lambda loop, context, reports=reports: reports.append(
                (context["message"], repr(context.get("exception")))))
            with contextlib.closing(loop):
                result = loop.run_until_complete(asyncio.wait_for(scenario(loop), 3))
            results.append((result, reports))
        return results
    return both


async def endpoint(loop, *, connected=False):
    sock = Socket(socket.AF_NETLINK, KERNEL)
    if connected:
        sock.connect(KERNEL)
    transport, protocol = await loop.create_datagram_endpoint(Protocol, sock=sock)
    return sock, transport, protocol


async def answered(protocol):
    await protocol.came.wait()
    protocol.came.clear()
    notes, protocol.notes = protocol.notes, []
    return notes


async def end(sock, transport, protocol):
    transport.close()
    return await protocol.lost, transport.is_closing(), sock.fileno()


@pytest.mark.parametrize("connected", [False, True])
def test_question_and_answer(both, connected):
    async def scenario(loop):
        sock, transport, protocol = await endpoint(loop, connected=connected)
        out = []
        for _ in range(2):
            transport.sendto(ASK, None if connected else KERNEL)
            out.append(await answered(protocol))
        assert out[0] and {kind for kind, _ in out[0]} <= {16, 3}
        assert transport.get_extra_info("sockname") == sock.getsockname()
        assert "recvfrom" in sock.calls
        return out, transport.get_write_buffer_size(), await end(sock, transport, protocol)

    stock, ours = both(scenario)
    assert ours == stock


def unsent(transport):
    """Bytes that wait.  asyncio 3.13 goes on counting the headers of datagrams that it has sent."""
    if sys.version_info[:2] == (3, 13) and hasattr(transport, "_buffer"):
        return sum(len(data) for data, _ in transport._buffer)
    return transport.get_write_buffer_size()


@pytest.mark.parametrize("error", [
    BlockingIOError(11, "later"), InterruptedError(4, "interrupted"), OSError(105, "no buffers"),
    ConnectionRefusedError(111, "refused")], ids=repr)
def test_errors_of_reading(both, error):
    """Later, or error_received(), and the transport goes on."""
    async def scenario(loop):
        sock, transport, protocol = await endpoint(loop)
        sock.reads.append(error)
        transport.sendto(ASK, KERNEL)
        out = [await answered(protocol)]
        if out[0] == [repr(error)]:
            out.append(await answered(protocol))
        return out, await end(sock, transport, protocol)

    stock, ours = both(scenario)
    assert ours == stock


def test_an_exception_of_reading_ends_it(both, logs):
    async def scenario(loop):
        sock, transport, protocol = await endpoint(loop)
        sock.reads.append(ValueError("not read"))
        transport.sendto(ASK, KERNEL)
        return await protocol.lost, protocol.notes, sock.fileno()

    stock, ours = both(scenario)
    logs.take()
    assert ours == stock and ours[0][0] == "ValueError('not read')"
    assert ours[1] == [("Fatal read error on datagram transport", "ValueError('not read')")]


@pytest.mark.tidewire       # asyncio's unpacking raises other errors, out of a callback
@pytest.mark.parametrize("answer", [5, (), (b"x",), (b"x", KERNEL, 3), None], ids=repr)
def test_what_is_no_pair_ends_it(make_loop, answer, logs):
    loop = make_loop()
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append(context["message"]))

    async def scenario():
        sock, transport, protocol = await endpoint(loop)
        sock.reads.append(answer)
        transport.sendto(ASK, KERNEL)
        return await asyncio.wait_for(protocol.lost, 10)

    assert loop.run_until_complete(scenario()) == (
        "TypeError('recvfrom() must return a pair')")
    assert reports == ["Fatal read error on datagram transport"]
    logs.take()


class Received(Protocol):
    def datagram_received(self, data, addr):
        self.notes.append(data)


@contextlib.asynccontextmanager
async def named(loop):
    """A transport, its socket and protocol, where to send by name, and the socket there."""
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        other.setblocking(False)
        sock = Socket(socket.AF_INET, ("127.0.0.1", 0))
        transport, protocol = await loop.create_datagram_endpoint(Received, sock=sock)
        yield sock, transport, protocol, ("localhost", other.getsockname()[1]), other
        transport.abort()
        await protocol.lost


@pytest.mark.parametrize("error", [
    BlockingIOError(11, "later"), InterruptedError(4, "interrupted"), OSError(90, "too long"),
    OSError(105, "no buffers"), socket.gaierror(-2, "no such name")], ids=repr)
def test_errors_of_writing(both, error):
    """A datagram waits in order, or is dropped with error_received()."""
    async def scenario(loop):
        async with named(loop) as (sock, transport, protocol, where, other):
            sock.writes.append(error)
            transport.sendto(b"first", where)
            waits = bool(unsent(transport))
            transport.sendto(b"second", where)
            transport.sendto(bytearray(b"third"), where)
            out = []
            while b"third" not in out:
                out.append(await loop.sock_recv(other, 100))
            return waits, out, unsent(transport), protocol.notes, len(sock.calls)

    stock, ours = both(scenario)
    assert ours == stock


def test_an_exception_of_writing_ends_it(both, logs):
    async def scenario(loop):
        async with named(loop) as (sock, transport, protocol, where, other):
            sock.writes.append(ValueError("not written"))
            transport.sendto(b"data", where)
            return transport.is_closing(), await protocol.lost, protocol.notes

    stock, ours = both(scenario)
    logs.take()
    assert ours == stock and ours[0][1] == "ValueError('not written')"


@pytest.mark.parametrize("error", [OSError(105, "no buffers"), ValueError("not written")], ids=repr)
def test_an_error_of_one_that_waited(both, logs, error):
    async def scenario(loop):
        async with named(loop) as (sock, transport, protocol, where, other):
            sock.writes += [BlockingIOError(11, "later"), error]
            for data in b"1", b"2", b"3":
                transport.sendto(data, where)
            while unsent(transport) and not transport.is_closing():
                await asyncio.sleep(0)
            for _ in range(3):
                await asyncio.sleep(0)
            got = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    got.append(other.recv(10))
            return got, protocol.notes, transport.is_closing()

    stock, ours = both(scenario)
    logs.take()
    assert ours == stock


def test_many_wait_and_leave_in_order(both):
    """The socket is full: what waits pauses the protocol, and leaves in order."""
    async def scenario(loop):
        async with named(loop) as (sock, transport, protocol, where, other):
            transport.set_write_buffer_limits(100, 50)
            sock.writes += [BlockingIOError(11, "later")] * 3
            for n in range(5):
                transport.sendto(b"%040d" % n, where if n % 2 else ("127.0.0.1", where[1]))
            first = list(protocol.notes), bool(unsent(transport))
            got = [int(await loop.sock_recv(other, 100)) for _ in range(5)]
            while "resume" not in protocol.notes:
                await asyncio.sleep(0)
            return first, got, protocol.notes, unsent(transport)

    stock, ours = both(scenario)
    assert ours == stock == ((((["pause"], True), [0, 1, 2, 3, 4], ["pause", "resume"], 0), []))


@pytest.mark.parametrize("address", [("127.0.0.1", 9), "text", 5, (), (0,), ("a", "b"), (1 << 70, 0)],
                         ids=repr)
def test_wrong_addresses(both, address, logs):
    async def scenario(loop):
        sock, transport, protocol = await endpoint(loop)
        try:
            transport.sendto(ASK, address)
            said = "sent"
        except Exception as exc:
            said = type(exc).__name__
        for _ in range(3):
            await asyncio.sleep(0)
        out = said, transport.is_closing(), protocol.notes
        transport.abort()
        return out, await protocol.lost

    stock, ours = both(scenario)
    logs.take()
    assert ours == stock
