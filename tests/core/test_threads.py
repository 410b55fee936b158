"""Several loops in several threads, and a thread that needs the GIL."""
import asyncio
import ctypes
import threading
import time

import pytest

import support


def in_threads(count, work):
    """Run work(number) in threads; their exceptions come out."""
    failed = []

    def body(number):
        try:
            work(number)
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=body, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def test_loops_side_by_side(loop_factory):
    results = {}

    def work(number):
        async def main():
            one, two = await support.pair("tcp")
            for i in range(50):
                one.transport.write(b"%d." % number)
                await two.until(lambda: two.data.count(b".") > i)
                assert asyncio.get_running_loop() is loop
            await support.close(one, two)
            return two.data

        loop = loop_factory()
        try:
            results[number] = loop.run_until_complete(main())
        finally:
            loop.close()

    in_threads(4, work)
    assert results == {n: b"%d." % n * 50 for n in range(4)}


def test_running_loop_is_per_thread(loop, loop_factory):
    async def main():
        def other():
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                return "none"
        return await loop.run_in_executor(None, other)
    assert loop.run_until_complete(main()) == "none"


def test_loop_made_here_run_there(make_loop):
    loop = make_loop()
    seen = []

    def work(number):
        seen.append(loop.run_until_complete(asyncio.sleep(0.001, 5)))

    in_threads(1, work)
    assert seen == [5]
    assert loop.run_until_complete(asyncio.sleep(0, 6)) == 6


def test_loops_made_and_closed_in_threads(loop_factory):
    def work(number):
        for i in range(30):
            loop = loop_factory()
            assert loop.run_until_complete(asyncio.sleep(0, i)) == i
            loop.close()

    in_threads(4, work)


def test_loops_calling_each_other(loop_factory):
    """Two loops play ping-pong through call_soon_threadsafe."""
    loops = [loop_factory(), loop_factory()]
    counts = [0, 0]

    def hit(number):
        counts[number] += 1
        other = 1 - number
        if counts[number] >= 300:
            loops[number].stop()
            if counts[other] < 300:
                loops[other].call_soon_threadsafe(hit, other)
        else:
            loops[other].call_soon_threadsafe(hit, other)

    loops[0].call_soon(hit, 0)
    in_threads(2, lambda n: loops[n].run_forever())
    for loop in loops:
        loop.close()
    assert counts == [300, 300]


# -- the GIL ----------------------------------------------------------------

def rounds_beside(loop, seconds=0.3):
    """How often a thread gets the GIL back beside a loop that is busy."""
    rounds = 0
    done = threading.Event()

    def work():
        nonlocal rounds
        while not done.is_set():
            rounds += 1
            time.sleep(0)           # gives the GIL away, wants it back
        loop.call_soon_threadsafe(loop.stop)

    def chain():
        loop.call_soon(chain)

    loop.call_soon(chain)
    loop.call_later(seconds, done.set)
    thread = threading.Thread(target=work)
    thread.start()
    loop.run_forever()
    thread.join()
    return rounds


def test_gil_beside_a_chain(loop):
    """Not starved: asyncio's makes thousands, a starved one a few dozen."""
    assert rounds_beside(loop) > 100


def test_gil_beside_an_echo(loop):
    rounds = 0
    done = threading.Event()

    def work():
        nonlocal rounds
        while not done.is_set():
            rounds += 1
            time.sleep(0)

    async def main():
        nonlocal rounds
        one, two = await support.pair(
            "unix",
            lambda: support.Recorder(
                {"data": lambda p, d: (p.events.clear(),
                                       p.transport.write(d))}),
            lambda: support.Recorder(
                {"data": lambda p, d: (p.events.clear(),
                                       p.transport.write(d))}))
        one.transport.write(b"x" * 100)
        thread = threading.Thread(target=work)
        thread.start()
        await asyncio.sleep(0.3)
        done.set()
        await loop.run_in_executor(None, thread.join)
        await support.close(one, two)

    loop.run_until_complete(main())
    assert rounds > 100


def test_executor_gets_on_beside_a_chain(loop):
    """A future of an executor finishes while the loop is kept busy."""
    async def busy():
        while True:
            await asyncio.sleep(0)

    async def main():
        task = asyncio.ensure_future(busy())
        out = 0
        for i in range(50):
            out += await loop.run_in_executor(None, abs, -1)
        task.cancel()
        await asyncio.wait([task])
        return out

    start = time.monotonic()
    assert loop.run_until_complete(main()) == 50
    assert time.monotonic() - start < 10


def test_a_reader_added_between_two_callbacks(loop):
    """A thread that gets the GIL where the loop gives it away adds a reader."""
    async def main():
        gate = threading.Lock()
        gate.acquire()
        came = loop.create_future()
        a, b = support.socketpair()
        a.send(b"x")

        def work():
            with gate:
                loop.add_reader(b, lambda: came.done() or came.set_result(None))

        thread = threading.Thread(target=work)
        thread.start()
        # Neither gives the GIL away: the thread waits for it when the loop does.
        loop.call_soon(gate.release)
        loop.call_soon(sum, range(10 ** 6))
        await asyncio.wait_for(came, 5 * support.SLOWER)
        thread.join()
        loop.remove_reader(b)
        a.close()
        b.close()

    for _ in range(3):
        loop.run_until_complete(main())


def test_a_callback_that_comes_while_the_loop_asks_its_own_clock(loop):
    class Loop(type(loop)):
        hook = None

        def time(self):
            hook, self.hook = self.hook, None
            if hook is not None:
                hook()
            return super().time()

    async def main():
        came = loop.create_future()
        late = loop.call_later(20, came.set_result, "late")

        def hook():
            thread = threading.Thread(target=loop.call_soon_threadsafe,
                                      args=(came.set_result, "soon"))
            thread.start()
            thread.join()
        await asyncio.sleep(0.001)
        loop.hook = hook
        assert await came == "soon"
        late.cancel()

    loop = Loop()
    try:
        start = time.monotonic()
        loop.run_until_complete(main())
        assert time.monotonic() - start < 10
    finally:
        loop.close()


@pytest.mark.tidewire       # asyncio's own code for a callback may report it
@pytest.mark.parametrize("kind", [SystemExit, ZeroDivisionError])
def test_an_exception_that_another_thread_sets_leaves_the_loop(make_loop, kind):
    """Programs stop a thread so.  No Python code may run in it but the loop's."""
    loop = make_loop()
    waits = threading.Lock()
    waits.acquire()
    left = []

    def run():
        try:
            loop.run_forever()
        except kind:
            left.append(loop.is_running())

    thread = threading.Thread(target=run)
    thread.start()
    loop.call_soon_threadsafe(waits.release)
    waits.acquire()
    number = ctypes.c_ulong(thread.ident)
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(kind)) == 1
    try:
        loop.call_soon_threadsafe(int)      # the wait ends
        thread.join(5)
        assert left == [False]
    finally:
        if thread.is_alive():
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
