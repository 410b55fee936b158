"""Threads against each other: loops come and go in 64 of them, wake each other, look names up, fork.

    python tests/threads/stress.py [--threads 64] [--rounds 20] [--loop tidewire]

`make tsan` runs it under ThreadSanitizer. The last line is a count of what was done.
"""
import argparse
import asyncio
import collections
import contextlib
import os
import pathlib
import socket
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import support  # noqa: E402

DONE = collections.Counter()


async def echo_through_a_pair():
    loop = asyncio.get_running_loop()
    a, b = socket.socketpair()
    with a, b:
        a.setblocking(False)
        b.setblocking(False)
        waiting = loop.create_task(loop.sock_recv(b, 100))
        await asyncio.sleep(0)
        await loop.sock_sendall(a, b"x" * 50)
        assert await waiting == b"x" * 50
        lost = loop.create_future()

        class Closing(asyncio.Protocol):
            def connection_lost(self, exc):
                lost.set_result(exc)

        transport, _ = await loop.create_connection(Closing, sock=a.dup())
        transport.write(b"y")
        transport.close()
        await lost


async def some_of_everything(n):
    loop = asyncio.get_running_loop()
    loop.call_later(10, int)
    await asyncio.sleep(0.0001 * (n % 5))
    await echo_through_a_pair()
    if n % 4 == 0:
        lookups = [loop.getaddrinfo("localhost", 80 + i) for i in range(4)]
        await asyncio.gather(*lookups)
        DONE["names"] += len(lookups)
    if n % 7 == 0:
        loop.create_task(loop.getaddrinfo("localhost", 99))     # the loop is closed before the answer
    if n % 3 == 0:
        await loop.run_in_executor(None, int)


def rounds(new_loop, number, seed):
    """Loops are made, used and closed, or only dropped."""
    for n in range(number):
        loop = new_loop()
        loop.set_exception_handler(lambda loop, context: None)
        try:
            loop.run_until_complete(some_of_everything(n + seed))
        finally:
            if n % 5:
                loop.close()
        del loop
        DONE["loops"] += 1


def wakes(new_loop, threads, number):
    """Threads schedule callbacks in one loop that waits; each comes once, in its thread's order."""
    loop = new_loop()
    got = collections.defaultdict(list)
    left = threads

    def note(who, n):
        nonlocal left
        got[who].append(n)
        if n == number - 1:
            left -= 1
            if not left:
                loop.stop()

    def work(who):
        for n in range(number):
            loop.call_soon_threadsafe(note, who, n)

    workers = [threading.Thread(target=work, args=(who,)) for who in range(threads)]
    loop.call_soon(lambda: [worker.start() for worker in workers])
    loop.run_forever()
    for worker in workers:
        worker.join()
    loop.close()
    assert all(got[who] == list(range(number)) for who in range(threads))
    DONE["wake-ups"] += threads * number


def wakes_a_loop_that_closes(new_loop, number):
    """call_soon_threadsafe() races with close(): it works or is refused."""
    for _ in range(number):
        loop = new_loop()
        started = threading.Event()

        def work(loop=loop, started=started):
            with contextlib.suppress(RuntimeError):
                while True:
                    loop.call_soon_threadsafe(int)
                    started.set()

        worker = threading.Thread(target=work)
        worker.start()
        started.wait()
        loop.run_until_complete(asyncio.sleep(0.0001))
        loop.close()
        worker.join()
        DONE["closed under call_soon_threadsafe()"] += 1


def forks(new_loop, number):
    """The children of a process full of loops make their own."""
    for _ in range(number):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                loop = new_loop()
                loop.run_until_complete(some_of_everything(1))
                loop.close()
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
        DONE["forks"] += 1


def in_threads(number, work, *args):
    failures = []

    def body(n):
        try:
            work(*args, n)
        except BaseException as exc:
            failures.append(exc)
            raise

    workers = [threading.Thread(target=body, args=(n,)) for n in range(number)]
    for worker in workers:
        worker.start()
    return workers, failures


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", default="tidewire")
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--forks", type=int, default=10)
    options = parser.parse_args()
    new_loop = support.factory(options.loop)
    workers, failures = in_threads(options.threads, rounds, new_loop, options.rounds)
    wakes(new_loop, 8, 10 * options.rounds)
    wakes_a_loop_that_closes(new_loop, options.rounds)
    forks(new_loop, options.forks)
    for worker in workers:
        worker.join()
    print(dict(DONE))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
