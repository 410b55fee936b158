"""Flow control of TLS transports: what waits in the stream below counts, and its end is told."""
import asyncio

import pytest
import support
import tlskit
from support import Recorder

# What the last of it leaves in the stream below is anything up to the stream's marks.
SIZES = range(520 << 10, 1200 << 10, 40 << 10)


def test_resume_comes_whatever_the_stream_holds(run):
    async def main():
        one, peer = await tlskit.with_peer()
        for size in SIZES:
            one.events[:] = []
            one.transport.write(tlskit.blob(size))
            await peer.read_exactly(size)
            if "pause" in one.names:
                await one.saw("resume")
        await tlskit.finish(one, peer)
    run(main())


def test_resume_comes_through_tls_in_tls(run):
    async def main():
        one, two = await tlskit.tls_pair()
        inner = one.transport
        one.transport, two.transport = await asyncio.gather(
            tlskit.start(one, tlskit.client_context()),
            tlskit.start(two, tlskit.server_context(), server_side=True))
        for high in SIZES:
            one.events[:] = []
            inner.set_write_buffer_limits(high=high, low=128 << 10)
            one.transport.write(tlskit.blob(4 << 20))
            await two.got(4 << 20)
            if "pause" in one.names:
                await one.saw("resume")
            two.events[:] = []
        await support.close(one, two)
    run(main(), timeout=20)


def test_resume_comes_after_a_mark_below_what_waits(run):
    async def main():
        one, peer = await tlskit.with_peer()
        sent = 0
        while one.transport.get_write_buffer_size() == 0:
            one.transport.write(b"x" * 16384)
            sent += 16384
        one.events[:] = []
        one.transport.set_write_buffer_limits(high=1)
        assert one.names == ["pause"]
        await peer.read_exactly(sent)
        await one.saw("resume")
        assert one.names == ["pause", "resume"]
        await tlskit.finish(one, peer)
    run(main())


def test_what_is_only_held_pauses_nobody(run):
    def answer(protocol, data):
        protocol.transport.write(b"y" * 4000)
        protocol.transport.write(b"y" * 4000)

    async def main():
        one, peer = await tlskit.with_peer(lambda: Recorder({"data": answer}))
        one.transport.set_write_buffer_limits(high=5000)
        for _ in range(2):
            await peer.write(b"x")
            assert await peer.read_exactly(8000) == b"y" * 8000
        assert one.names == ["made", "data"]
        await tlskit.finish(one, peer)
    run(main())


# -- what is held -----------------------------------------------------------

async def with_habit(writes):
    """A connection whose program has written so often in each callback."""
    one, peer = await tlskit.with_peer()
    for _ in range(20 if writes else 0):
        for _ in range(writes):
            one.transport.write(b"habit")
        await asyncio.sleep(0)
    await peer.read_exactly(100 * writes)
    support.drain(peer.sock)
    return one, peer


async def call(where, one, peer, function):
    """function(), in a callback of the loop, or in data_received()."""
    done = asyncio.get_running_loop().create_future()

    def run(*args):
        try:
            done.set_result(function())
        except BaseException as exc:
            done.set_exception(exc)

    if where == "callback":
        asyncio.get_running_loop().call_soon(run)
    else:
        one.hooks["data"] = run
        await peer.write(b"go")
    await done


wheres = pytest.mark.parametrize("where", ["callback", "data_received"])


@wheres
def test_without_a_habit_each_write_leaves_at_once(run, where):
    async def main():
        one, peer = await with_habit(0)

        def write():
            for size in range(1, 20):
                one.transport.write(b"x" * size)
                assert len(support.drain(peer.sock)) > size

        await call(where, one, peer, write)
        await tlskit.finish(one, peer)
    run(main())


BOUNDARIES = {
    "is_closing": lambda t: t.is_closing(),
    "get_extra_info": lambda t: t.get_extra_info("cipher"),
    "get_write_buffer_size": lambda t: t.get_write_buffer_size(),
    "set_write_buffer_limits": lambda t: t.set_write_buffer_limits(70000),
    "set_protocol": lambda t: t.set_protocol(t.get_protocol()),
    "fileno": lambda t: t.get_extra_info("socket").fileno(),
    "run_in_executor": lambda t: asyncio.get_running_loop().run_in_executor(None, int),
    "close": lambda t: t.close(),
    "abort": lambda t: t.abort(),
}


@wheres
@pytest.mark.parametrize("name", BOUNDARIES)
def test_boundaries(run, where, name):
    """Whatever the habit, what could show that a write was held sends it."""
    async def main():
        one, peer = await with_habit(2)

        def write():
            one.transport.write(b"x" * 1000)
            BOUNDARIES[name](one.transport)
            assert len(support.drain(peer.sock)) > 1000

        await call(where, one, peer, write)
        await tlskit.finish(one, peer)
    run(main())


# -- limits -----------------------------------------------------------------

@pytest.mark.parametrize("name", ["write", "read"])
def test_limits_of_every_kind(run, name):
    async def main():
        one, two = await tlskit.tls_pair()
        set_limits = getattr(one.transport, f"set_{name}_buffer_limits")
        get_limits = getattr(one.transport, f"get_{name}_buffer_limits")
        set_limits(high=1e6)
        assert get_limits() == (250_000, 1_000_000)
        set_limits(True)
        assert get_limits() == (0, 1)
        for huge in 2 ** 61, 2 ** 62, 2 ** 70:      # as good as no limit
            for given in {"low": huge}, {"high": huge}:
                set_limits(**given)
                low, high = get_limits()
                assert high >= low >= 2 ** 59
        for bad in "1", b"1", []:
            with pytest.raises(TypeError):
                set_limits(high=bad)
        for bad in -1, -2 ** 70:
            with pytest.raises(ValueError, match="must be >= 0"):
                set_limits(low=bad)
        one.transport.write(b"x" * 100_000)
        await two.got(100_000)
        await support.close(one, two)
    run(main())
