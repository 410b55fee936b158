"""Every method of a transport, called from inside every callback."""
import asyncio

import pytest

import support
from support import BufferedRecorder, Recorder

PLACES = ["made", "data", "eof", "pause", "resume", "lost"]
ACTIONS = {
    "close": lambda p: p.transport.close(),
    "abort": lambda p: p.transport.abort(),
    "close and abort": lambda p: (p.transport.close(), p.transport.abort()),
    "write": lambda p: p.transport.write(b"y" * 10),
    "write and close": lambda p: (p.transport.write(b"y" * 10),
                                  p.transport.close()),
    "write a lot and close": lambda p: (p.transport.write(b"y" * 500000),
                                        p.transport.close()),
    "write and abort": lambda p: (p.transport.write(b"y" * 10),
                                  p.transport.abort()),
    "write_eof": lambda p: p.transport.write_eof(),
    "write_eof and close": lambda p: (p.transport.write_eof(),
                                      p.transport.close()),
    "pause_reading": lambda p: p.transport.pause_reading(),
    "pause and resume": lambda p: (p.transport.pause_reading(),
                                   p.transport.resume_reading()),
    "pause and close": lambda p: (p.transport.pause_reading(),
                                  p.transport.close()),
    "switch": lambda p: switch(p),
    "limits": lambda p: p.transport.set_write_buffer_limits(high=0),
}


def switch(protocol):
    other = Recorder()
    other.transport = protocol.transport
    other.events = protocol.events
    other._waiters = protocol._waiters
    protocol.transport.set_protocol(other)


async def act(kind, place, action, make):
    """Go through a connection's life; do something at one place of it."""
    done = []

    def hook(protocol, *args):
        if not done:
            done.append(1)
            ACTIONS[action](protocol)

    transport, protocol, peer = await support.connected(
        kind, lambda: make({place: hook}))
    loop = asyncio.get_running_loop()
    received = bytearray()

    async def read():
        while True:
            try:
                data = await loop.sock_recv(peer, 100000)
            except ConnectionError:
                return
            if not data:
                return
            received.extend(data)

    # Fill the queue for pause_writing, then let it flow off.
    if place in ("pause", "resume"):
        for _ in range(100):
            if done or transport.is_closing() or "pause" in protocol.names:
                break
            transport.write(b"x" * 100000)
    reader = asyncio.ensure_future(read())
    try:
        await loop.sock_sendall(peer, b"hello")
    except ConnectionError:
        pass
    await support.io_turns(3)
    import socket
    try:
        peer.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    await support.io_turns(3)
    transport.resume_reading()      # where an action paused it
    await support.io_turns(3)
    transport.close()
    await protocol.saw("lost")
    await asyncio.wait_for(reader, 5)
    peer.close()
    await support.turns(2)
    assert done or place in ("pause", "resume")
    return protocol.events, bytes(received)


@pytest.mark.parametrize("kind", support.KINDS)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("place", PLACES)
def test_protocol(run, kind, place, action, logs, errors, is_stock):
    events, received = run(act(kind, place, action, Recorder))
    check(kind, events, received, place, action)
    logs.clear()        # "socket.send() raised exception." in connection_lost
    if place == "resume" and is_stock:
        errors.clear()  # asyncio ends a transport twice then, and stumbles


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("place", ["made", "data", "eof", "lost"])
def test_buffered_protocol(run, place, action, logs):
    events, received = run(act("unix", place, action, BufferedRecorder))
    check("unix", events, received, place, action)
    logs.clear()


def check(kind, events, received, place, action):
    names = [event[0] for event in events]
    assert names.count("made") == 1 and names[0] == "made"
    assert names.count("lost") == 1
    assert names[-1] == "lost"
    assert names.count("eof") <= 1
    assert names.count("pause") - names.count("resume") in (0, 1)
    data = b"".join(e[1] for e in events if e[0] == "data")
    assert b"hello".startswith(data)
    if place == "data" and action in ("write", "write and close"):
        assert received == b"y" * 10
    if (kind, place, action) == ("unix", "made", "write a lot and close"):
        # Over TCP the unread hello makes a reset of the close.
        assert support.same(received, b"y" * 500000)
    if "abort" in action and place == "made":
        assert data == b""


@pytest.mark.parametrize("how", ["close", "abort"])
def test_close_the_other_transport(run, how):
    """A's callback ends B, which is due in the same turn."""
    async def main():
        protocols = []

        def hook(protocol, data):
            for other in protocols:
                if other is not protocol:
                    getattr(other.transport, how)()

        peers = []
        for _ in range(5):
            _, protocol, peer = await support.connected(
                "unix", lambda: Recorder({"data": hook}))
            protocols.append(protocol)
            peers.append(peer)
        for peer in peers:
            peer.send(b"x")
        await support.io_turns(5)
        assert sum("data" in p.names for p in protocols) == 1
        for protocol, peer in zip(protocols, peers):
            protocol.transport.abort()
            await protocol.saw("lost")
            peer.close()

    run(main())


def test_stop_the_loop_in_data_received(loop):
    seen = []

    async def start():
        return await support.connected("unix", lambda: Recorder(
            {"data": lambda p, d: (seen.append(d), loop.stop())}))

    transport, protocol, peer = loop.run_until_complete(start())
    for i in range(3):
        peer.send(b"x")
        loop.run_forever()
    assert seen == [b"x"] * 3
    loop.run_until_complete(support.close(protocol))
    peer.close()


def test_drop_everything_in_data_received(run):
    """The last references go while the callback runs."""
    import gc

    async def main():
        class Dropper(Recorder):
            def data_received(self, data):
                self.transport.abort()
                self.transport = None
                keep.clear()
                gc.collect()

        keep = []
        ours, peer = support.socketpair()
        keep.extend(await support.connect_sock(ours, Dropper))
        del ours
        peer.send(b"x")
        assert await support.recv_all(peer) == b""
        peer.close()

    run(main())
