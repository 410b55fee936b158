"""A loop that the system stops for a while, at any point, goes on."""
import os
import random
import signal
import subprocess
import sys
import time

PROGRAM = """
import asyncio, sys

async def main():
    while True:
        await asyncio.gather(*[asyncio.sleep(0.001 * i) for i in range(1, 4)])
        sys.stdout.write('.')
        sys.stdout.flush()

import tidewire
asyncio.Runner(loop_factory=tidewire.new_event_loop).run(main())
"""


def test_stopped_at_any_point():
    # A timer that became due just before the poll must not leave it without
    # a bound.
    child = subprocess.Popen([sys.executable, '-c', PROGRAM],
                             stdout=subprocess.PIPE)
    rng = random.Random(7)
    try:
        assert child.stdout.read(1) == b'.'
        for _ in range(600):
            os.kill(child.pid, signal.SIGSTOP)
            time.sleep(0.002)           # longer than its timers
            os.kill(child.pid, signal.SIGCONT)
            time.sleep(rng.random() * 0.002)
            os.set_blocking(child.stdout.fileno(), False)
            child.stdout.read()
        os.set_blocking(child.stdout.fileno(), True)
        # pytest's limit of time ends a hang here.
        assert child.stdout.read(3) == b'...'
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
