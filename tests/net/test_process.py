"""Subprocess transports: their callbacks, waiting for the child, and their ends."""
import asyncio
import asyncio.subprocess
import contextlib
import contextvars
import gc
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading

import pytest

from net.processkit import Child, no_children_left, spawn  # noqa: F401
import support

PIPE = subprocess.PIPE


def is_zombie_or_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# The portable build waits for every child in a thread, as asyncio did before 3.12.
needs_pidfd = pytest.mark.skipif(support.is_portable(), reason="the portable build has no pidfd")


@pytest.fixture(params=[pytest.param("pidfd", marks=needs_pidfd), "thread"])
def watcher(request, monkeypatch):
    """Both ways to wait for a child."""
    if request.param == "thread":
        monkeypatch.setenv("TIDEWIRE_CHILD_WATCHER", "thread")
    else:
        monkeypatch.delenv("TIDEWIRE_CHILD_WATCHER", raising=False)
    return request.param


# -- the transport ------------------------------------------------------------

def test_transport(run, watcher):
    async def main():
        child = await spawn("cat")
        transport = child.transport
        assert isinstance(transport, asyncio.SubprocessTransport)
        popen = transport.get_extra_info("subprocess")
        assert isinstance(popen, subprocess.Popen)
        assert transport.get_pid() == popen.pid
        assert transport.get_returncode() is None
        assert transport.get_protocol() is child
        assert not transport.is_closing()
        assert "running" in repr(transport)
        for fd, kind in ((0, asyncio.WriteTransport), (1, asyncio.ReadTransport),
                         (2, asyncio.ReadTransport)):
            assert isinstance(transport.get_pipe_transport(fd), kind)
        assert transport.get_pipe_transport(3) is None
        stdin = transport.get_pipe_transport(0)
        stdin.write(b"meow")
        stdin.close()
        await child.done
        assert transport.get_returncode() == popen.returncode == 0
        assert child.data == {1: b"meow", 2: b""}
        assert "returncode=0" in repr(transport)
        transport.close()

    run(main())


def test_order_of_callbacks(run, watcher):
    async def main():
        child = await spawn("sh", "-c", "echo out; echo err >&2; exit 7",
                            stdin=None)
        await child.done
        assert child.transport.get_returncode() == 7
        assert child.data == {1: b"out\n", 2: b"err\n"}
        events = child.events
        assert events[0] == "made"
        assert events[-1] == ("lost", None)
        assert sorted(map(str, events[1:-1])) == sorted(map(str, [
            ("data", 1), ("data", 2), ("pipe lost", 1, None),
            ("pipe lost", 2, None), "exited"]))
        for fd in 1, 2:
            assert (events.index(("data", fd))
                    < events.index(("pipe lost", fd, None)))
        child.transport.close()

    run(main())


def test_exited_before_the_end_of_the_pipe(run, watcher):
    """A grandchild keeps the pipe: process_exited comes first."""
    async def main():
        r, w = os.pipe()
        child = await spawn("sh", "-c", f"(read line </dev/fd/{r}; echo late) & exit 3",
                            stdin=None, stderr=None, pass_fds=[r])
        os.close(r)
        await child.exited
        assert child.events == ["made", "exited"]
        assert child.transport.get_returncode() == 3
        os.write(w, b"now\n")
        os.close(w)
        await child.done
        assert child.data[1] == b"late\n"
        assert child.events == ["made", "exited", ("data", 1),
                                ("pipe lost", 1, None), ("lost", None)]
        child.transport.close()

    run(main())


def test_context_of_process_exited(run):
    """Asyncio's before 3.12 is that of a thread, which is empty."""
    var = contextvars.ContextVar("var", default="empty")
    seen = []
    exited = asyncio.Event()

    class Protocol(asyncio.SubprocessProtocol):
        def process_exited(self):
            seen.append(var.get())
            exited.set()

    async def main():
        var.set("maker")
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            Protocol, "true", stdin=None, stdout=None, stderr=None)
        var.set("later")
        await exited.wait()
        transport.close()

    run(main())
    by_thread = sys.version_info < (3, 12) or support.is_portable()
    assert seen == ["empty" if by_thread else "maker"]


def test_date_protocol(run, watcher):
    """The page's example: it waits for the exit and for the pipe's end."""
    class DateProtocol(asyncio.SubprocessProtocol):
        def __init__(self, exit_future):
            self.exit_future = exit_future
            self.output = bytearray()
            self.pipe_closed = False
            self.exited = False

        def pipe_connection_lost(self, fd, exc):
            self.pipe_closed = True
            self.check_for_exit()

        def pipe_data_received(self, fd, data):
            self.output.extend(data)

        def process_exited(self):
            self.exited = True
            self.check_for_exit()

        def check_for_exit(self):
            if self.pipe_closed and self.exited:
                self.exit_future.set_result(True)

    async def get_date():
        loop = asyncio.get_running_loop()
        code = "import datetime as dt; print(dt.datetime.now())"
        exit_future = asyncio.Future(loop=loop)
        transport, protocol = await loop.subprocess_exec(
            lambda: DateProtocol(exit_future),
            sys.executable, "-c", code, stdin=None, stderr=None)
        await exit_future
        transport.close()
        await support.turns()
        return bytes(protocol.output).decode("ascii").rstrip()

    assert run(get_date()).startswith("20")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGHUP"])
def test_signals(run, watcher, name):
    async def main():
        number = getattr(signal, name)
        child = await spawn("sleep", "1000", stdin=None, stdout=None, stderr=None)
        transport = child.transport
        if name == "SIGTERM":
            transport.terminate()
        elif name == "SIGKILL":
            transport.kill()
        else:
            transport.send_signal(number)
        await child.done
        assert transport.get_returncode() == -number
        assert child.events == ["made", "exited", ("lost", None)]
        for method in transport.terminate, transport.kill:
            with pytest.raises(ProcessLookupError):
                method()
        with pytest.raises(ProcessLookupError):
            transport.send_signal(number)
        transport.close()

    run(main())


def test_close_kills(run, watcher):
    async def main():
        child = await spawn("sleep", "1000")
        pid = child.transport.get_pid()
        child.transport.close()
        assert child.transport.is_closing()
        child.transport.close()
        await child.done
        assert child.transport.get_returncode() == -signal.SIGKILL
        assert not is_zombie_or_running(pid)

    run(main())


def test_close_in_callbacks(run, watcher):
    async def main():
        for when in "connection_made", "pipe_data_received", "process_exited":
            class Closing(Child):
                pass

            def close(self, *args):
                getattr(Child, when)(self, *args)
                self.transport.close()

            setattr(Closing, when, close)
            loop = asyncio.get_running_loop()
            _, child = await loop.subprocess_exec(
                Closing, "sh", "-c", "echo x; read y; exit 0")
            if when == "process_exited":
                child.transport.get_pipe_transport(0).close()
            await child.done
            code = child.transport.get_returncode()
            assert code == (0 if when == "process_exited" else -signal.SIGKILL)

    run(main())


# -- waiting ----------------------------------------------------------------------

@pytest.mark.tidewire
def test_fallback_uses_a_thread(run, watcher):
    async def main():
        child = await spawn("cat")
        names = [t.name for t in threading.enumerate()]
        waiting = [n for n in names if n.startswith("tidewire-waitpid-")]
        assert len(waiting) == (watcher == "thread")
        child.transport.close()
        await child.done

    run(main())


@needs_pidfd
@pytest.mark.tidewire        # asyncio says 255 here
def test_waited_for_by_popen(run):
    """The program asks the Popen itself: its code is the one that counts."""
    async def main():
        child = await spawn("cat")
        popen = child.transport.get_extra_info("subprocess")
        os.kill(popen.pid, signal.SIGTERM)
        assert popen.wait() == -signal.SIGTERM
        await child.done
        assert child.transport.get_returncode() == -signal.SIGTERM
        child.transport.close()

    run(main())


@needs_pidfd                 # where a thread waits, as asyncio's does, both ask
@pytest.mark.tidewire
def test_waited_for_by_others(run, logs):
    """Somebody reaped it: 255 and asyncio's warning, nothing hangs."""
    async def main():
        child = await spawn("cat")
        child.transport.kill()
        os.waitpid(child.transport.get_pid(), 0)
        await child.done
        assert child.transport.get_returncode() == 255
        child.transport.close()

    run(main())
    (record,) = logs.take()
    by_thread = (sys.version_info < (3, 12)
                 or os.environ.get("TIDEWIRE_CHILD_WATCHER") == "thread")
    text = record.getMessage()
    assert text.startswith("Unknown child process pid" if by_thread else "child process pid")
    assert text.endswith("will report returncode 255")


@needs_pidfd
@pytest.mark.tidewire
def test_no_child_watcher_is_started(script):
    assert script("""
        async def main():
            process = await asyncio.create_subprocess_exec("true")
            await process.wait()
            print(threading.active_count())
        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
        policy = asyncio.get_event_loop_policy()
        print(getattr(policy, "_watcher", None))
        print(signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL)
    """, env={"TIDEWIRE_CHILD_WATCHER": ""}) == ["1", "None", "True"]


def test_loops_in_threads(loop_factory, watcher):
    """Several loops in several threads spawn at the same time."""
    outcome = []

    async def main(n):
        for i in range(10):
            process = await asyncio.create_subprocess_exec(
                "cat", stdin=PIPE, stdout=PIPE)
            text = f"{n}.{i}".encode()
            out, _ = await process.communicate(text)
            assert out == text
            outcome.append(process.returncode)

    def thread(n):
        loop = loop_factory()
        try:
            loop.run_until_complete(main(n))
        finally:
            loop.close()

    threads = [threading.Thread(target=thread, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(25)
    assert outcome == [0] * 40


# -- ends of everything -----------------------------------------------------------

def test_cancelled_spawn(loop, run, watcher):
    async def main():
        seen = []

        def factory():
            seen.append(Child())
            return seen[0]

        task = loop.create_task(loop.subprocess_exec(factory, "sleep", "1000"))
        while not seen:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await support.turns(5)

    run(main())


def test_cancelled_communicate(run):
    async def main():
        process = await asyncio.create_subprocess_exec(
            "sleep", "1000", stdin=PIPE, stdout=PIPE)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(process.communicate(b"x"), 0.01)
        process.kill()
        await process.wait()
        assert process.returncode == -signal.SIGKILL

    run(main())


@needs_pidfd                 # the thread that waits keeps the child
@pytest.mark.tidewire
def test_loop_closed_with_running_children(script):
    """What is left is killed when it is collected, as asyncio's pidfds do."""
    assert script("""
        warnings.simplefilter("ignore")
        async def main():
            return await asyncio.create_subprocess_exec("sleep", "1000")
        loop = new_loop()
        process = loop.run_until_complete(main())
        popen = process._transport.get_extra_info("subprocess")
        fds = len(os.listdir("/proc/self/fd"))
        loop.close()
        del process
        gc.collect()
        print(popen.wait(10))
        del popen
        print(len(os.listdir("/proc/self/fd")) < fds)
    """) == [str(-signal.SIGKILL), "True"]


def test_dropped_transport_is_kept_while_the_child_runs(run, unraisable):
    async def main():
        child = await spawn("cat")
        stdin = child.transport.get_pipe_transport(0)
        child.transport = None
        gc.collect()
        stdin.close()
        await child.done
        assert "exited" in child.events

    run(main())
    gc.collect()
    (text,) = unraisable.take()         # nobody closed it
    assert "unclosed transport" in text


@pytest.mark.timeout(60)
def test_children_killed_at_random(run, watcher):
    async def one(seed):
        rng = random.Random(seed)
        child = await spawn("cat")
        stdin = child.transport.get_pipe_transport(0)
        for _ in range(rng.randrange(6)):
            stdin.write(rng.randbytes(rng.choice([1, 5000, 300000])))
            action = rng.randrange(4)
            if action == 0:
                await asyncio.sleep(rng.random() * 0.003)
            elif action == 1:
                await asyncio.sleep(0)
        how = rng.randrange(5)
        with contextlib.suppress(ProcessLookupError):
            if how == 0:
                child.transport.kill()
            elif how == 1:
                os.kill(child.transport.get_pid(), signal.SIGKILL)
            elif how == 2:
                stdin.abort()
            elif how == 3:
                child.transport.close()
            else:
                stdin.close()
        await child.done
        child.transport.close()
        assert child.events[-1] == ("lost", None)
        assert child.events.count("exited") == 1
        for fd in range(3):
            assert sum(e[:2] == ("pipe lost", fd) for e in child.events) == 1
        return child.transport.get_returncode()

    async def main():
        for start in range(0, 60, 10):
            codes = await asyncio.gather(*map(one, range(start, start + 10)))
            assert set(codes) <= {0, -signal.SIGKILL}

    run(main(), timeout=50)


TRACER = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
seize = libc.ptrace(0x4206, int(sys.argv[1]), None, None)
print(seize if seize == 0 else ctypes.get_errno(), flush=True)
sys.stdin.read()
"""


@pytest.mark.tidewire
def test_a_child_that_a_debugger_traces(run, loop):
    """It has ended, but is the debugger's until that has waited for it: the loop sleeps."""
    async def main():
        child = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
        tracer = await asyncio.create_subprocess_exec(
            sys.executable, "-c", TRACER, str(child.pid),
            stdin=PIPE, stdout=PIPE)
        refused = int(await tracer.stdout.readline())
        ended = asyncio.ensure_future(child.wait())
        child.stdin.close()
        stat = pathlib.Path(f"/proc/{child.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "Z":
            await asyncio.sleep(0.001)
        before = loop.stats()["turns"]
        await asyncio.sleep(0.05)
        turns = loop.stats()["turns"] - before
        assert ended.done() is bool(refused)
        tracer.kill()
        await tracer.wait()
        assert await ended == 0
        if refused:
            pytest.skip(f"ptrace is refused: {os.strerror(refused)}")
        assert turns < 20

    run(main())
