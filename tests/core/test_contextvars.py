"""Which context a callback runs in."""
import asyncio
import contextvars
import os
import weakref

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


@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("kind", ["stream", "datagrams", "read pipe", "write pipe"])
def test_connection_lost_in_the_closers_context(run, kind, how):
    if (kind, how) == ("read pipe", "abort"):
        pytest.skip("read pipes have no abort()")

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            self.made = var.get()

        def connection_lost(self, exc):
            lost.set_result(var.get())

    async def main():
        nonlocal lost
        loop = asyncio.get_running_loop()
        lost = loop.create_future()
        var.set("maker")
        if kind == "stream":
            one, other = support.socketpair()
            transport, protocol = await loop.create_connection(Protocol, sock=one)
        elif kind == "datagrams":
            transport, protocol = await loop.create_datagram_endpoint(
                Protocol, local_addr=("127.0.0.1", 0))
        else:
            r, w = os.pipe()
            ours, other = ((os.fdopen(r, "rb", 0), os.fdopen(w, "wb", 0))
                           [::1 if kind == "read pipe" else -1])
            connect = loop.connect_read_pipe if kind == "read pipe" else loop.connect_write_pipe
            transport, protocol = await connect(Protocol, ours)
        var.set("closer")
        getattr(transport, how)()
        var.set("later")
        assert await lost == "closer"
        assert protocol.made == "maker"
        if kind != "datagrams":
            other.close()

    lost = None
    run(main())


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


def in_empty_context(function):
    """Contexts without variables may be used again: tests of that start from one."""
    return contextvars.Context().run(function)


def test_empty_contexts_do_not_keep_what_a_callback_set(loop, run):
    seen = []

    def callback(value):
        seen.append(var.get())
        var.set(value)

    async def main():
        for turn in range(5):
            for i in range(50):
                loop.call_soon(callback, i)
            await support.turns(1)

    in_empty_context(lambda: run(main()))
    assert seen == ["default"] * 250


def test_empty_contexts_are_each_callbacks_own(loop, run):
    contexts, handles = [], []

    async def main():
        for _ in range(3):
            handles.extend(loop.call_soon(noop) for _ in range(20))
            await support.turns(1)

    def noop():
        pass

    in_empty_context(lambda: run(main()))
    if hasattr(handles[0], "get_context"):
        contexts = [handle.get_context() for handle in handles]
    else:
        contexts = [handle._context for handle in handles]
    assert len({id(context) for context in contexts}) == 60
    contexts[0].run(var.set, "mine")
    assert all(var not in context for context in contexts[1:])


def test_a_context_that_was_emptied_or_filled_counts_as_it_is(loop, run):
    seen = []

    async def main():
        loop.call_soon(lambda: None)
        await support.turns(1)
        token = var.set("set")
        loop.call_soon(lambda: seen.append(var.get()))
        var.reset(token)
        loop.call_soon(lambda: seen.append(var.get()))
        await support.turns(2)

    in_empty_context(lambda: run(main()))
    assert seen == ["set", "default"]


def test_a_context_inside_a_context_is_the_one_that_is_copied(loop, run):
    """call_soon() under Context.run() within a callback of an empty context."""
    seen = []
    inner = contextvars.Context()
    inner.run(var.set, "inner")

    async def main():
        loop.call_soon(lambda: None)
        await support.turns(1)
        inner.run(loop.call_soon, lambda: seen.append(var.get()))
        loop.call_soon(lambda: seen.append(var.get()))
        await support.turns(2)

    in_empty_context(lambda: run(main()))
    assert seen == ["inner", "default"]


def test_weak_references_to_an_empty_context_die_with_its_handle(loop, run, no_gc):
    refs = []

    def callback():
        refs.append(weakref.ref(handle._context))

    async def main():
        nonlocal handle
        handle = loop.call_soon(callback)
        await support.turns(1)
        handle = None

    handle = None
    in_empty_context(lambda: run(main()))
    assert len(refs) == 1 and refs[0]() is None


def test_a_context_that_the_callback_keeps_is_its_own(loop, run):
    kept = []

    class Copies:
        def __call__(self):
            kept.append(contextvars.copy_context())
            var.set(len(kept))
            kept.append(contextvars.copy_context())

    async def main():
        for _ in range(3):
            loop.call_soon(Copies())
            await support.turns(1)

    in_empty_context(lambda: run(main()))
    assert [context.get(var) for context in kept] == [None, 1, None, 3, None, 5]
