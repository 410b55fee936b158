"""Who awaits whom: asyncio.print_call_graph(), python -m asyncio ps and pstree (3.14)."""
import asyncio
import io
import re
import subprocess
import sys
import textwrap

import pytest

import support

pytestmark = pytest.mark.skipif(sys.version_info < (3, 14), reason="new in 3.14")


def graph(loop):
    """The call graph of a task in a group, from within and from a callback."""
    texts = []

    def take(task=None):
        out = io.StringIO()
        asyncio.print_call_graph(task, file=out)
        texts.append(out.getvalue())
        return asyncio.capture_call_graph(task)

    async def inner():
        take()
        await asyncio.sleep(0.001)

    async def outer():
        await inner()

    async def main():
        async with asyncio.TaskGroup() as group:
            task = group.create_task(outer(), name="outer")
            loop.call_soon(loop.call_soon, take, task)
        assert take(task).awaited_by == ()

    loop.run_until_complete(loop.create_task(main(), name="main"))
    return [re.sub(r"id=0x\w+|line \d+", "-", text) for text in texts]


def test_call_graph(loop):
    stock = asyncio.SelectorEventLoop()
    try:
        texts = graph(loop)
        assert texts == graph(stock)
    finally:
        stock.close()
    assert len(texts) == 3 and all("outer" in text for text in texts)
    assert "main" in texts[0] and "main" in texts[1]


PROGRAM = """
import asyncio, socket, sys
sys.path[:] = {path!r}
import support

async def deep(reader):
    await reader.read()

async def worker(reader):
    await deep(reader)

async def main():
    a, b = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=a)
    async with asyncio.TaskGroup() as group:
        group.create_task(worker(reader), name="the worker")
        group.create_task(asyncio.to_thread(sys.stdin.read), name="the thread")
        loop = asyncio.get_running_loop()
        # Both wait by now, and the loop sleeps when the other side has read this.
        loop.call_later(0.05, lambda: print("ready", flush=True))
        await asyncio.sleep(1000)

with asyncio.Runner(loop_factory=support.factory({loop!r})) as runner:
    runner.run(main())
"""


def inspect_from_outside(loop_name, command):
    source = textwrap.dedent(PROGRAM).format(path=sys.path, loop=loop_name)
    child = subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "ready\n"
        done = subprocess.run(
            [sys.executable, "-m", "asyncio", command, str(child.pid)], capture_output=True,
            text=True, timeout=30 * support.SLOWER)
    finally:
        child.kill()
        child.communicate()
    if "PermissionError" in done.stderr or "ermission" in done.stderr:
        pytest.skip("another process's memory cannot be read here")
    assert done.returncode == 0, done.stderr
    # Addresses differ, and the columns are as wide as them.
    text = re.sub(r"0x[0-9a-f]+", "0x", done.stdout)
    return re.sub(r"(?m)[ -]+$", "", re.sub(r"[ ]{2,}", "  ", text)).replace(str(child.pid), "PID")


@pytest.mark.parametrize("command", ["ps", "pstree"])
def test_from_another_process(loop_name, command):
    """ps and pstree of a process that runs us tell what they tell of asyncio's loop."""
    text = inspect_from_outside(loop_name, command)
    assert "the worker" in text and "the thread" in text and "deep" in text
    lines = [line for line in text.splitlines() if "the" in line or "main" in line]
    stock = inspect_from_outside("stock", command)
    assert lines == [line for line in stock.splitlines() if "the" in line or "main" in line]
