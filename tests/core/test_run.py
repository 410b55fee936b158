"""run_forever, run_until_complete, stop, close, and what a loop says it is."""
import asyncio
import gc
import sys
import threading
import warnings
import weakref

import pytest


def test_types(loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert isinstance(loop, asyncio.BaseEventLoop)


def test_states(loop):
    assert not loop.is_running() and not loop.is_closed()
    seen = []
    loop.call_soon(lambda: seen.append((loop.is_running(), loop.is_closed())))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [(True, False)]
    loop.close()
    assert loop.is_closed() and not loop.is_running()


def test_running_loop_is_set_while_it_runs(loop):
    seen = []
    loop.call_soon(lambda: seen.append(asyncio.get_running_loop()))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [loop]
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_result_and_exception(loop):
    async def good():
        await asyncio.sleep(0)
        return 42

    async def bad():
        await asyncio.sleep(0)
        raise LookupError("x")

    assert loop.run_until_complete(good()) == 42
    with pytest.raises(LookupError):
        loop.run_until_complete(bad())


def test_run_until_complete_of_a_future(loop):
    future = loop.create_future()
    loop.call_soon(future.set_result, 7)
    assert loop.run_until_complete(future) == 7
    assert loop.run_until_complete(future) == 7


def test_run_until_complete_stopped_early(loop):
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="stopped before Future completed"):
        loop.run_until_complete(future)


def test_run_until_complete_of_nonsense(loop):
    with pytest.raises(TypeError):
        loop.run_until_complete("nonsense")
    with pytest.raises((ValueError, RuntimeError)):
        other = asyncio.SelectorEventLoop()
        try:
            loop.run_until_complete(other.create_future())
        finally:
            other.close()


def test_stop_before_run(loop):
    """The loop goes round once."""
    seen = []
    loop.call_soon(seen.append, 1)
    loop.stop()
    loop.run_forever()
    assert seen == [1]
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_stop_before_run_polls_once(loop):
    import socket
    a, b = socket.socketpair()
    seen = []
    loop.add_reader(b, lambda: seen.append(b.recv(10)))
    a.send(b"x")
    loop.stop()
    loop.run_forever()
    loop.stop()
    loop.run_forever()
    assert seen == [b"x"]
    loop.remove_reader(b)
    a.close()
    b.close()


def test_stop_twice(loop):
    loop.call_soon(loop.stop)
    loop.call_soon(loop.stop)
    loop.run_forever()
    seen = []
    loop.call_soon(seen.append, 1)
    loop.call_soon(lambda: loop.call_soon(loop.stop))
    loop.run_forever()
    assert seen == [1]


# 3.13.0's run_forever, when refused, leaves a loop that thinks it stopped.
forgets = pytest.mark.asyncio_defect("forgets that it runs", since=(3, 13))


@forgets
def test_nested_run(loop):
    async def main():
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_forever()
        coro = asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_until_complete(coro)
        coro.close()
        return 1
    assert loop.run_until_complete(main()) == 1


@forgets
def test_another_loop_in_a_running_one(loop, make_loop):
    other = make_loop()

    async def main():
        with pytest.raises(RuntimeError, match="another loop is running"):
            other.run_forever()
        return 1
    assert loop.run_until_complete(main()) == 1
    assert other.run_until_complete(asyncio.sleep(0, 5)) == 5


@forgets
def test_run_in_two_threads(loop):
    seen = []

    def other():
        try:
            loop.run_forever()
        except RuntimeError as exc:
            seen.append(str(exc))

    async def main():
        thread = threading.Thread(target=other)
        thread.start()
        await loop.run_in_executor(None, thread.join)
    loop.run_until_complete(main())
    assert seen == ["This event loop is already running"]


def test_close_while_running(loop):
    async def main():
        with pytest.raises(RuntimeError, match="Cannot close a running"):
            loop.close()
        return 1
    assert loop.run_until_complete(main()) == 1


def test_close_twice(make_loop):
    loop = make_loop()
    assert loop.close() is None
    assert loop.close() is None


def test_closed_loop_does_not_run(make_loop):
    loop = make_loop()
    loop.close()
    coro = asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.run_until_complete(coro)
    coro.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.run_forever()


def test_close_drops_what_was_scheduled(make_loop):
    class Thing:
        def __call__(self):
            raise AssertionError("ran after close")

    loop = make_loop()
    one, two = Thing(), Thing()
    refs = weakref.ref(one), weakref.ref(two)
    loop.call_soon(one)
    loop.call_later(1, two)
    del one, two
    loop.close()
    gc.collect()
    assert [ref() for ref in refs] == [None, None]


def test_dropped_without_close_warns(loop_factory, unraisable):
    loop = loop_factory()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del loop
        gc.collect()
    texts = [str(w.message) for w in caught
             if issubclass(w.category, ResourceWarning)]
    assert any("unclosed event loop" in text for text in texts), texts


def test_loop_is_collected_after_close(loop_factory):
    loop = loop_factory()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    ref = weakref.ref(loop)
    del loop
    gc.collect()
    assert ref() is None


def test_repr(loop):
    text = repr(loop)
    assert "running=False" in text and "closed=False" in text
    assert "debug=False" in text or loop.get_debug()


def test_exception_handler_gets_context(loop):
    seen = []
    loop.set_exception_handler(lambda *args: seen.append(args))
    assert loop.get_exception_handler() is not None
    loop.call_exception_handler({"message": "hello"})
    assert seen == [(loop, {"message": "hello"})]


def test_exception_handler_that_raises(loop, run, logs):
    def handler(loop, context):
        raise LookupError("in handler")

    def fail():
        raise ZeroDivisionError

    loop.set_exception_handler(handler)
    loop.call_soon(fail)
    run(asyncio.sleep(0))
    (record,) = logs.take()
    assert "Unhandled error in exception handler" in record.getMessage()


def test_exception_handler_that_interrupts(loop, run):
    def handler(loop, context):
        raise KeyboardInterrupt

    def fail():
        raise ZeroDivisionError

    seen = []
    loop.set_exception_handler(handler)
    loop.call_soon(fail)
    loop.call_soon(seen.append, 1)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert seen == []
    run(asyncio.sleep(0))
    assert seen == [1]


def test_exception_handler_wrong_type(loop):
    with pytest.raises(TypeError, match="A callable object or None"):
        loop.set_exception_handler("nonsense")
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None


def test_default_exception_handler_logs(loop, run, logs):
    def fail():
        raise ZeroDivisionError

    loop.set_exception_handler(None)
    loop.call_soon(fail)
    run(asyncio.sleep(0))
    (record,) = logs.take()
    assert "Exception in callback" in record.getMessage()
    assert record.exc_info[0] is ZeroDivisionError


def test_debug_flag(loop):
    loop.set_debug(True)
    assert loop.get_debug() is True
    loop.set_debug(False)
    assert loop.get_debug() is False


def test_debug_flag_inside_the_running_loop(loop):
    async def main():
        loop.set_debug(True)
        first = loop.get_debug()
        loop.set_debug(False)
        return first, loop.get_debug()
    assert loop.run_until_complete(main()) == (True, False)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="new in 3.11")
def test_runner(loop_factory, guard):
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(asyncio.sleep(0, 5)) == 5
        assert runner.run(asyncio.sleep(0, 6)) == 6
        loop = runner.get_loop()
    assert loop.is_closed()


def test_runner_cancels_what_is_left(loop_factory):
    seen = []

    async def child():
        try:
            await asyncio.sleep(100)
        finally:
            seen.append("cancelled")

    async def main():
        task = asyncio.ensure_future(child())
        await asyncio.sleep(0)
        return task

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        task = runner.run(main())
    assert seen == ["cancelled"] and task.cancelled()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
def test_asyncio_run_with_loop_factory(loop_factory):
    async def main():
        return type(asyncio.get_running_loop())
    made = asyncio.run(main(), loop_factory=loop_factory)
    loop = loop_factory()
    assert made is type(loop)
    loop.close()


def test_current_and_all_tasks(loop, run):
    async def main():
        me = asyncio.current_task()
        assert asyncio.current_task(loop) is me
        assert me in asyncio.all_tasks(loop)
        return True
    assert run(main())
    assert asyncio.all_tasks(loop) == set()


def test_subclass_in_python(loop, guard):
    """A program may derive from the loop and override its methods."""
    seen = []

    class Mine(type(loop)):
        def call_soon(self, callback, *args, context=None):
            seen.append(callback)
            return super().call_soon(callback, *args, context=context)

        def time(self):
            return super().time()

    mine = Mine()
    try:
        assert mine.run_until_complete(asyncio.sleep(0, 3)) == 3
    finally:
        mine.close()
    assert seen


def test_attributes_can_be_set(loop):
    loop.anything = 1
    assert loop.anything == 1
    assert weakref.ref(loop)() is loop


def test_hundred_loops_after_each_other(loop_factory):
    for i in range(100):
        loop = loop_factory()
        assert loop.run_until_complete(asyncio.sleep(0, i)) == i
        loop.close()


def test_fifty_loops_at_once(loop_factory):
    loops = [loop_factory() for _ in range(50)]
    for i, loop in enumerate(loops):
        assert loop.run_until_complete(asyncio.sleep(0, i)) == i
    for loop in loops:
        loop.close()


def test_slow_callback_duration_attribute(loop):
    assert loop.slow_callback_duration == 0.1
    loop.slow_callback_duration = 0.5
    assert loop.slow_callback_duration == 0.5


@pytest.mark.tidewire       # asyncio would raise
@pytest.mark.parametrize("hooks", [None, (), (1, 2, 3), 5, "deleted"])
def test_hooks_of_generators_that_the_program_has_exchanged(loop, hooks):
    before = sys.get_asyncgen_hooks()

    async def main():
        if hooks == "deleted":
            del loop._old_agen_hooks
        else:
            loop._old_agen_hooks = hooks

    try:
        loop.run_until_complete(main())
    except (AttributeError, TypeError):
        pass        # of asyncio's part of run_forever()
    finally:
        sys.set_asyncgen_hooks(*before)
    assert not loop.is_running()
    loop.run_until_complete(asyncio.sleep(0))
    assert sys.get_asyncgen_hooks() == before
