"""Which context a callback runs in."""
import asyncio
import contextvars

import pytest

import support

var = contextvars.ContextVar("var", default="default")


@pytest.fixture(autouse=True)
def var_is_reset():
    token = var.set("default")
    yield
    var.reset(token)


@pytest.mark.parametrize("schedule", [
    lambda loop, f: loop.call_soon(f),
    lambda loop, f: loop.call_later(0, f),
    lambda loop, f: loop.call_at(0, f),
    lambda loop, f: loop.call_soon_threadsafe(f)],
    ids=["call_soon", "call_later", "call_at", "call_soon_threadsafe"])
def test_callers_context(loop, run, schedule):
    seen = []
    var.set("one")
    schedule(loop, lambda: seen.append(var.get()))
    var.set("two")
    schedule(loop, lambda: seen.append(var.get()))
    run(asyncio.sleep(0.002))
    assert seen == ["one", "two"]


@pytest.mark.parametrize("schedule", [
    lambda loop, f, c: loop.call_soon(f, context=c),
    lambda loop, f, c: loop.call_later(0, f, context=c),
    lambda loop, f, c: loop.call_at(0, f, context=c),
    lambda loop, f, c: loop.call_soon_threadsafe(f, context=c)],
    ids=["call_soon", "call_later", "call_at", "call_soon_threadsafe"])
def test_given_context(loop, run, schedule):
    seen = []
    context = contextvars.copy_context()
    context.run(var.set, "given")

    def callback():
        seen.append(var.get())
        var.set("changed")

    schedule(loop, callback, context)
    run(asyncio.sleep(0.002))
    assert seen == ["given"]
    assert context[var] == "changed"
    assert var.get() == "default"


def test_changes_do_not_leak_into_the_next_callback(loop, run):
    seen = []

    def callback(value):
        seen.append(var.get())
        var.set(value)

    contexts = [contextvars.copy_context() for _ in range(3)]
    for i, context in enumerate(contexts):
        loop.call_soon(callback, i, context=context)
    run(asyncio.sleep(0))
    assert seen == ["default"] * 3
    assert [c[var] for c in contexts] == [0, 1, 2]


def test_same_context_one_after_the_other(loop, run):
    """Handles of one context may share an enter: nobody must see it."""
    seen = []
    context = contextvars.copy_context()

    def callback(i):
        seen.append(var.get())
        var.set(i)
        # Entering it again must fail while it is entered, ...
        with pytest.raises(RuntimeError):
            context.run(int)

    for i in range(4):
        loop.call_soon(callback, i, context=context)
    # ... and succeed from a callback of another context in between.
    loop.call_soon(lambda: seen.append(context.run(var.get)),
                   context=contextvars.copy_context())
    loop.call_soon(callback, 9, context=context)
    run(asyncio.sleep(0))
    assert seen == ["default", 0, 1, 2, 3, 3]


def test_context_that_is_already_entered(loop, errors, logs):
    """The loop runs inside a context of the program's own."""
    seen = []
    context = contextvars.copy_context()

    def main():
        var.set("entered")
        loop.call_soon(seen.append, 1)      # in this very context
        loop.call_soon(loop.stop, context=contextvars.Context())
        loop.run_forever()

    context.run(main)
    # copy_context() of call_soon made a copy: it runs.
    assert seen == [1]
    loop.call_soon(seen.append, 2, context=context)
    loop.call_soon(loop.stop, context=contextvars.Context())
    context.run(loop.run_forever)
    # From 3.12 on the exception handler enters it too, and fails as well.
    texts = [str(report["exception"]) for report in errors.take()]
    texts += [record.getMessage() for record in logs.take()]
    assert len(texts) == 1 and "already entered" in texts[0]
    assert seen == [1]


def test_wrong_context(loop, run, errors):
    """asyncio takes anything and finds out when it runs it."""
    try:
        loop.call_soon(int, context="nonsense")
    except TypeError:
        return
    run(asyncio.sleep(0))
    assert isinstance(errors.take()[0]["exception"],
                      (AttributeError, TypeError))


def test_none_means_the_callers(loop, run):
    seen = []
    var.set("mine")
    loop.call_soon(lambda: seen.append(var.get()), context=None)
    run(asyncio.sleep(0))
    assert seen == ["mine"]


def test_reader_runs_in_the_callers_context(loop, run):
    a, b = support.socketpair()
    seen = []

    async def main():
        future = loop.create_future()

        def callback():
            b.recv(10)
            seen.append(var.get())
            future.set_result(None)

        var.set("adder")
        loop.add_reader(b, callback)
        var.set("later")
        a.send(b"x")
        await future
        loop.remove_reader(b)

    run(main())
    assert seen == ["adder"]
    a.close()
    b.close()


def test_signal_handler_context(loop):
    import os
    import signal
    seen = []
    var.set("adder")
    loop.add_signal_handler(signal.SIGUSR1,
                            lambda: (seen.append(var.get()), loop.stop()))
    var.set("later")
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    loop.remove_signal_handler(signal.SIGUSR1)
    assert seen == ["adder"]


@pytest.mark.parametrize("kind", support.KINDS)
def test_protocol_callbacks_see_the_makers_variables(run, kind):
    async def main():
        seen = {}

        def note(name):
            def hook(*args):
                seen[name] = var.get()
            return hook

        hooks = {name: note(name) for name in ("made", "data", "eof", "lost")}
        var.set("maker")
        transport, protocol, peer = await support.connected(
            kind, lambda: support.Recorder(hooks))
        var.set("later")
        peer.send(b"hello")
        await protocol.got(b"hello")
        peer.close()
        await protocol.saw("lost")
        return seen

    assert run(main()) == {n: "maker" for n in ("made", "data", "eof", "lost")}


def test_task_copies_its_context(loop, run):
    async def child():
        var.set("child")

    async def main():
        var.set("main")
        await asyncio.create_task(child())
        return var.get()

    assert run(main()) == "main"


def test_to_thread_carries_the_context(run):
    async def main():
        var.set("main")
        return await asyncio.to_thread(var.get)

    assert run(main()) == "main"
