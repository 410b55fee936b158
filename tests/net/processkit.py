"""A protocol that remembers what a child did, and a look for children left behind."""
import asyncio
import contextlib
import gc
import os
import time

import pytest


class Child(asyncio.SubprocessProtocol):
    """Remembers its events; data of one descriptor is joined."""

    def __init__(self):
        self.events = []
        self.data = {1: b"", 2: b""}
        self.transport = None
        self.done = asyncio.get_running_loop().create_future()
        self.exited = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.events.append("made")

    def pipe_data_received(self, fd, data):
        self.data[fd] += data
        if self.events[-1] != ("data", fd):
            self.events.append(("data", fd))

    def pipe_connection_lost(self, fd, exc):
        self.events.append(("pipe lost", fd, exc))

    def process_exited(self):
        self.events.append("exited")
        self.exited.set_result(None)

    def connection_lost(self, exc):
        self.events.append(("lost", exc))
        self.done.set_result(None)


async def spawn(*args, **options):
    loop = asyncio.get_running_loop()
    _, child = await loop.subprocess_exec(Child, *args, **options)
    return child


def wait_for_orphans(seconds=5.0):
    """Process 1, of a container, inherits the orphans of its children."""
    deadline = time.monotonic() + seconds
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(0.01)


@pytest.fixture(autouse=True)
def no_children_left():
    yield
    gc.collect()
    if os.getpid() == 1:
        wait_for_orphans()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
