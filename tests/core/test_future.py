"""create_future, create_task and the factories."""
import asyncio
import contextvars
import sys

import pytest


def test_create_future(loop):
    future = loop.create_future()
    assert isinstance(future, asyncio.Future)
    assert future.get_loop() is loop
    assert type(future) is asyncio.Future


def test_create_task(loop, run):
    async def main():
        task = loop.create_task(asyncio.sleep(0, 5))
        assert type(task) is asyncio.Task
        assert task.get_loop() is loop
        return await task
    assert run(main()) == 5


def test_create_task_name_and_context(loop, run):
    var = contextvars.ContextVar("var", default="outer")
    context = contextvars.copy_context()
    context.run(var.set, "inner")

    async def body():
        return var.get()

    async def main():
        task = loop.create_task(body(), name="Fred", context=context)
        assert task.get_name() == "Fred"
        unnamed = loop.create_task(body())
        assert unnamed.get_name().startswith("Task-")
        return await task, await unnamed
    assert run(main()) == ("inner", "outer")


def test_create_task_wrong(loop):
    with pytest.raises(TypeError):
        loop.create_task()
    with pytest.raises(TypeError):
        loop.create_task(17)
    coro = asyncio.sleep(0)
    with pytest.raises(TypeError):
        loop.create_task(coro, nonsense=1)
    coro.close()


def test_create_task_on_closed_loop(make_loop):
    loop = make_loop()
    loop.close()
    coro = asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.create_task(coro)
    coro.close()


def test_task_factory(loop, run):
    calls = []

    class MyTask(asyncio.Task):
        pass

    def factory(loop, coro, **kwargs):
        calls.append(kwargs)
        return MyTask(coro, loop=loop, **kwargs)

    assert loop.get_task_factory() is None
    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory

    async def main():
        task = loop.create_task(asyncio.sleep(0, 1), name="Fred")
        assert type(task) is MyTask
        assert task.get_name() == "Fred"
        return await task

    assert run(main()) == 1
    assert calls
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None


def test_task_factory_gets_what_asyncio_gives(loop, run):
    """Exactly: no keyword is invented, none is lost."""
    calls = []

    def factory(loop, coro, **kwargs):
        calls.append(kwargs)
        return asyncio.Task(coro, loop=loop, **{
            k: v for k, v in kwargs.items() if k in ("name", "context")})

    reference = asyncio.SelectorEventLoop()
    context = contextvars.copy_context()
    seen = []
    try:
        for this in reference, loop:
            calls.clear()
            this.set_task_factory(factory)
            for kwargs in ({}, {"name": "n"}, {"context": context},
                           {"name": "n", "context": context}):
                task = this.create_task(asyncio.sleep(0), **kwargs)
                this.run_until_complete(task)
                assert task.get_name() == kwargs.get("name", task.get_name())
            this.set_task_factory(None)
            seen.append([{k: v for k, v in c.items()} for c in calls])
    finally:
        reference.close()
    assert seen[0] == seen[1]


def test_task_factory_old_style(loop):
    """A factory without **kwargs works while no context is given."""
    def factory(loop, coro):
        return asyncio.Task(coro, loop=loop)

    loop.set_task_factory(factory)
    if sys.version_info < (3, 13, 3):
        assert loop.run_until_complete(
            loop.create_task(asyncio.sleep(0, 3))) == 3
    loop.set_task_factory(None)


def test_task_factory_wrong_type(loop):
    with pytest.raises(TypeError, match="task factory must be a callable"):
        loop.set_task_factory(17)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
def test_eager_tasks(loop, run):
    loop.set_task_factory(asyncio.eager_task_factory)
    seen = []

    async def body():
        seen.append("body")
        return 1

    async def main():
        task = asyncio.create_task(body())
        seen.append("created")
        assert task.done()
        return await task

    assert run(main()) == 1
    assert seen == ["body", "created"]


def test_overridden_create_task_is_used(loop, guard):
    seen = []

    class Mine(type(loop)):
        def create_task(self, coro, **kwargs):
            seen.append(coro)
            return super().create_task(coro, **kwargs)

    mine = Mine()
    try:
        mine.run_until_complete(asyncio.sleep(0))
    finally:
        mine.close()
    assert len(seen) == 1


def test_tasks_take_turns(loop, run):
    seen = []

    async def body(name):
        for i in range(3):
            seen.append((name, i))
            await asyncio.sleep(0)

    async def main():
        await asyncio.gather(body("a"), body("b"), body("c"))

    run(main())
    assert seen == [(n, i) for i in range(3) for n in "abc"]


def test_cancel(loop, run):
    async def main():
        task = loop.create_task(asyncio.sleep(100))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return True
    assert run(main())


def test_wait_for_times_out(loop, run):
    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.sleep(100), 0.001)
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        return True
    assert run(main())


def test_exception_never_retrieved(loop, errors):
    import gc

    async def fail():
        raise ZeroDivisionError

    async def main():
        loop.create_task(fail())
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    gc.collect()
    (context,) = errors.take()
    assert context["message"] == "Task exception was never retrieved"
    assert isinstance(context["exception"], ZeroDivisionError)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interrupt_in_a_task(loop, run, kind):
    async def fail():
        await asyncio.sleep(0)
        raise kind

    with pytest.raises(kind):
        loop.run_until_complete(fail())
    assert run(asyncio.sleep(0, 1)) == 1


def test_future_callbacks_run_in_later_turns(loop, run):
    async def main():
        future = loop.create_future()
        seen = []
        future.add_done_callback(lambda f: seen.append(1))
        future.set_result(None)
        assert seen == []
        await asyncio.sleep(0)
        return seen
    assert run(main()) == [1]


def test_pure_python_futures_work_too(loop, run):
    from asyncio import futures, tasks
    if not hasattr(futures, "_PyFuture"):
        pytest.skip("no pure Python future")

    async def main():
        future = futures._PyFuture(loop=loop)
        loop.call_soon(future.set_result, 3)
        return await future

    assert run(main()) == 3
    task = tasks._PyTask(asyncio.sleep(0, 4), loop=loop)
    assert loop.run_until_complete(task) == 4


@pytest.mark.tidewire
def test_finalizers_that_make_the_first_future(script):
    """The collector runs while the loop makes what all its futures are made with."""
    out = script("""
        import weakref

        class Cycle:
            def __init__(self, loop):
                self.me, self.loop = self, loop

            def __del__(self):
                made.append(self.loop.create_future())

        made = []
        for n in range(60):
            loop = new_loop()
            ref = weakref.ref(loop)
            for _ in range(3):
                Cycle(loop)
            gc.set_threshold(n + 1)
            junk = [loop.create_future() for _ in range(200)]
            gc.set_threshold(700)
            loop.close()
            del loop, junk
            made.clear()
            gc.collect()
            made.clear()
            gc.collect()
            assert ref() is None, n
        print("gone")
    """)
    assert out == ["gone"]
