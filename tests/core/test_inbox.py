"""call_soon_threadsafe: from other threads, finalizers, signal handlers."""
import asyncio
import gc
import sys
import threading

import pytest


def test_wakes_a_blocked_loop(loop):
    thread = threading.Timer(0.05, loop.call_soon_threadsafe, (loop.stop,))
    thread.start()
    start = loop.time()
    loop.run_forever()
    assert loop.time() - start < 5
    thread.join()


def test_order_of_one_thread(loop):
    seen = []

    def work():
        for i in range(5000):
            loop.call_soon_threadsafe(seen.append, i)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=work)
    thread.start()
    loop.run_forever()
    thread.join()
    assert seen == list(range(5000))


def test_order_with_call_soon_on_the_same_thread(loop, run):
    seen = []
    for i in range(10):
        loop.call_soon(seen.append, ("soon", i))
        loop.call_soon_threadsafe(seen.append, ("safe", i))
    run(asyncio.sleep(0.001))
    assert seen == [(n, i) for i in range(10) for n in ("soon", "safe")]


def test_many_threads(loop):
    seen = []
    left = 8

    def done():
        nonlocal left
        left -= 1
        if not left:
            loop.stop()

    def work(number):
        for i in range(500):
            loop.call_soon_threadsafe(seen.append, (number, i))
        loop.call_soon_threadsafe(done)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    loop.run_forever()
    for thread in threads:
        thread.join()
    assert len(seen) == 4000
    for number in range(8):
        assert [i for n, i in seen if n == number] == list(range(500))


def test_no_wakeup_is_lost(loop):
    """Ping-pong: each call comes while the loop goes to sleep or sleeps."""
    rounds = 2000
    asked = threading.Semaphore(0)

    def answer():
        asked.release()

    def work():
        for _ in range(rounds):
            loop.call_soon_threadsafe(answer)
            assert asked.acquire(timeout=5)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=work)
    thread.start()
    loop.run_forever()
    thread.join()


def test_before_the_loop_runs(loop):
    seen = []
    loop.call_soon_threadsafe(seen.append, 1)
    loop.call_soon_threadsafe(loop.stop)
    loop.run_forever()
    assert seen == [1]


def test_gives_a_handle_that_can_be_cancelled(loop, run):
    seen = []
    handle = loop.call_soon_threadsafe(seen.append, 1)
    assert isinstance(handle, asyncio.Handle)
    assert not handle.cancelled()
    handle.cancel()
    assert handle.cancelled()
    run(asyncio.sleep(0.001))
    assert seen == []


def test_cancel_from_another_thread(loop, run):
    seen = []

    def work():
        for _ in range(200):
            handle = loop.call_soon_threadsafe(seen.append, 1)
            handle.cancel()
        return True

    async def main():
        assert await loop.run_in_executor(None, work)
        await asyncio.sleep(0.001)

    run(main())
    # A call may have run before its cancel; none may run twice.
    assert len(seen) <= 200


def test_from_a_finalizer(loop, run):
    """A finalizer can run anywhere, also inside call_soon_threadsafe."""
    seen = []

    class Thing:
        def __init__(self):
            self.me = self

        def __del__(self):
            loop.call_soon_threadsafe(seen.append, 1)

    async def main():
        old = gc.get_threshold()
        gc.set_threshold(1)
        try:
            for _ in range(200):
                Thing()
                loop.call_soon_threadsafe(int)
        finally:
            gc.set_threshold(*old)
        gc.collect()
        await asyncio.sleep(0.001)

    run(main())
    assert len(seen) == 200


def test_finalizer_of_an_argument(loop, run):
    """Dropping a handle runs a finalizer that comes back into the loop."""
    seen = []

    class Thing:
        def __del__(self):
            loop.call_soon_threadsafe(seen.append, 1)

    for _ in range(20):
        loop.call_soon_threadsafe(int, 0).cancel()
        handle = loop.call_soon_threadsafe(lambda thing: None, Thing())
        handle.cancel()
        del handle
    run(asyncio.sleep(0.001))
    assert len(seen) == 20


def test_closed_while_threads_call(make_loop):
    loop = make_loop()
    loop.call_soon(loop.stop)
    loop.run_forever()
    started = threading.Event()
    seen = []

    def work():
        try:
            for i in range(10 ** 9):
                loop.call_soon_threadsafe(int)
                started.set()
        except RuntimeError as exc:
            seen.append(str(exc))

    thread = threading.Thread(target=work)
    thread.start()
    started.wait(5)
    loop.close()
    thread.join(10)
    assert seen == ["Event loop is closed"]


def test_run_coroutine_threadsafe(loop):
    async def answer():
        await asyncio.sleep(0)
        return 42

    def work():
        try:
            future = asyncio.run_coroutine_threadsafe(answer(), loop)
            results.append(future.result(5))
        finally:
            loop.call_soon_threadsafe(loop.stop)

    results = []
    thread = threading.Thread(target=work)
    thread.start()
    loop.run_forever()
    thread.join()
    assert results == [42]


def test_the_callers_context(loop):
    import contextvars
    var = contextvars.ContextVar("var")
    seen = []

    def work():
        var.set("thread")
        loop.call_soon_threadsafe(lambda: seen.append(var.get(None)))
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=work)
    thread.start()
    loop.run_forever()
    thread.join()
    assert seen == ["thread"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interrupt(loop, kind):
    def fail():
        raise kind

    thread = threading.Timer(0.01, loop.call_soon_threadsafe, (fail,))
    thread.start()
    with pytest.raises(kind):
        loop.run_forever()
    thread.join()


@pytest.mark.skipif(sys.version_info < (3, 14), reason="new in 3.14")
@pytest.mark.parametrize("method", ["cancel", "cancelled"])
@pytest.mark.parametrize("debug", [False, True])
def test_another_thread_waits_for_a_callback_that_runs(loop, errors, method, debug):
    loop.set_debug(debug)
    loop.slow_callback_duration = 60
    started, asked, ended = threading.Event(), threading.Event(), []
    seen = []

    def callback():
        started.set()
        asked.wait()
        ended.append(1)
        raise ValueError("reported before the others go on")

    def work():
        handle = loop.call_soon_threadsafe(callback)
        started.wait()
        asked.set()
        seen.append(getattr(handle, method)())
        seen.append((bool(ended), len(errors)))
        loop.call_soon_threadsafe(loop.stop)

    threads = [threading.Thread(target=work)]
    threads[0].start()
    loop.run_forever()
    threads[0].join()
    assert seen == [None if method == "cancel" else False, (True, 1)]
    errors.take()


@pytest.mark.skipif(sys.version_info < (3, 14), reason="new in 3.14")
def test_a_callback_cancels_itself_while_others_wait(loop):
    handles, seen, started = [], [], threading.Event()

    def callback():
        started.set()
        while not handles:
            pass
        handles[0].cancel()
        seen.append(handles[0].cancelled())

    def work(first):
        if first:
            handles.append(loop.call_soon_threadsafe(callback))
        started.wait()
        handles[0].cancel()
        seen.append(handles[0].cancelled())
        if len(seen) == 4:
            loop.call_soon_threadsafe(loop.stop)

    threads = [threading.Thread(target=work, args=(i == 0,)) for i in range(3)]
    for thread in threads:
        thread.start()
    loop.run_forever()
    for thread in threads:
        thread.join()
    assert seen == [True] * 4
