"""What a program writes in the callback that ends a connection reaches the peer, as on asyncio."""
import asyncio

import pytest
import support
from support import BufferedRecorder, Recorder

WORDS = b"last words"


def fail(protocol, *args):
    protocol.transport.write(WORDS)
    raise ZeroDivisionError


def fail_later(protocol, *args):
    protocol.transport.write(WORDS)
    protocol.transport.write(WORDS)
    raise ZeroDivisionError


def abort(protocol, *args):
    protocol.transport.write(WORDS)
    protocol.transport.abort()


def close(protocol, *args):
    protocol.transport.write(WORDS)
    protocol.transport.close()


def eof(protocol, *args):
    protocol.transport.write(WORDS)
    protocol.transport.write_eof()
    protocol.transport.abort()


def force(protocol, *args):
    protocol.transport.write(WORDS)
    protocol.transport._force_close(OSError("x"))


@pytest.mark.parametrize("end", [fail, fail_later, abort, close, eof, force])
@pytest.mark.parametrize("where", ["data", "eof", "get_buffer", "buffer_updated", "later"])
def test_written_in_the_callback_that_ends_it(run, errors, where, end):
    if (where, end) in (("later", fail), ("later", fail_later)):
        return      # a callback of the loop is not the transport's affair

    async def main():
        loop = asyncio.get_running_loop()

        def hook(*args):
            end(*args)
            return bytearray(10) if where == "get_buffer" else None

        factory = BufferedRecorder if "buffer" in where else Recorder
        _, protocol, peer = await support.connected("unix", lambda: factory({where: hook}))
        if where == "later":
            end(protocol)
        elif where == "eof":
            peer.shutdown(1)
        else:
            peer.send(b"x")
        got = bytearray()
        try:
            while data := await loop.sock_recv(peer, 100):
                got += data
        except ConnectionError:
            pass
        await protocol.saw("lost")
        errors.take()
        assert got == (WORDS * 2 if end is fail_later else WORDS)
        peer.close()
    run(main())
