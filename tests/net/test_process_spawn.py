"""A spawn that fails or is cancelled: it ends, and leaves no child, descriptor or report."""
import asyncio
import contextlib
import errno
import os
import resource
import subprocess
import sys
import threading
import warnings

import pytest

from net.processkit import Child, no_children_left, spawn  # noqa: F401
from net.test_process import watcher  # noqa: F401
import support


NOISE = pytest.mark.asyncio_defect("__del__() of what __init__() has not finished")


class Equal:
    def __eq__(self, other):
        raise LookupError

    __hash__ = None


def fail():
    raise ValueError


@pytest.mark.parametrize("args, options, error", [
    (["/no/such"], {}, FileNotFoundError),
    (["/etc/passwd"], {}, PermissionError),
    (["/bin/true"], {"cwd": "/no/such"}, FileNotFoundError),
    (["/bin/true"], {"preexec_fn": fail}, subprocess.SubprocessError),
    (["/bin/true"], {"stdin": "text"}, AttributeError),
    (["/bin/true"], {"stdin": 999}, OSError),
    pytest.param(["/bin/true"], {"stdin": Equal()}, LookupError, marks=NOISE),
    (["/bin/true"], {"unknown": 1}, TypeError),
    pytest.param(["/bin/true"], {"loop": None}, TypeError, marks=NOISE),
    (["/bin/true"], {"waiter": None}, TypeError),
    pytest.param(["cat"], {"extra": 1}, TypeError, marks=NOISE),
    (["/bin/true\0"], {}, ValueError),
    ([5], {}, TypeError),
], ids=str)
def test_failed(run, args, options, error):
    async def main():
        with pytest.raises(error):
            await spawn(*args, **options)
        await support.io_turns()

    with warnings.catch_warnings():     # preexec_fn beside threads
        warnings.simplefilter("ignore", DeprecationWarning)
        run(main())


@pytest.mark.skipif(sys.version_info < (3, 11, 4),
                    reason="Popen leaves the first pipes open if it gets no third: gh-87474")
def test_without_descriptors(run):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    outcomes = []

    async def main(allowed):
        taken = {int(fd) for fd in os.listdir("/proc/self/fd")}
        free = [fd for fd in range(256) if fd not in taken]
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[allowed], limits[1]))
        try:
            child = await spawn("true")
        except OSError as exc:
            outcomes.append(exc.errno)
        else:
            outcomes.append(0)
            await child.done
            child.transport.close()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    for allowed in range(12):
        run(main(allowed))
    assert set(outcomes) == {errno.EMFILE, 0}
    assert outcomes == sorted(outcomes, reverse=True)


# -- cancelled ------------------------------------------------------------------

def the_other(tasks):
    """asyncio's task that connects the pipes, if it is there."""
    for task in asyncio.all_tasks() - tasks:
        task.cancel()


@contextlib.contextmanager
def grandchild():
    """A command that leaves a process behind which keeps the pipes open."""
    r, w = os.pipe()
    try:
        yield {"args": ["sh", "-c", f"cat /dev/fd/{r} & wait"], "pass_fds": (r,)}
    finally:
        os.close(r)
        os.close(w)


@pytest.mark.tidewire    # asyncio waits for the grandchild, or for ever
@pytest.mark.parametrize("who", ["spawner", "connecting", "both"])
@pytest.mark.parametrize("pipes", [True, False], ids=["pipes", "no pipes"])
@pytest.mark.usefixtures("watcher")
def test_cancelled_at_every_step(run, who, pipes):
    options = {} if pipes else dict.fromkeys(("stdin", "stdout", "stderr"))
    ends = []

    async def main(steps):
        with grandchild() as command:
            spawning = asyncio.create_task(
                spawn(*command["args"], pass_fds=command["pass_fds"], **options))
            ours = {spawning, *asyncio.all_tasks()}
            await support.turns(steps)
            if who != "spawner":
                the_other(ours)
            if who != "connecting":
                spawning.cancel()
            try:
                child = await spawning
            except asyncio.CancelledError:
                ends.append("cancelled")
            else:
                ends.append("spawned")
                child.transport.close()
                await child.done
        await support.io_turns()

    for steps in range(12):
        run(main(steps))
    assert set(ends) == {"cancelled", "spawned"}


@pytest.mark.tidewire    # asyncio waits for ever
@pytest.mark.parametrize("which", ["connect_write_pipe", "connect_read_pipe"])
@pytest.mark.usefixtures("watcher")
def test_pipe_that_cannot_be_connected(loop, run, which):
    protocols = []

    def factory():
        protocols.append(Child())
        return protocols[0]

    async def refuse(factory, pipe):
        raise OSError(errno.ENOSPC, "refused")

    setattr(loop, which, refuse)

    async def main():
        with grandchild() as command, pytest.raises(OSError, match="refused"):
            await loop.subprocess_exec(factory, *command["args"],
                                       pass_fds=command["pass_fds"])
        await support.io_turns()
        assert protocols[0].events == []

    run(main())


@pytest.mark.asyncio_defect("it awaits the child in GeneratorExit")
def test_spawner_is_closed(run):
    """As the loop's end does to a task that nobody holds."""
    async def main():
        loop = asyncio.get_running_loop()
        coro = loop.subprocess_exec(Child, "cat")
        coro.send(None)
        coro.close()
        await support.io_turns(10)

    run(main())


@pytest.mark.tidewire    # asyncio waits for ever
def test_interrupted_program_ends(script):
    """asyncio.run() cancels all tasks at once."""
    assert script("""
        async def main():
            task = asyncio.create_task(asyncio.create_subprocess_exec(
                "sleep", "1000", stdin=asyncio.subprocess.PIPE))
            await asyncio.sleep(0)
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            print("no child")
    """) == ["no child"]


@pytest.mark.tidewire    # asyncio's thread is the watcher of the program
def test_no_thread_to_wait(run, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setenv("TIDEWIRE_CHILD_WATCHER", "thread")

    async def main():
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="new thread"):
                await spawn("cat")
        await support.io_turns()

    run(main())
