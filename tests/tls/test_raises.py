"""What is left of the writes before an error, and who is told of a CancelledError."""
import asyncio
import ssl

import pytest
import support
import tlskit
from support import BufferedRecorder, Recorder


def gappy():
    return memoryview(b"abcdef")[::2]


# -- writes -----------------------------------------------------------------

@pytest.mark.parametrize("where", ["task", "data"])
def test_what_was_written_before_a_view_with_gaps_is_sent(run, errors, where):
    def write(protocol, data=None):
        protocol.transport.write(b"before")
        protocol.transport.write(gappy())

    async def main():
        one, peer = await tlskit.with_peer(lambda: Recorder({"data": write}))
        if where == "task":
            write(one)
        else:
            await peer.write(b"x")
        assert await peer.read_all() == b"before"
        await one.saw("lost")
        assert isinstance(one.lost, BufferError)
        peer.close()
        context, *_ = errors.take()     # asyncio tries the view once more after "data"
        assert context["message"] == "Fatal error on SSL protocol"
        assert context["exception"] is one.lost
    run(main())


@pytest.mark.tidewire       # asyncio reports a fatal error, and closes
def test_writelines_copies_a_view_with_gaps(run):
    async def main():
        one, two = await tlskit.tls_pair()
        one.transport.writelines([b"abc", gappy(), b"end"])
        await two.got(b"abcaceend")
        released = memoryview(b"x")
        released.release()
        for bad in [b"abc", 5], [b"abc", released]:
            with pytest.raises((TypeError, ValueError)):
                one.transport.writelines(bad)
        one.transport.write(b"!")
        await two.got(b"abcaceend!")
        await support.close(one, two)
    run(main())


# -- CancelledError ---------------------------------------------------------

@pytest.mark.parametrize("hook", ["made", "data", "get_buffer", "buffer_updated"])
def test_a_cancelled_callback_is_told_of(run, errors, hook):
    """asyncio's SSLProtocol says nothing, but the transport below it does."""
    def cancel(protocol, arg=None):
        if hook != "get_buffer" or arg:     # asyncio asks once before there is anything
            raise asyncio.CancelledError
        return protocol.buffer

    async def main():
        kind = BufferedRecorder if "buffer" in hook else Recorder
        a, b = support.socketpair()
        peer = tlskit.Peer(b, tlskit.client_context(), server_hostname=tlskit.NAME)
        protocol = kind({hook: cancel})
        made = asyncio.ensure_future(
            tlskit.wrap(a, lambda: protocol, tlskit.server_context(), server_side=True))
        if hook == "made":
            with pytest.raises(asyncio.CancelledError):
                await asyncio.gather(made, peer.handshake())
        else:
            await asyncio.gather(made, peer.handshake())
            await peer.write(b"x")
        await protocol.saw("lost")
        assert isinstance(protocol.lost, asyncio.CancelledError)
        peer.close()
        (context,) = errors.take()
        assert context["message"] == tlskit.TOLD_BELOW
        assert context["exception"] is protocol.lost
    run(main())


def test_a_cancelled_eof_received_is_not_told_of(run, errors):
    def cancel(protocol):
        raise asyncio.CancelledError

    async def main():
        one, peer = await tlskit.with_peer(lambda: Recorder({"eof": cancel}))
        await peer.raw(peer.close_notify())
        await one.saw("lost")
        assert isinstance(one.lost, asyncio.CancelledError)
        peer.close()
        assert errors.take() == []
    run(main())


# -- KeyboardInterrupt ------------------------------------------------------

@pytest.mark.tidewire       # asyncio does not call pending()
def test_an_interrupt_in_pending_is_not_lost(loop):
    """Python runs in it if the program has a class of its own, and a signal may come there."""
    class Object(ssl.SSLObject):
        interrupt = False

        def read(self, *args):
            return super().read(*args)

        def pending(self):
            if Object.interrupt:
                Object.interrupt = False
                raise KeyboardInterrupt
            return super().pending()

    async def main():
        client = tlskit.client_context()
        client.sslobject_class = Object
        one, peer = await tlskit.with_peer(client=client)
        state.append((one, peer))
        Object.interrupt = True
        await peer.write(b"x")
        await one.got(b"x")
        await support.turns(5)

    state = []
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(main())
    one, peer = state.pop()
    assert not Object.interrupt
    loop.run_until_complete(tlskit.finish(one, peer))


# -- the clock --------------------------------------------------------------

@pytest.mark.tidewire       # asyncio's handshake hangs if the clock fails at its start
def test_a_clock_that_fails_during_a_handshake_is_told_of(script):
    """Debug mode times the handshake.  The clock fails at its first call, its second..."""
    lines = script("""
        import asyncio, logging, sys, time
        from tls import tlskit

        class Failed(Exception):
            pass

        async def shake(loop, clock):
            a, b = support.socketpair()
            sides = [
                asyncio.ensure_future(tlskit.wrap(a, support.Recorder, tlskit.client_context())),
                asyncio.ensure_future(tlskit.wrap(b, support.Recorder, tlskit.server_context(),
                                                  server_side=True))]
            loop.time = clock
            try:
                await asyncio.wait(sides)
            finally:
                del loop.time
            for side in sides:
                if side.exception() is None:
                    side.result()[0].abort()
                else:
                    told.append(side.exception())
            a.close()
            b.close()

        def attempt(n):
            calls = 0

            def clock():
                nonlocal calls
                calls += 1
                if calls == n:
                    raise Failed
                return time.monotonic()

            loop = new_loop()
            loop.set_debug(True)
            loop.set_exception_handler(lambda loop, context: told.append(context.get("exception")))
            try:
                loop.run_until_complete(shake(loop, clock))
            except Failed as exc:       # out of a turn
                told.append(exc)
                for task in asyncio.all_tasks(loop):
                    task.cancel()
                loop.run_until_complete(asyncio.sleep(0))
            loop.close()
            return calls >= n

        logging.disable(logging.CRITICAL)
        sys.unraisablehook = lambda seen: told.append(seen.exc_value)
        n, told = 1, []
        while attempt(n):   # the clock failed
            if Failed not in map(type, told) or SystemError in map(type, told):
                print(n, told)
            n, told = n + 1, []
        print(n > 10)
        """, python=("-X", "faulthandler", "-W", "ignore"))
    assert lines == ["True"]


# -- the report ---------------------------------------------------------------

def test_report_of_a_raising_connection_lost(run, errors):
    """asyncio calls it by a handle of its own, not from the transport below."""
    def fail(protocol, exc):
        raise ZeroDivisionError

    async def main():
        one, two = await tlskit.tls_pair(lambda: Recorder({"lost": fail}))
        one.transport.close()
        await one.saw("lost")
        await two.saw("lost")
        await asyncio.sleep(0)
        context, *_ = errors.take()
        assert set(context) == {"message", "exception", "handle"}
        assert context["message"].startswith("Exception in callback Memory.connection_lost(")
    run(main())
