"""Async generators: the hooks, and shutdown_asyncgens."""
import asyncio
import gc
import sys

import pytest


async def numbers(log):
    try:
        for i in range(100):
            yield i
            await asyncio.sleep(0)
    finally:
        await asyncio.sleep(0)
        log.append("closed")


def test_dropped_generator_is_closed_by_the_loop(loop, run):
    log = []

    async def main():
        async for i in numbers(log):
            if i == 2:
                break
        gc.collect()
        for _ in range(10):
            await asyncio.sleep(0)

    run(main())
    assert log == ["closed"]


def test_shutdown_asyncgens(loop, run):
    log = []

    async def main():
        gen = numbers(log)
        await gen.__anext__()
        return gen

    gen = run(main())
    assert log == []
    run(loop.shutdown_asyncgens())
    assert log == ["closed"]
    del gen


def test_generator_after_shutdown_warns(loop, run):
    async def main():
        await loop.shutdown_asyncgens()
        gen = numbers([])
        with pytest.warns(ResourceWarning, match="shutdown_asyncgens"):
            await gen.__anext__()
        await gen.aclose()

    run(main())


def test_generator_that_fails_to_close(loop, run, errors):
    async def stubborn():
        try:
            yield 1
        finally:
            raise LookupError

    async def main():
        gen = stubborn()
        await gen.__anext__()
        return gen

    gen = run(main())
    run(loop.shutdown_asyncgens())
    (context,) = errors.take()
    assert "an error occurred during closing of" in context["message"]
    assert context["asyncgen"] is gen


def test_hooks_are_restored(loop, run):
    before = sys.get_asyncgen_hooks()

    async def main():
        return sys.get_asyncgen_hooks()

    during = run(main())
    assert during.firstiter is not None and during.finalizer is not None
    assert sys.get_asyncgen_hooks() == before


def test_hooks_are_restored_after_an_interrupt(loop):
    before = sys.get_asyncgen_hooks()

    def fail():
        raise KeyboardInterrupt

    loop.call_soon(fail)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert sys.get_asyncgen_hooks() == before


def test_programs_own_hooks_survive(loop, run):
    seen = []
    old = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=seen.append)
    try:
        log = []

        async def main():
            async for _ in numbers(log):
                break

        run(main())
        run(loop.shutdown_asyncgens())
        hooks = sys.get_asyncgen_hooks()
        assert hooks.firstiter == seen.append
    finally:
        sys.set_asyncgen_hooks(*old)
