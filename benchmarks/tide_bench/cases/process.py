"""Children: spawning them, and bytes through one."""
import asyncio
import os
import subprocess

from ..case import process, before


class Ended(asyncio.SubprocessProtocol):
    def __init__(self):
        self.done = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc):
        self.done.set_result(None)


def spawn(env):
    """CPU of ours and of the children, as the spawning's cost is in both."""
    loop = env.loop

    async def batch(n):
        for _ in range(n):
            transport, protocol = await loop.subprocess_exec(
                Ended, "/bin/true", stdin=None, stdout=None, stderr=None)
            await protocol.done
            transport.close()

    return env.measure(batch, 10, children=True)


def spawn_pipes(env):
    async def batch(n):
        for _ in range(n):
            child = await asyncio.create_subprocess_exec(
                "/bin/echo", "hello", stdout=subprocess.PIPE)
            await child.communicate()

    return env.measure(batch, 10, children=True)


class Through(asyncio.SubprocessProtocol):
    """Keeps two chunks on their way through the child."""
    chunk = bytes(64 * 1024)

    def __init__(self):
        self.goal = self.sent = self.got = 0
        self.done = None

    def connection_made(self, transport):
        self.stdin = transport.get_pipe_transport(0)

    def begin(self, n):
        self.goal, self.sent, self.got = n * len(self.chunk), 0, 0
        self.done = asyncio.get_running_loop().create_future()
        self.feed()

    def feed(self):
        while self.sent < self.goal and self.sent - self.got < 2 * len(self.chunk):
            self.sent += len(self.chunk)
            self.stdin.write(self.chunk)

    def pipe_data_received(self, fd, data):
        self.got += len(data)
        if self.got >= self.goal:
            self.done.set_result(None)
        else:
            self.feed()


def through_cat(env):
    """64 KiB pieces through cat, which has the other core; our CPU."""
    loop = env.loop
    transport, protocol = loop.run_until_complete(loop.subprocess_exec(
        Through, "cat", stderr=None))
    if env.cores[1] is not None:
        os.sched_setaffinity(transport.get_pid(), {env.cores[1]})

    async def batch(n):
        protocol.begin(n)
        await protocol.done

    return env.measure(batch, 100)


# From 3.12 on the stock loop spawns without a thread, and cheaper than uvloop can.
process("process/spawn", "spawn /bin/true", spawn, target=before((3, 12), 2.3),
        targets={"stock": 1.0}, unit="child")
process("process/communicate", "spawn /bin/echo, communicate()", spawn_pipes, unit="child",
        targets={"stock": 1.0})
process("process/cat", "64KiB pieces through cat's pipes", through_cat, unit="64 KiB",
        target=1.1)
