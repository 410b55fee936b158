"""Timers and threads: call_later, call_at, call_soon_threadsafe, a signal."""

import asyncio
import os
import signal
import threading


async def main():
    loop = asyncio.get_running_loop()
    log = []

    # Timers fire in the order of their times, never early; a cancelled one does not.
    start = loop.time()
    for delay in (0.03, 0.01, 0.02):
        loop.call_later(delay, log.append, delay)
    loop.call_later(0.015, log.append, "never").cancel()
    finished = loop.create_future()
    loop.call_at(start + 0.04, finished.set_result, None)
    await finished
    assert log == [0.01, 0.02, 0.03] and loop.time() - start >= 0.04
    print("timers fired in order:", *log)

    # A thread hands its results to the loop.
    arrived = asyncio.Event()
    numbers = []

    def receive(n):
        numbers.append(n)
        if n == 999:
            arrived.set()

    thread = threading.Thread(target=lambda: [
        loop.call_soon_threadsafe(receive, n) for n in range(1000)])
    thread.start()
    await arrived.wait()
    thread.join()
    assert numbers == list(range(1000))
    print("1000 calls from a thread arrived in order")

    # Work that blocks runs in the executor, and a signal wakes the loop.
    got = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, got.set_result, "SIGUSR1")
    await loop.run_in_executor(None, os.kill, os.getpid(), signal.SIGUSR1)
    print("a thread of the executor sent", await got)
    loop.remove_signal_handler(signal.SIGUSR1)


asyncio.run(main())
