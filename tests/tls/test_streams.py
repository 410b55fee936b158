"""asyncio's StreamReader over TLS: fed in C, and nothing may show it."""
import asyncio
import contextlib
import gc
import random
import sys

import pytest
import support
import tlskit


@contextlib.asynccontextmanager
async def connected(**kwargs):
    """Two ends of a TLS connection: (reader, writer) of the client, of the server."""
    loop = asyncio.get_running_loop()
    served = loop.create_future()

    async def handle(reader, writer):
        served.set_result((reader, writer))

    async with await asyncio.start_server(
            handle, "127.0.0.1", 0, ssl=tlskit.server_context()) as server:
        client = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=tlskit.client_context(),
            server_hostname=tlskit.NAME, **kwargs)
        other = await served
        try:
            yield client, other
        finally:
            for _, writer in client, other:
                writer.close()
            for _, writer in client, other:
                with contextlib.suppress(Exception):    # data_received()'s, in some tests
                    await writer.wait_closed()


async def buffered(reader, size):
    for _ in range(10000):
        if len(reader._buffer) >= size:
            return
        await support.io_turns(1)
    raise AssertionError(f"only {len(reader._buffer)} bytes came")


@pytest.mark.tidewire
def test_no_python_feeds_the_reader(loop, run):
    loop.set_debug(False)       # in debug mode Python does
    def note(frame, event, arg):
        if event == "call" and frame.f_code.co_filename.endswith("asyncio/streams.py"):
            names.add(frame.f_code.co_name)

    async def main():
        async with connected() as ((reader, _), (_, writer)):
            sys.setprofile(note)
            for size in 1, 1000, 200_000:
                writer.write(bytes(size))
                assert await reader.readexactly(size) == bytes(size)
            sys.setprofile(None)
            assert "readexactly" in names
            assert not {"data_received", "feed_data", "_wakeup_waiter"} & names

    names = set()
    run(main())


def test_sizes(run):
    async def main():
        rng = random.Random(5)
        async with connected() as ((reader, writer), (other, answers)):
            for size in [10, 40_000, 1, 17_000, 300_000, 16_384, 16_385, 5]:
                data = rng.randbytes(size)
                writer.write(data)
                answers.write(await other.readexactly(size))
                assert support.same(await reader.readexactly(size), data)
            answers.write(b"the end")
            answers.close()
            assert await reader.read() == b"the end"
            assert reader.at_eof()
    run(main())


def test_pauses_over_twice_the_limit(run):
    async def main():
        data = random.Random(6).randbytes(2_000_000)
        async with connected(limit=1000) as ((reader, writer), (_, answers)):
            answers.write(data[:2000])
            await buffered(reader, 2000)
            assert writer.transport.is_reading()
            answers.write(data[2000:])
            await buffered(reader, 2001)
            assert not writer.transport.is_reading() and reader._paused
            assert support.same(await reader.readexactly(len(data)), data)
    run(main())


def test_replaced_in_the_object(run):
    async def main():
        async with connected() as ((reader, _), (_, writer)):
            writer.write(b"before")
            assert await reader.readexactly(6) == b"before"
            reader.feed_data = lambda data: seen.append(data) or original(data.upper())
            original = type(reader).feed_data.__get__(reader)
            writer.write(b"seen")
            assert await reader.readexactly(4) == b"SEEN"
            del reader.feed_data
            writer.write(b"after")
            assert await reader.readexactly(5) == b"after"
            assert seen == [b"seen"]

    seen = []
    run(main())


def test_exported_buffer(run, errors):
    async def main():
        async with connected() as ((reader, writer), (_, answers)):
            answers.write(b"seen")
            await buffered(reader, 4)
            with memoryview(reader._buffer) as view:
                answers.write(b"not")
                while not writer.transport.is_closing():
                    await support.io_turns(1)
                assert bytes(view) == b"seen"
            await support.turns(3)
            (context,) = errors.take()
            assert isinstance(context["exception"], BufferError)
    run(main())


def test_data_after_feed_eof(run, errors):
    async def main():
        async with connected() as ((reader, writer), (_, answers)):
            reader.feed_eof()
            answers.write(b"late")
            while not writer.transport.is_closing():
                await support.io_turns(1)
            await support.turns(3)
            (context,) = errors.take()
            assert isinstance(context["exception"], AssertionError)
    run(main())


def test_start_tls(run):
    """In clear, then not: the same reader."""
    async def main():
        async def handle(reader, writer):
            writer.write(await reader.readexactly(5))
            await writer.drain()
            await writer.start_tls(tlskit.server_context())
            writer.write((await reader.readexactly(100_000)).upper())
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(
                *server.sockets[0].getsockname())
            writer.write(b"clear")
            assert await reader.readexactly(5) == b"clear"
            await writer.start_tls(tlskit.client_context(), server_hostname=tlskit.NAME)
            writer.write(b"x" * 100_000)
            assert await reader.readexactly(100_000) == b"X" * 100_000
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
    run(main())


def test_collector_at_every_step(run):
    async def main():
        async with connected(limit=1000) as ((reader, _), (_, writer)):
            for size in 10, 5000, 40_000, 100_000, 3:
                writer.write(bytes(size))
                assert await reader.readexactly(size) == bytes(size)

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        run(main())
    finally:
        gc.set_threshold(*threshold)
