"""The front door: policy, install(), new_event_loop(), run(), as asyncio's own of this Python."""

import asyncio
import gc
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import warnings

import pytest

import tidewire

pytestmark = pytest.mark.tidewire
DEPRECATED = sys.version_info >= (3, 14)


@pytest.fixture
def policy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        before = asyncio.get_event_loop_policy()
        asyncio.set_event_loop_policy(tidewire.EventLoopPolicy())
        yield asyncio.get_event_loop_policy()
        asyncio.set_event_loop_policy(before)


def python(code, *options, **kwargs):
    """Run code in a new interpreter; its output."""
    process = subprocess.run([sys.executable, *options, "-c", textwrap.dedent(code)],
                             capture_output=True, text=True, timeout=60, **kwargs)
    assert process.returncode == 0, process.stderr
    return process.stdout


async def running_loop():
    return asyncio.get_running_loop()


def test_new_event_loop():
    loop = tidewire.new_event_loop()
    try:
        assert type(loop) is tidewire.Loop
        assert isinstance(loop, asyncio.AbstractEventLoop)
        assert isinstance(loop, asyncio.BaseEventLoop)
    finally:
        loop.close()


def test_repr():
    """It says whose loop it is; a subclass says where it is from."""
    loop = tidewire.new_event_loop()
    assert repr(loop) == f"<tidewire.Loop running=False closed=False debug={loop.get_debug()}>"

    class Mine(tidewire.Loop):
        pass

    async def main():
        return repr(asyncio.get_running_loop())

    loop.set_debug(False)
    assert (loop.run_until_complete(main())
            == "<tidewire.Loop running=True closed=False debug=False>")
    loop.close()
    assert repr(loop) == "<tidewire.Loop running=False closed=True debug=False>"
    mine = Mine()
    mine.close()
    assert repr(mine).startswith(f"<{__name__}.test_repr.<locals>.Mine running=False closed=True")
    assert repr(tidewire.Loop) == "<class 'tidewire.Loop'>"
    assert pickle.loads(pickle.dumps(tidewire.Loop)) is tidewire.Loop


def test_is_running():
    async def main():
        return tidewire.is_running()

    assert tidewire.is_running() is False
    assert tidewire.run(main()) is True
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert runner.run(main()) is False
    assert tidewire.is_running() is False

    class Mine(tidewire.Loop):
        pass

    with asyncio.Runner(loop_factory=Mine) as runner:
        assert runner.run(main()) is True


def test_a_loop_that_was_not_made(unraisable):
    """An __init__() that fails raises, and that is all that is said."""
    class Broken(tidewire.Loop):
        def __init__(self):
            raise ValueError("from __init__")

    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        tidewire.Loop(1)
    with pytest.raises(TypeError):
        tidewire.Loop(nonsense=1)
    with pytest.raises(ValueError, match="from __init__"):
        Broken()
    gc.collect()
    assert unraisable == []


def test_a_loop_that_was_forgotten_is_closed(catch_warnings):
    tidewire.new_event_loop()
    gc.collect()
    assert [str(w.message).split(" running")[0] for w in catch_warnings
            if "loop" in str(w.message)] == ["unclosed event loop <tidewire.Loop"]


def test_policy_makes_our_loops(policy):
    loop = asyncio.new_event_loop()
    loop.close()
    assert type(loop) is tidewire.Loop
    assert type(asyncio.run(running_loop())) is tidewire.Loop


def test_policy_is_the_default_one_but_for_the_loop():
    code = """
        import asyncio, warnings
        warnings.simplefilter("ignore")
        import tidewire
        assert issubclass(tidewire.EventLoopPolicy, asyncio.DefaultEventLoopPolicy)
        assert issubclass(tidewire.EventLoopPolicy, asyncio.AbstractEventLoopPolicy)
    """
    python(code)


OUTCOME = """
    import asyncio, sys, warnings
    if sys.argv[1] == "tidewire":
        import tidewire
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            asyncio.set_event_loop_policy(tidewire.EventLoopPolicy())

    def outcome(function):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                loop = function()
            except RuntimeError as exc:
                result = str(exc)
            else:
                result = isinstance(loop, asyncio.AbstractEventLoop)
                if loop: loop.close()
        print(result, [(w.category.__name__, str(w.message), w.filename, w.lineno)
                       for w in caught])

    outcome(asyncio.get_event_loop)             # in the main thread, for the first time
    asyncio.set_event_loop(None)
    outcome(asyncio.get_event_loop)             # after set_event_loop(None)

    import threading
    thread = threading.Thread(target=outcome, args=[asyncio.get_event_loop], name="other")
    thread.start()
    thread.join()
"""


def test_get_event_loop_is_this_pythons():
    """Makes a loop, warns or raises: the same as the stock policy, at the same line."""
    stock, ours = (subprocess.run(
        [sys.executable, "-c", textwrap.dedent(OUTCOME), which],
        capture_output=True, text=True, timeout=60) for which in ("stock", "tidewire"))
    assert ours.stdout == stock.stdout != ""
    assert ours.returncode == stock.returncode == 0, ours.stderr


def test_set_event_loop(policy):
    loop = policy.new_event_loop()
    policy.set_event_loop(loop)
    assert policy.get_event_loop() is loop
    seen = []

    def other():
        with pytest.raises(RuntimeError, match="no current event loop in thread"):
            policy.get_event_loop()
        seen.append(True)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [True]
    policy.set_event_loop(None)
    with pytest.raises(RuntimeError):
        policy.get_event_loop()
    loop.close()
    with pytest.raises(TypeError):
        policy.set_event_loop(object())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_gets_a_new_loop():
    """Also from a policy that is not the one that is set."""
    code = """
        import os, sys, warnings
        warnings.simplefilter("ignore")
        import asyncio, tidewire
        policies = tidewire.EventLoopPolicy(), tidewire.EventLoopPolicy()
        asyncio.set_event_loop_policy(policies[0])
        loops = [policy.new_event_loop() for policy in policies]
        for policy, loop in zip(policies, loops):
            policy.set_event_loop(loop)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                async def answer():
                    await asyncio.sleep(0.001)
                    return 42
                for policy, loop in zip(policies, loops):
                    try:
                        assert policy.get_event_loop() is not loop
                    except RuntimeError:        # 3.14: there is none
                        assert sys.version_info >= (3, 14)
                    new = policy.new_event_loop()
                    assert new is not loop and new.run_until_complete(answer()) == 42
                    new.close()
                assert asyncio.run(answer()) == 42
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        for policy, loop in zip(policies, loops):
            assert policy.get_event_loop() is loop
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
    """
    python(code)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="3.14 has no child watchers")
def test_child_watcher():
    """3.11 to 3.13: there is one, it works, and it follows the loop."""
    code = """
        import asyncio, os, warnings
        warnings.simplefilter("ignore")
        import tidewire
        policy = tidewire.EventLoopPolicy()
        asyncio.set_event_loop_policy(policy)
        watcher = policy.get_child_watcher()
        assert isinstance(watcher, asyncio.AbstractChildWatcher)

        async def main():
            done = asyncio.get_running_loop().create_future()
            loop = asyncio.get_running_loop()
            pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 7"], {})
            with watcher:
                watcher.add_child_handler(
                    pid, lambda *args: loop.call_soon_threadsafe(done.set_result, args))
                return pid, await done

        pid, (reported, code) = asyncio.run(main())
        assert (reported, code) == (pid, 7)

        class Watcher(asyncio.AbstractChildWatcher):
            loops = []
            def attach_loop(self, loop): self.loops.append(loop)
            def close(self): pass
        policy.set_child_watcher(Watcher())
        loop = asyncio.new_event_loop()
        policy.set_event_loop(loop)
        assert policy.get_child_watcher().loops == [loop]
        loop.close()
    """
    python(code)


def test_run():
    async def main():
        loop = asyncio.get_running_loop()
        return type(loop), loop.get_debug()

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        debug = runner.get_loop().get_debug()
    assert tidewire.run(main()) == (tidewire.Loop, debug)
    assert tidewire.run(main(), debug=True) == (tidewire.Loop, True)


def test_run_takes_a_loop_factory():
    made = []

    def factory():
        made.append(tidewire.new_event_loop())
        return made[0]

    assert tidewire.run(running_loop(), loop_factory=factory) is made[0]


def test_run_refuses_what_asyncio_refuses():
    async def main():
        coro = running_loop()
        try:
            with pytest.raises(RuntimeError, match=r"asyncio.run\(\) cannot be called from"):
                tidewire.run(coro)
        finally:
            coro.close()

    tidewire.run(main())
    with pytest.raises((TypeError, ValueError)):
        tidewire.run(42)
    coro = running_loop()
    try:
        with pytest.raises(TypeError):
            tidewire.run(coro, nonsense=1)
    finally:
        coro.close()


def test_run_ends_what_main_left():
    """Pending tasks are cancelled, async generators closed, the executor shut down."""
    log = []

    async def generator():
        try:
            yield 1
        finally:
            log.append("generator")

    async def sleeper():
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            log.append("task")
            raise

    async def main():
        global kept
        kept = generator(), asyncio.create_task(sleeper())
        await anext(kept[0])
        await asyncio.get_running_loop().run_in_executor(None, log.append, "executor")
        return asyncio.get_running_loop()

    assert tidewire.run(main()).is_closed()
    assert sorted(log) == ["executor", "generator", "task"]


def test_runner():
    with asyncio.Runner(loop_factory=tidewire.new_event_loop) as runner:
        first = runner.run(running_loop())
        assert runner.run(running_loop()) is first
        assert type(first) is tidewire.Loop
    assert first.is_closed()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="3.12's argument")
def test_asyncio_run_with_loop_factory():
    loop = asyncio.run(running_loop(), loop_factory=tidewire.new_event_loop)
    assert type(loop) is tidewire.Loop


def test_install():
    code = """
        import asyncio, sys, warnings
        import tidewire
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            tidewire.install()
        assert len(caught) == (sys.version_info >= (3, 14)), caught
        assert all(w.category is DeprecationWarning for w in caught)
        assert all(w.filename == "<string>" for w in caught), caught
        async def main():
            return type(asyncio.get_running_loop())
        assert asyncio.run(main()) is tidewire.Loop
    """
    python(code)


def test_install_leaves_a_running_loop_alone():
    """It is for loops that are made from then on."""
    code = """
        import asyncio, warnings
        import tidewire
        async def main():
            warnings.simplefilter("ignore")
            tidewire.install()
            return type(asyncio.get_running_loop()).__module__
        print(asyncio.run(main()), asyncio.run(main()))
    """
    assert python(code) == "asyncio.unix_events tidewire\n"


def test_import_and_loop_factory_warn_of_nothing():
    code = """
        import asyncio, tidewire
        from tidewire import *
        async def main(): pass
        tidewire.run(main())
        asyncio.Runner(loop_factory=tidewire.new_event_loop).run(main())
        print(sorted(set(dir(tidewire)) & {
            "EventLoopPolicy", "Loop", "as_uvloop", "install", "is_running", "run"}))
    """
    out = python(code.replace(".run(main())\n        print", ".close()\n        print"),
                 "-X", "dev", "-W", "error")
    assert out == "['EventLoopPolicy', 'Loop', 'as_uvloop', 'install', 'is_running', 'run']\n"


def test_policy_class_warns_where_asyncios_does():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cls = tidewire.EventLoopPolicy
    assert [w.category for w in caught] == [DeprecationWarning] * DEPRECATED
    assert all(w.filename == __file__ for w in caught)
    assert cls.__name__ == "EventLoopPolicy"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = tidewire.nonsense
