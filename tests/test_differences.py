"""Where we differ by choice: docs/differences.rst, as tests."""
import asyncio
import contextvars
import os

import pytest

import support
from support import Recorder

pytestmark = pytest.mark.tidewire


# -- the cork ---------------------------------------------------------------

def peer_sees(monkeypatch, loop_factory, value):
    """What a callback's write has brought when it looks at the peer."""
    if value is None:
        monkeypatch.delenv("TIDEWIRE_CORK", raising=False)
    else:
        monkeypatch.setenv("TIDEWIRE_CORK", value)
    seen = []

    async def main():
        def look(protocol, data):
            protocol.transport.write(b"answer")
            seen.append(support.drain(peer))

        transport, protocol, peer = await support.connected(
            "unix", lambda: Recorder({"data": look}))
        peer.send(b"question")
        await protocol.saw("data")
        await support.turns()
        seen.append(support.drain(peer))
        await support.close(protocol)
        peer.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    return seen


@pytest.mark.parametrize("value", [None, "", "1"])
def test_writes_are_held_until_the_callback_returns(
        monkeypatch, loop_factory, value):
    assert peer_sees(monkeypatch, loop_factory, value) == [b"", b"answer"]


def test_cork_switched_off(monkeypatch, loop_factory):
    assert peer_sees(monkeypatch, loop_factory, "0") == [b"answer", b""]


def order_of_a_failing_write(loop_factory):
    seen = []

    async def main():
        transport, protocol, peer = await support.connected(
            "unix", lambda: Recorder(
                {"lost": lambda p, exc: seen.append("lost")}))
        peer.close()
        transport.write(b"x")
        asyncio.get_running_loop().call_soon(seen.append, "soon")
        await protocol.saw("lost")

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    return seen


def test_failing_write(monkeypatch, loop_factory):
    monkeypatch.delenv("TIDEWIRE_CORK", raising=False)
    assert order_of_a_failing_write(loop_factory) == ["soon", "lost"]
    monkeypatch.setenv("TIDEWIRE_CORK", "0")
    assert order_of_a_failing_write(loop_factory) == ["lost", "soon"]
    assert (order_of_a_failing_write(asyncio.SelectorEventLoop)
            == ["lost", "soon"])


# -- contexts ---------------------------------------------------------------

var = contextvars.ContextVar("var", default="none")


def test_context_of_resume_writing(run):
    async def main():
        seen = []
        var.set("maker")
        transport, protocol, peer = await support.connected(
            "unix", lambda: Recorder(
                {"resume": lambda p: seen.append(var.get())}))
        var.set("writer")
        transport.write(b"x" * 3_000_000)
        await support.recv_exactly(peer, 3_000_000)
        await protocol.saw("resume")
        assert seen == ["maker"]
        await support.close(protocol)
        peer.close()

    run(main())


# -- reports ----------------------------------------------------------------

def test_report_of_a_raising_pipe_protocol(run, errors):
    class Raising(asyncio.Protocol):
        def data_received(self, data):
            raise LookupError

    async def main():
        r, w = os.pipe()
        transport, protocol = await asyncio.get_running_loop(
            ).connect_read_pipe(Raising, os.fdopen(r, "rb", 0))
        os.write(w, b"x")
        await support.io_turns()
        (context,) = errors.take()
        assert context["message"].startswith("Exception in callback ")
        assert isinstance(context["exception"], LookupError)
        assert context["protocol"] is protocol
        assert context["transport"] is transport
        assert "handle" not in context
        transport.close()
        os.close(w)
        await support.io_turns()

    run(main())


# -- wrong arguments --------------------------------------------------------

@pytest.mark.parametrize("when", ["x", 1j, []], ids=repr)
def test_times_are_real_numbers(loop, when):
    with pytest.raises(TypeError):
        loop.call_at(when, print)
    with pytest.raises(TypeError):
        loop.call_later(when, print)


def test_debug_is_a_truth_value(loop):
    loop.set_debug("yes")
    assert loop.get_debug() is True
    loop.set_debug([])
    assert loop.get_debug() is False


def test_memoryview_with_gaps(run):
    async def main():
        transport, protocol, peer = await support.connected("unix")
        gaps = memoryview(b"a-b-c-")[::2]
        with pytest.raises(BufferError):
            transport.write(gaps)
        assert not transport.is_closing()
        transport.writelines([gaps])
        assert await support.recv_exactly(peer, 3) == b"abc"
        await support.close(protocol)
        peer.close()

    run(main())


def test_writelines_wants_an_iterable(run):
    async def main():
        transport, protocol, peer = await support.connected("unix")
        with pytest.raises(TypeError):
            transport.writelines(None)
        await support.close(protocol)
        peer.close()

    run(main())


@pytest.mark.parametrize("lines", [None, 5, [5], ["text"]], ids=repr)
def test_writelines_after_write_eof(run, lines):
    async def main():
        transport, protocol, peer = await support.connected("unix")
        transport.write_eof()
        with pytest.raises(RuntimeError, match="after write_eof"):
            transport.writelines(lines)
        await support.close(protocol)
        peer.close()

    run(main())
