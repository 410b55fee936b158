"""Handle and TimerHandle: what call_soon and call_later give back."""
import asyncio
import contextvars
import gc
import sys
import warnings
import weakref

import pytest


def noop(*args):
    pass


def test_types(loop):
    handle = loop.call_soon(noop)
    timer = loop.call_later(10, noop)
    assert isinstance(handle, asyncio.Handle)
    assert isinstance(timer, asyncio.TimerHandle)
    assert isinstance(timer, asyncio.Handle)
    assert not isinstance(handle, asyncio.TimerHandle)
    timer.cancel()


def test_cancel_before_it_runs(loop, run):
    seen = []
    handle = loop.call_soon(seen.append, 1)
    assert not handle.cancelled()
    assert handle.cancel() is None
    assert handle.cancelled()
    handle.cancel()
    run(asyncio.sleep(0))
    assert seen == []


def test_cancel_after_it_ran(loop, run):
    seen = []
    handle = loop.call_soon(seen.append, 1)
    run(asyncio.sleep(0))
    assert seen == [1] and not handle.cancelled()
    handle.cancel()
    assert handle.cancelled()


def test_cancel_by_the_callback_before(loop, run):
    seen = []
    loop.call_soon(lambda: later.cancel())
    later = loop.call_soon(seen.append, 1)
    run(asyncio.sleep(0))
    assert seen == []


def test_cancel_itself_while_running(loop, run):
    def callback():
        handle.cancel()
        seen.append(handle.cancelled())

    seen = []
    handle = loop.call_soon(callback)
    run(asyncio.sleep(0))
    assert seen == [True]


@pytest.mark.parametrize("schedule", ["call_soon", "call_later"])
def test_cancel_lets_go_of_the_arguments(loop, schedule):
    class Thing:
        pass

    thing = Thing()
    ref = weakref.ref(thing)
    if schedule == "call_soon":
        handle = loop.call_soon(noop, thing)
    else:
        handle = loop.call_later(1000, noop, thing)
    del thing
    assert ref() is not None
    handle.cancel()
    gc.collect()
    assert ref() is None


def test_a_handle_that_ran_lets_go_when_dropped(loop, run):
    class Thing:
        def method(self):
            pass

    thing = Thing()
    ref = weakref.ref(thing)
    loop.call_soon(thing.method)
    del thing
    run(asyncio.sleep(0))
    gc.collect()
    assert ref() is None


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
def test_get_context(loop):
    context = contextvars.copy_context()
    assert loop.call_soon(noop, context=context).get_context() is context
    timer = loop.call_later(10, noop, context=context)
    assert timer.get_context() is context
    timer.cancel()
    assert isinstance(loop.call_soon(noop).get_context(), contextvars.Context)


def test_when(loop):
    before = loop.time()
    timer = loop.call_later(5, noop)
    assert before + 5 <= timer.when() <= loop.time() + 5
    timer.cancel()
    timer = loop.call_at(123456.5, noop)
    assert timer.when() == 123456.5
    timer.cancel()
    assert timer.when() == 123456.5


def test_when_of_call_later_zero(loop, run):
    timer = loop.call_later(0, noop)
    assert isinstance(timer, asyncio.TimerHandle)
    assert timer.when() <= loop.time()
    run(asyncio.sleep(0))


def test_timers_compare_by_time(loop):
    early = loop.call_at(1000, noop)
    late = loop.call_at(2000, noop)
    assert early < late and early <= late
    assert late > early and late >= early
    assert early != late and early == early
    assert early.__lt__(3) is NotImplemented
    with pytest.raises(TypeError):
        early < 3
    early.cancel()
    late.cancel()


def test_timers_are_equal_by_value(loop):
    one = loop.call_at(1000, noop, 1)
    two = loop.call_at(1000, noop, 1)
    other = loop.call_at(1000, noop, 2)
    assert one == two and one <= two and one >= two
    assert one != other
    assert (one == 5) is False
    for timer in one, two, other:
        timer.cancel()


def test_timers_hash_by_time(loop):
    timer = loop.call_at(1000, noop)
    assert hash(timer) == hash(1000.0)
    timer.cancel()


def test_handles_can_be_referenced_weakly(loop, run):
    handle = loop.call_soon(noop)
    timer = loop.call_later(10, noop)
    assert weakref.ref(handle)() is handle
    assert weakref.ref(timer)() is timer
    timer.cancel()
    run(asyncio.sleep(0))


def test_repr(loop):
    loop.set_debug(False)
    handle = loop.call_soon(noop, 1, "two")
    assert "noop" in repr(handle) and "Handle" in repr(handle)
    handle.cancel()
    assert "cancelled" in repr(handle)
    assert "noop" not in repr(handle)
    timer = loop.call_at(17, noop)
    assert "when=17" in repr(timer) and "TimerHandle" in repr(timer)
    timer.cancel()


def test_repr_in_debug_mode_keeps_the_callback(loop):
    loop.set_debug(True)
    handle = loop.call_soon(noop, 1)
    assert "created at" in repr(handle)
    handle.cancel()
    assert "noop" in repr(handle) and "cancelled" in repr(handle)


def test_many_cancelled_timers_cost_no_memory(loop, run):
    """They are swept out long before they would be due."""
    class Thing:
        pass

    keep = loop.call_later(1000, noop)
    refs = []
    for _ in range(2000):
        thing = Thing()
        refs.append(weakref.ref(loop.call_later(1000, noop, thing)))
        refs[-1]().cancel()
    run(asyncio.sleep(0.01))
    gc.collect()
    assert sum(ref() is not None for ref in refs) < 300
    keep.cancel()


def test_handle_reused_from_a_free_list_is_clean(loop, run):
    """Cancelling an old handle must not reach the one made after it."""
    seen = []
    old = [loop.call_soon(noop) for _ in range(50)]
    run(asyncio.sleep(0))
    new = [loop.call_soon(seen.append, i) for i in range(50)]
    for handle in old:
        handle.cancel()
    run(asyncio.sleep(0))
    assert seen == list(range(50))
    assert not any(handle.cancelled() for handle in new)


def test_handle_outlives_its_loop(make_loop):
    loop = make_loop()
    handle = loop.call_soon(noop)
    timer = loop.call_later(5, noop)
    loop.close()
    handle.cancel()
    timer.cancel()
    assert handle.cancelled() and timer.cancelled()
    repr(handle), repr(timer)


def test_cycle_through_a_handle_is_collected(make_loop):
    class Thing:
        pass

    loop = make_loop()
    thing = Thing()
    thing.handle = loop.call_soon(noop, thing)
    ref = weakref.ref(thing)
    loop.close()
    del thing
    gc.collect()
    assert ref() is None


holder = contextvars.ContextVar("holder")


class Thing:
    handle = None

    def method(self, *args):
        pass


SCHEDULES = {
    "soon": lambda loop, f: loop.call_soon(f),
    "threadsafe": lambda loop, f: loop.call_soon_threadsafe(f),
    "later": lambda loop, f: loop.call_later(0, f),
    "far": lambda loop, f: loop.call_later(1000, f),
}


@pytest.mark.parametrize("end", ["run", "cancel", "cancel_run", "close"])
@pytest.mark.parametrize("how", SCHEDULES)
def test_cycle_through_a_handle_of_a_running_loop_is_collected(make_loop, how, end):
    """thing -> handle -> bound method, or its context -> thing, made while the loop runs."""
    async def main():
        thing, context = Thing(), contextvars.copy_context()
        context.run(holder.set, thing)
        thing.handle = context.run(SCHEDULES[how], loop, thing.method)
        if end.startswith("cancel"):
            thing.handle.cancel()
        if end.endswith("run"):
            await asyncio.sleep(0.005)
        return weakref.ref(thing)

    loop = make_loop()
    ref = loop.run_until_complete(main())
    if how == "far" and end == "run":
        assert ref() is not None
        loop.close()
    elif end == "close":
        loop.close()
    gc.collect()
    assert ref() is None


@pytest.mark.parametrize("how", SCHEDULES)
def test_a_dropped_loop_is_collected_with_what_still_waits(loop_factory, how):
    def left_behind():
        thing = Thing()
        loop = thing.loop = loop_factory()

        def stop():
            thing.handle = SCHEDULES[how](loop, thing.method)
            loop.stop()

        loop.call_soon(stop)
        loop.run_forever()
        return weakref.ref(thing)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        ref = left_behind()
        gc.collect()
    assert ref() is None


@pytest.mark.parametrize("how", SCHEDULES)
def test_what_waits_survives_the_collector(loop, run, how):
    seen = []

    class Callback:
        def __call__(self):
            seen.append(self)

    async def main():
        for _ in range(10):
            handle = SCHEDULES[how](loop, Callback())
            gc.collect()
            if how == "far":
                assert isinstance(handle._callback, Callback)
                handle.cancel()
        await asyncio.sleep(0.005)

    run(main())
    assert len(seen) == (0 if how == "far" else 10)


@pytest.mark.parametrize("args", [
    (), (1,), (1, 2), (1, 2, 3), tuple(range(20)), tuple(range(300))])
def test_arguments_arrive(loop, run, args):
    seen = []
    loop.call_soon(lambda *a: seen.append(a), *args)
    loop.call_later(0, lambda *a: seen.append(a), *args)
    run(asyncio.sleep(0.001))
    assert seen == [args, args]


def test_handle_in_garbage_with_its_context(script):
    """The collector clears a context before the handle that has it."""
    out = script("""
        async def main():
            loop = asyncio.get_running_loop()
            for i in range(500):
                class Cycle:
                    pass
                cycle = Cycle()
                handle = loop.call_soon(int)
                cycle.own, cycle.handle = cycle, handle
                cycle.context = handle.get_context() if i % 2 else None
                cycle.cancelled = loop.call_later(9, int)
                cycle.cancelled.cancel()
                del handle, cycle
                if i % 5 == 0:
                    await asyncio.sleep(0)
                    gc.collect()
        loop = new_loop()
        loop.run_until_complete(main())
        gc.collect()
        loop.run_until_complete(main())
        loop.close()
        print("ended")
    """)
    assert out == ["ended"]


@pytest.mark.parametrize("how", ["deleted", "replaced"])
@pytest.mark.parametrize("name", ["_callback", "_context", "_loop", "_args", "_repr", "_cancelled"])
@pytest.mark.tidewire
def test_private_attributes_cannot_break_the_loop(script, name, how):
    out = script(f"""
        import contextlib

        def change(handle):
            with contextlib.suppress(AttributeError, TypeError):
                if {how!r} == "deleted":
                    delattr(handle, {name!r})
                else:
                    setattr(handle, {name!r}, object())

        async def main():
            for handle in loop.call_soon(int), loop.call_later(0, int):
                change(handle)
                repr(handle)
            del handle
            await asyncio.sleep(0.001)
            loop.call_soon(int)
            await asyncio.sleep(0)

        loop = new_loop()
        loop.set_exception_handler(lambda loop, context: None)
        loop.run_until_complete(main())
        loop.close()
        gc.collect()
        print("fine")
    """)
    assert out == ["fine"]


@pytest.mark.tidewire
def test_a_context_set_past_the_handles_own_class(script):
    out = script("""
        def change():
            handle = loop.call_soon(int)
            asyncio.Handle._context.__set__(handle, object())
            loop.call_soon(loop.stop)

        loop = new_loop()
        loop.set_exception_handler(lambda loop, context: print(context["exception"]))
        loop.call_soon(change)
        loop.run_forever()
        loop.close()
    """)
    assert out == ["an instance of Context was expected"]


def test_another_context_and_callback(loop, run):
    """Programs that wrap what a handle calls find it where asyncio has it."""
    seen, var = [], contextvars.ContextVar("var")

    async def main():
        handle = loop.call_soon(seen.append, "first")
        handle._callback = lambda arg: seen.append((arg, var.get("none")))
        handle._context = contextvars.copy_context()
        handle._context.run(var.set, "mine")
        await asyncio.sleep(0)

    run(main())
    assert seen == [("first", "mine")]


def test_attributes_while_it_runs_and_afterwards(loop):
    """Whether it is scheduled, cancelled, and what it calls."""
    def state(handle):
        return (getattr(handle, "_scheduled", None), handle._cancelled, handle._callback,
                handle._args, handle.cancelled())

    def callback(*args):
        seen.append((state(timer), state(soon)))
        loop.stop()

    seen = []
    soon = loop.call_soon(int, "5")
    timer = loop.call_later(0.001, callback, 1, 2)
    last = loop.call_later(3600, callback)
    assert state(timer) == (True, False, callback, (1, 2), False)
    assert state(soon) == (None, False, int, ("5",), False)
    loop.run_forever()
    after = (False, False, callback, (1, 2), False), (None, False, int, ("5",), False)
    assert seen == [after] and (state(timer), state(soon)) == after
    timer.cancel()
    soon.cancel()
    assert state(timer) == (False, True, None, None, True)
    assert state(soon) == (None, True, None, None, True)
    assert state(last)[:2] == (True, False)
    last.cancel()
    timer.cancel()
    assert state(last)[1:] == (True, None, None, True)
