"""create_task() and task factories of every signature: as asyncio's loop of this Python."""
import asyncio
import contextvars
import functools
import inspect
import sys

import pytest

variable = contextvars.ContextVar("variable", default="outer")


def test_signature(loop):
    mine = inspect.signature(loop.create_task)
    theirs = inspect.signature(functools.partial(asyncio.BaseEventLoop.create_task, loop))
    # In releases of 3.13 a **kwargs came: the headers of the build say which.
    named = [{name: p.default for name, p in signature.parameters.items()
              if p.kind is not p.VAR_KEYWORD} for signature in (mine, theirs)]
    assert named[0] == named[1]
    if sys.version_info[:2] != (3, 13):
        assert mine == theirs


class MyTask(asyncio.Task):
    pass


def plain(loop, coro):
    return MyTask(coro, loop=loop)


def with_context(loop, coro, context=None):
    return MyTask(coro, loop=loop, context=context)


def with_both(loop, coro, *, name=None, context=None):
    return MyTask(coro, loop=loop, name=name, context=context)


def with_anything(loop, coro, **kwargs):
    return MyTask(coro, loop=loop, **kwargs)


def with_positional(*args, **kwargs):
    loop, coro = args
    return MyTask(coro, loop=loop, **kwargs)


class Factory:
    def __call__(self, loop, coro, **kwargs):
        return MyTask(coro, loop=loop, **kwargs)


def eager(loop, coro, *, eager_start=None, **kwargs):
    return MyTask(coro, loop=loop, eager_start=True, **kwargs)


def wrong_name(loop, coro, named=None):
    return MyTask(coro, loop=loop, name=named)


def raises(loop, coro, **kwargs):
    coro.close()
    raise LookupError("from the factory")


def no_task(loop, coro, **kwargs):
    """Not a Task, but can be awaited."""
    coro.close()
    future = loop.create_future()
    future.set_result("future")
    return future


FACTORIES = [
    None, plain, with_context, with_both, with_anything, with_positional, Factory(),
    functools.partial(with_anything), functools.partial(with_anything, name="partial"),
    wrong_name, raises, no_task,
]
if sys.version_info >= (3, 12):
    FACTORIES += [eager, asyncio.eager_task_factory, asyncio.create_eager_task_factory(MyTask)]

ARGUMENTS = [
    {}, {"name": "Fred"}, {"name": None}, {"name": 5}, {"context": "inner"}, {"context": None},
    {"name": "Fred", "context": "inner"}, {"eager_start": True}, {"eager_start": False},
    {"eager_start": True, "name": "Fred", "context": "inner"}, {"nonsense": 1},
]


def observe(loop, factory, arguments, how):
    """All that a program can see of one create_task()."""
    seen = []

    async def body():
        seen.append(("body", variable.get(), asyncio.current_task() is not None))
        await asyncio.sleep(0)
        return "result"

    async def main():
        kwargs = dict(arguments)
        if kwargs.get("context"):
            kwargs["context"] = contextvars.copy_context()
            kwargs["context"].run(variable.set, "inner")
        coro = body()
        try:
            if how == "loop":
                task = loop.create_task(coro, **kwargs)
            elif how == "function":
                task = asyncio.create_task(coro, **kwargs)
            else:
                async with asyncio.TaskGroup() as group:
                    task = group.create_task(coro, **kwargs)
        except Exception as exc:
            coro.close()
            seen.append((type(exc), str(exc)))
            return
        seen.append((type(task), task.done()))
        if isinstance(task, asyncio.Task):
            name = task.get_name()      # "Task-5", the number is nothing to compare
            seen.append(name.partition("-")[0])
        seen.append(await task)

    task = loop.create_task(main())
    loop.set_task_factory(factory)
    loop.run_until_complete(task)
    loop.set_task_factory(None)
    return seen


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("how", ["loop", "function", "group"])
@pytest.mark.parametrize("arguments", ARGUMENTS, ids=lambda a: ",".join(a) or "nothing")
def test_create_task(loop, arguments, how):
    stock = asyncio.SelectorEventLoop()
    try:
        for factory in FACTORIES:
            ours = observe(loop, factory, arguments, how)
            assert ours == observe(stock, factory, arguments, how) != [], factory
    finally:
        stock.close()


def test_the_names_count_on(run):
    async def main():
        tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(3)]
        numbers = [int(task.get_name().removeprefix("Task-")) for task in tasks]
        assert numbers == list(range(numbers[0], numbers[0] + 3))
        await asyncio.gather(*tasks)
    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
def test_eager_tasks_and_transports(loop, run):
    """An eager task writes, waits for the answer, and ends, in the middle of a callback."""
    loop.set_task_factory(asyncio.eager_task_factory)
    order = []

    async def serve(reader, writer):
        order.append("serve")
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()

    async def ask(address, number):
        order.append(f"ask {number}")
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"line %d\n" % number)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            tasks = [asyncio.create_task(ask(server.sockets[0].getsockname(), n))
                     for n in range(5)]
            order.append("created")
            assert await asyncio.gather(*tasks) == [b"LINE %d\n" % n for n in range(5)]
        return order

    assert run(main()) == [f"ask {n}" for n in range(5)] + ["created"] + ["serve"] * 5
