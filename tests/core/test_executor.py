"""run_in_executor and the end of the default executor."""
import asyncio
import concurrent.futures
import sys
import threading

import pytest


def test_result_and_exception(loop, run):
    async def main():
        me = threading.get_ident()
        assert await loop.run_in_executor(None, threading.get_ident) != me
        assert await loop.run_in_executor(None, divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, divmod, 7, 0)
        return True
    assert run(main())


def test_given_executor(loop, run):
    with concurrent.futures.ThreadPoolExecutor(1, "mine") as pool:
        async def main():
            return await loop.run_in_executor(
                pool, lambda: threading.current_thread().name)
        assert run(main()).startswith("mine")


def test_default_executor(loop, run):
    pool = concurrent.futures.ThreadPoolExecutor(1, "ours")
    loop.set_default_executor(pool)

    async def main():
        return await loop.run_in_executor(
            None, lambda: threading.current_thread().name)
    assert run(main()).startswith("ours")


def test_default_executor_wrong_type(loop):
    with pytest.raises(TypeError):
        loop.set_default_executor(object())


def test_many(loop, run):
    async def main():
        return await asyncio.gather(*(
            loop.run_in_executor(None, pow, i, 2) for i in range(200)))
    assert run(main()) == [i * i for i in range(200)]


def test_closed_loop(make_loop):
    loop = make_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.run_in_executor(None, int)


def test_after_shutdown(loop, run):
    run(loop.shutdown_default_executor())
    with pytest.raises(RuntimeError, match="shutdown"):
        loop.run_in_executor(None, int)


def test_shutdown_waits(loop, run):
    seen = []
    release = threading.Event()

    def work():
        release.wait(5)
        seen.append(1)

    async def main():
        future = loop.run_in_executor(None, work)
        loop.call_later(0.01, release.set)
        await loop.shutdown_default_executor()
        assert seen == [1]
        await future

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
@pytest.mark.allow_threads
def test_shutdown_with_timeout(loop, run):
    release = threading.Event()

    async def main():
        future = loop.run_in_executor(None, release.wait, 1)
        with pytest.warns(RuntimeWarning, match="did not finish"):
            await loop.shutdown_default_executor(timeout=0.01)
        release.set()
        await future

    run(main())


def test_cancelled_future(loop, run):
    release = threading.Event()

    async def main():
        future = loop.run_in_executor(None, release.wait, 5)
        await asyncio.sleep(0)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        release.set()

    run(main())


def test_loop_closed_before_the_work_ended(make_loop):
    """The result has nowhere to go; nobody is hurt."""
    loop = make_loop()
    pool = concurrent.futures.ThreadPoolExecutor(1)
    release = threading.Event()

    async def main():
        return loop.run_in_executor(pool, release.wait, 5)

    future = loop.run_until_complete(main())
    loop.close()
    release.set()
    pool.shutdown()
    assert not future.done()


def test_getaddrinfo_and_getnameinfo(loop, run):
    import socket

    async def main():
        assert (await loop.getaddrinfo("127.0.0.1", 80,
                                       type=socket.SOCK_STREAM)
                == socket.getaddrinfo("127.0.0.1", 80,
                                      type=socket.SOCK_STREAM))
        flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        assert (await loop.getnameinfo(("127.0.0.1", 80), flags)
                == ("127.0.0.1", "80"))
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("not an address", 80,
                                   flags=socket.AI_NUMERICHOST)
        return True
    assert run(main())


# What is told in the loop's own thread arrives at once: from 3.14 on, and in the last of 3.13.
AT_ONCE = any("_get_running_loop" in getattr(code, "co_names", ())
              for code in asyncio.futures._chain_future.__code__.co_consts)


class ByHand:
    """An executor whose work the test does itself."""

    def __init__(self, future_type=concurrent.futures.Future):
        self.future_type = future_type
        self.futures = []

    def submit(self, function, *args):
        self.futures.append(self.future_type())
        return self.futures[-1]


def test_cancelling_the_future_cancels_the_work(loop, run):
    pool = ByHand()

    async def main():
        future = loop.run_in_executor(pool, print)
        assert isinstance(future, asyncio.Future) and future.get_loop() is loop
        future.cancel()
        assert not pool.futures[0].cancelled()      # a callback's doing
        await asyncio.sleep(0)
        assert pool.futures[0].cancelled()
        await asyncio.sleep(0)
        assert future.cancelled()

    run(main())


def test_cancelling_the_work_cancels_the_future(loop, run):
    pool = ByHand()

    async def main():
        future = loop.run_in_executor(pool, print)
        pool.futures[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await future

    run(main())


def test_a_future_that_was_cancelled_stays_so_when_the_work_ends(loop, run, errors):
    pool = ByHand()

    async def main():
        future = loop.run_in_executor(pool, print)
        pool.futures[0].set_running_or_notify_cancel()
        future.cancel()
        await asyncio.sleep(0)
        pool.futures[0].set_result(1)
        await asyncio.sleep(0)
        assert future.cancelled()

    run(main())


@pytest.mark.parametrize("theirs, ours", [
    (concurrent.futures.CancelledError, asyncio.CancelledError),
    (concurrent.futures.TimeoutError, asyncio.TimeoutError),
    (concurrent.futures.InvalidStateError, asyncio.InvalidStateError),
    (KeyError, KeyError)])
def test_exceptions_become_asyncios(loop, run, theirs, ours):
    pool = ByHand()

    async def main():
        future = loop.run_in_executor(pool, print)
        pool.futures[0].set_exception(theirs("text"))
        with pytest.raises(ours) as caught:
            await future
        assert type(caught.value) is ours and caught.value.args == ("text",)

    run(main())


def test_a_stop_iteration_is_refused(loop, run, logs):
    pool, seen = ByHand(), []

    async def main():
        loop.set_exception_handler(lambda loop, context: seen.append(context))
        future = loop.run_in_executor(pool, print)
        pool.futures[0].set_exception(StopIteration())
        await asyncio.sleep(0)
        return future.done(), future.done() and type(future.exception())

    done, kind = run(main())
    if done:            # 3.12 and later
        assert kind is RuntimeError and not seen
    else:
        assert type(seen[0]["exception"]) is TypeError


@pytest.mark.parametrize("thread", ["loop's", "other"])
def test_someone_else_has_set_the_result(loop, run, thread, caplog):
    """The loop reports it, or concurrent.futures does if it is told in the loop's thread."""
    pool, seen = ByHand(), []

    async def main():
        loop.set_exception_handler(lambda loop, context: seen.append(context))
        future = loop.run_in_executor(pool, print)
        future.set_result("mine")
        if thread == "other":
            other = threading.Thread(target=pool.futures[0].set_result, args=("theirs",))
            other.start()
            other.join()
        else:
            pool.futures[0].set_result("theirs")
        await asyncio.sleep(0)
        assert future.result() == "mine"

    run(main())
    kinds = [type(context["exception"]) for context in seen]
    logged = [record.exc_info[0] for record in caplog.records]
    if thread == "loop's" and AT_ONCE:
        assert (kinds, logged) == ([], [AssertionError])
    else:
        assert (kinds, logged) == ([AssertionError], [])


def test_callbacks_in_asyncios_order(loop, run):
    pool, seen = ByHand(), []

    async def main():
        first = loop.run_in_executor(pool, print)
        second = loop.run_in_executor(pool, print)
        for name, future in ("first", first), ("second", second):
            future.add_done_callback(lambda future, name=name: seen.append(name))
            loop.call_soon(seen.append, "before " + name)
        pool.futures[1].set_result(None)
        pool.futures[0].set_result(None)
        loop.call_soon(seen.append, "after")
        for _ in range(3):
            await asyncio.sleep(0)

    run(main())
    assert seen == ["before first", "before second",
                    *(["second", "first", "after"] if AT_ONCE else ["after", "second", "first"])]


def test_work_that_is_done_when_it_is_handed_in(loop, run):
    def done():
        future = concurrent.futures.Future()
        future.set_result(42)
        return future

    async def main():
        future = loop.run_in_executor(ByHand(done), print)
        assert future.done() == AT_ONCE
        assert await future == 42

    run(main())


def test_what_submit_may_give(loop, run):
    """An asyncio future comes back as it is; a subclass is chained; all else is refused."""
    class Custom(concurrent.futures.Future):
        pass

    async def main():
        assert loop.run_in_executor(ByHand(loop.create_future), print).get_loop() is loop
        pool = ByHand(loop.create_future)
        assert loop.run_in_executor(pool, print) is pool.futures[0]
        pool = ByHand(Custom)
        future = loop.run_in_executor(pool, print)
        pool.futures[0].set_result(5)
        assert await future == 5
        with pytest.raises(AssertionError):
            loop.run_in_executor(ByHand(object), print)

    run(main())


def test_debug_mode_checks_the_function(loop, run):
    async def coroutine():
        pass

    loop.set_debug(True)
    with pytest.raises(TypeError, match="coroutines cannot be used with run_in_executor"):
        loop.run_in_executor(None, coroutine)


def test_a_loop_closed_while_work_goes_on_is_quiet(make_loop, logs):
    pool, loop = ByHand(), make_loop()

    async def main():
        return loop.run_in_executor(pool, print)

    future = loop.run_until_complete(main())
    loop.close()
    pool.futures[0].set_result(1)
    assert not future.done()
