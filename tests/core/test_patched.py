"""Programs that put functions of their own in the place of Python's, as gevent and eventlet do.

Their "threads" are greenlets of one thread, and run while something waits in their select().
"""
import asyncio
import concurrent.futures
import select

import pytest

pytestmark = pytest.mark.tidewire   # asyncio takes epoll where it is there


class Greenlets:
    """An executor whose work is done while the program waits in select()."""

    def __init__(self):
        self.due = []
        self.waits = 0

    def submit(self, fn, *args):
        future = concurrent.futures.Future()
        self.due.append(lambda: future.set_result(fn(*args)))
        return future

    def run(self):
        self.waits += 1
        while self.due:
            self.due.pop(0)()


@pytest.fixture
def greenlets(monkeypatch):
    greenlets, plain = Greenlets(), select.select

    def patched(rlist, wlist, xlist, timeout=None):
        greenlets.run()
        return plain(rlist, wlist, xlist, timeout)

    monkeypatch.setattr(select, "select", patched)
    return greenlets


def test_the_loop_waits_in_the_patched_select(loop, run, greenlets):
    assert run(asyncio.wait_for(loop.run_in_executor(greenlets, int, "5"), 10)) == 5


def test_timers_and_descriptors(loop, run, greenlets):
    async def main():
        server = await asyncio.start_server(
            lambda r, w: (w.write(b"hi"), w.close()), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b"hi"
        writer.close()
        await asyncio.sleep(0.01)
        server.close()
        await server.wait_closed()

    run(main())
    assert greenlets.waits > 0


def test_what_the_patched_select_raises_leaves_the_loop(loop, monkeypatch):
    def patched(rlist, wlist, xlist, timeout=None):
        raise LookupError("out of the hub")

    monkeypatch.setattr(select, "select", patched)
    with pytest.raises(LookupError, match="out of the hub"):
        loop.run_forever()
    monkeypatch.undo()
    loop.run_until_complete(asyncio.sleep(0.001))


def test_a_mock_is_no_patch(loop, run, monkeypatch):
    """Tests of programs replace select.select() by what waits for nothing."""
    class Mock:
        def __call__(self, *args):
            raise AssertionError

    monkeypatch.setattr(select, "select", Mock())
    run(asyncio.sleep(0.001))
