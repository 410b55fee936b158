"""Greenlets that switch inside callbacks, as SQLAlchemy's asyncio does."""
import asyncio
import os

import pytest

import support

greenlet = pytest.importorskip("greenlet")
pytestmark = pytest.mark.skipif(
    "libasan" in os.environ.get("LD_PRELOAD", ""),
    reason="greenlet copies whole stacks, which ends a sanitized process")


class Spawned(greenlet.greenlet):
    """await_() inside it gives an awaitable to the coroutine outside."""

    def __init__(self, fn, driver):
        super().__init__(fn, driver)
        self.driver = driver


def await_(awaitable):
    return greenlet.getcurrent().driver.switch(awaitable)


async def spawn(fn, *args):
    """Run fn in a greenlet; what it await_()s is awaited here."""
    context = Spawned(fn, greenlet.getcurrent())
    result = context.switch(*args)
    while not context.dead:
        try:
            value = await result
        except BaseException as exc:
            result = context.throw(exc)
        else:
            result = context.switch(value)
    return result


def test_spawn(run):
    def work(n):
        total = 0
        for i in range(n):
            total += await_(asyncio.sleep(0, i))
        return total

    async def main():
        return await asyncio.gather(*(spawn(work, n) for n in range(20)))
    assert run(main()) == [sum(range(n)) for n in range(20)]


def test_exceptions_cross(run):
    async def fail():
        await asyncio.sleep(0)
        raise LookupError("x")

    def work():
        with pytest.raises(LookupError):
            await_(fail())
        return await_(asyncio.sleep(0, "went on"))

    async def main():
        return await spawn(work)
    assert run(main()) == "went on"


def test_cancel_crosses(run):
    seen = []

    def work():
        try:
            await_(asyncio.sleep(100))
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def main():
        task = asyncio.ensure_future(spawn(work))
        await support.turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    run(main())
    assert seen == ["cancelled"]


def test_streams_from_a_greenlet(run):
    async def handle(reader, writer):
        while data := await reader.readline():
            writer.write(data.upper())
        writer.close()

    def client(port):
        reader, writer = await_(asyncio.open_connection("127.0.0.1", port))
        out = []
        for i in range(20):
            writer.write(b"line %d\n" % i)
            out.append(await_(reader.readline()))
        writer.close()
        await_(writer.wait_closed())
        return out

    async def main():
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        results = await asyncio.gather(*(spawn(client, port)
                                         for _ in range(5)))
        server.close()
        await server.wait_closed()
        await support.io_turns()
        return results

    expected = [b"LINE %d\n" % i for i in range(20)]
    assert run(main()) == [expected] * 5


def test_greenlet_resumed_from_data_received(script):
    """Its stack goes on inside the callback, and leaves it half way."""
    out = script("""
        from greenlet import greenlet, getcurrent
        loop = new_loop()

        class Reader(asyncio.Protocol):
            def __init__(self):
                self.main = getcurrent()
                self.buffer = b""
                self.waiting = None

            def connection_made(self, transport):
                self.transport = transport

            def data_received(self, data):
                self.buffer += data
                if self.waiting is not None:
                    waiting, self.waiting = self.waiting, None
                    waiting.switch()

            def connection_lost(self, exc):
                self.data_received(b"")
                self.buffer = None

        def worker(protocol, count, done):
            got = 0
            while got < count:
                while not protocol.buffer:
                    protocol.waiting = getcurrent()
                    getcurrent().parent.switch()
                got += len(protocol.buffer)
                protocol.buffer = b""
                protocol.transport.write(b"a" * 10)
            done.set_result(got)

        async def main():
            rounds = []
            for i in range(20):
                (one, two) = await support.pair("tcp", Reader)
                done = loop.create_future()
                green = greenlet(worker)
                # A fresh parent for each: the loop's own greenlet.
                green.switch(one, 1000, done)
                for _ in range(100):
                    two.transport.write(b"0123456789")
                    await two.got(10 * (_ + 1))
                rounds.append(await done)
                two.transport.abort()
                one.transport.abort()
                await support.io_turns(2)
            print(set(rounds))

        loop.run_until_complete(main())
        loop.close()
    """)
    assert out == ["{1000}"]


def test_loop_inside_a_greenlet(loop_factory, guard):
    """run_forever's own frame lies on a greenlet's stack."""
    def body():
        loop = loop_factory()
        try:
            return loop.run_until_complete(asyncio.sleep(0.001, "done"))
        finally:
            loop.close()

    green = greenlet.greenlet(body)
    assert green.switch() == "done"


def test_callbacks_that_switch_back_and_forth(loop, run):
    """Callbacks of one turn finish in another order than they began."""
    seen = []
    waiting = []

    def body(n):
        seen.append(("begin", n))
        waiting.append(greenlet.getcurrent())
        greenlet.getcurrent().parent.switch()
        seen.append(("end", n))

    def begin(n):
        greenlet.greenlet(body).switch(n)

    def resume():
        waiting.pop().switch()

    for n in range(3):
        loop.call_soon(begin, n)
    for n in range(3):
        loop.call_soon(resume)
    run(asyncio.sleep(0))
    assert seen == [("begin", 0), ("begin", 1), ("begin", 2),
                    ("end", 2), ("end", 1), ("end", 0)]


def test_switch_inside_pause_writing(run):
    """A callback within a callback waits: what others write leaves."""
    async def main():
        waiting = []

        def pause(protocol):
            waiting.append(greenlet.getcurrent())
            greenlet.getcurrent().parent.switch()

        one, two = await support.pair(
            "unix", lambda: support.Recorder({"pause": pause}))
        three, four = await support.pair("unix")
        two.transport.pause_reading()
        writer = greenlet.greenlet(one.transport.write)
        writer.switch(bytes(8 << 20))
        assert waiting == [writer] and not writer.dead
        for i in range(3):
            three.transport.write(b"through")
            await four.got(b"through" * (i + 1))
        writer.switch()
        assert writer.dead
        three.transport.write(b"after")
        await four.got(len(b"through" * 3 + b"after"))
        await support.close(one, two, three, four)
    run(main())
