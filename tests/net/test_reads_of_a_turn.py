"""Several reads of one turn: nothing else notices.

A transport whose reads are filled reads on, unless asyncio would run something else
first: what the callback scheduled, a timer that is due, another descriptor that was added.
"""
import asyncio

import pytest

import support
from support import BufferedRecorder, Recorder

SIZE = 1000
MANY = 130


class Pieces(BufferedRecorder):
    """A buffer that every read fills; `act` is called after each."""

    def __init__(self, act):
        super().__init__(buffer=SIZE)
        self.act = act
        self.log = []

    def buffer_updated(self, nbytes):
        super().buffer_updated(nbytes)
        self.log.append("read")
        self.act(self)


async def receive(act, pieces=6):
    """A pair whose right side has got everything, read in pieces."""
    one, two = await support.pair("unix", right=lambda: Pieces(act))
    one.transport.write(bytes(SIZE * pieces))
    await two.got(SIZE * pieces)
    await support.close(one, two)
    return two.log


def test_what_a_callback_schedules_comes_before_the_next_read(run):
    def act(protocol):
        asyncio.get_running_loop().call_soon(protocol.log.append, "soon")

    assert run(receive(act)) == ["read", "soon"] * 6


def test_what_another_thread_schedules_comes_before_the_next_read(run):
    def act(protocol):
        asyncio.get_running_loop().call_soon_threadsafe(protocol.log.append, "soon")

    assert run(receive(act)) == ["read", "soon"] * 6


def test_a_timer_that_is_due_comes_before_the_next_read(run):
    def act(protocol):
        loop = asyncio.get_running_loop()
        due = loop.time()
        loop.call_at(due, protocol.log.append, "timer")
        while loop.time() <= due:
            pass

    # A turn polls first and looks at its timers last.
    assert run(receive(act))[:11] == ["read"] + ["read", "timer"] * 5


@pytest.mark.parametrize("kind", support.KINDS)
@pytest.mark.parametrize("action", ["pause_reading", "close", "abort"])
def test_no_read_follows_what_ends_reading(run, kind, action):
    async def main():
        def act(protocol):
            getattr(protocol.transport, action)()

        one, two = await support.pair(kind, right=lambda: Pieces(act))
        one.transport.write(bytes(SIZE * 6))
        await two.saw("data")
        await support.io_turns()
        assert two.log == ["read"]
        one.transport.abort()
        two.transport.abort()
        await two.saw("lost")

    run(main())


def test_another_protocol_gets_the_rest(run):
    async def main():
        other = Recorder()

        def act(protocol):
            protocol.transport.set_protocol(other)

        one, two = await support.pair("unix", right=lambda: Pieces(act))
        other.transport = two.transport
        one.transport.write(bytes(SIZE * 6))
        await other.got(SIZE * 5)
        assert two.log == ["read"]
        await support.close(one, other)

    run(main())


def test_stop_comes_before_the_next_read(loop):
    async def main():
        one, two = await support.pair(
            "unix", right=lambda: Pieces(lambda protocol: loop.stop()))
        one.transport.write(bytes(SIZE * 6))
        return one, two

    one, two = loop.run_until_complete(main())
    while not two.log:
        loop.run_forever()
    assert two.log == ["read"]
    for n in range(2, 7):
        loop.run_forever()
        assert len(two.log) == n
    loop.run_until_complete(support.close(one, two))


@pytest.mark.tidewire
def test_a_filled_buffer_is_read_on(run):
    async def main():
        one, two = await support.pair("unix", right=lambda: Pieces(lambda protocol: None))
        await support.io_turns()
        one.transport.write(bytes(SIZE * 16))
        before = asyncio.get_running_loop().stats()["turns"]
        await two.got(SIZE * 16)
        turns = asyncio.get_running_loop().stats()["turns"] - before
        assert two.log == ["read"] * 16 and turns < 8
        await support.close(one, two)

    run(main())


@pytest.mark.tidewire
def test_others_get_their_turn(run):
    """One that always has more does not keep the loop to itself."""
    async def main():
        one, two = await support.pair("unix", right=lambda: Pieces(lambda protocol: None))
        three, four = await support.pair("unix")
        loop = asyncio.get_running_loop()
        read_at = loop.create_future()

        def noted(protocol, data):
            read_at.set_result(len(two.log))
        four.hooks["data"] = noted
        one.transport.write(bytes(SIZE * 100))
        three.transport.write(b"x")
        assert await read_at < 100
        await two.got(SIZE * 100)
        await support.close(one, two, three, four)

    run(main())


def test_many_take_turns(run):
    """Among very many that always have more, none reads twice before all have read."""
    async def main():
        order = []
        pairs = [await support.pair("unix", right=lambda: Pieces(order.append))
                 for _ in range(MANY)]
        for one, two in pairs:
            one.transport.write(bytes(SIZE * 6))
        for one, two in pairs:
            await two.got(SIZE * 6)
        places = {two: i for i, (one, two) in enumerate(pairs)}
        rounds = [[places[p] for p in order[i:i + MANY]]
                  for i in range(0, 6 * MANY, MANY)]
        assert [sorted(r) for r in rounds] == [list(range(MANY))] * 6
        await support.close(*(p for pair in pairs for p in pair))

    run(main())
