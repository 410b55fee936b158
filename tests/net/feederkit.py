"""A StreamReader of asyncio's over a transport, and which of its functions ran."""
import asyncio
import contextlib
import sys

import pytest

import support

FATAL = "Fatal error: protocol.data_received() call failed."


@pytest.fixture(autouse=True)
def not_in_debug_mode(loop):
    """There the protocol's own methods run."""
    loop.set_debug(False)


class Streams:
    """A reader, its writer, and the bare socket of the other end."""

    def __init__(self, kind="tcp", limit=2 ** 16, reader_class=asyncio.StreamReader,
                 protocol_class=asyncio.StreamReaderProtocol):
        self.kind, self.limit = kind, limit
        self.reader_class, self.protocol_class = reader_class, protocol_class

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        ours, self.peer = support.socketpair(self.kind)
        self.reader = self.reader_class(limit=self.limit, loop=loop)
        self.transport, self.protocol = await support.connect_sock(
            ours, lambda: self.protocol_class(self.reader, loop=loop))
        self.writer = asyncio.StreamWriter(self.transport, self.protocol, self.reader, loop)
        return self

    async def __aexit__(self, *exc):
        self.writer.close()
        with contextlib.suppress(Exception):    # data_received()'s, in some tests
            await self.writer.wait_closed()
        self.peer.close()

    async def echo(self, data=b"0123456789"):
        await asyncio.get_running_loop().sock_sendall(self.peer, data)
        assert support.same(await self.reader.readexactly(len(data)), data)

    async def buffered(self, size):
        """Wait until so much stands in the reader's buffer."""
        for _ in range(10000):
            if len(self.reader._buffer) >= size:
                return
            await support.io_turns(1)
        raise AssertionError(f"only {len(self.reader._buffer)} bytes came")

    async def ended(self, errors, exc_type):
        """The connection ends with a report of data_received()'s exception."""
        while not self.transport.is_closing():
            await support.io_turns(1)
        await support.turns(3)
        (context,) = errors.take()
        assert context["message"] == FATAL
        assert isinstance(context["exception"], exc_type)
        assert context["transport"] is self.transport
        assert context["protocol"] is self.protocol
        return context["exception"]


class Calls:
    """Which of asyncio's stream functions were called, by a profile function."""

    def __enter__(self):
        self.names = []
        sys.setprofile(self.note)
        return self

    def note(self, frame, event, arg):
        if event == "call" and frame.f_code.co_filename.endswith("asyncio/streams.py"):
            self.names.append(frame.f_code.co_name)

    def __exit__(self, *exc):
        sys.setprofile(None)

    def fed(self):
        return {"data_received", "feed_data", "_wakeup_waiter"} & set(self.names)
