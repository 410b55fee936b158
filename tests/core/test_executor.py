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
