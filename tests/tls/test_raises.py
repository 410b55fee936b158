"""What is left of the writes before an error."""
import pytest
import support
import tlskit
from support import Recorder


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
