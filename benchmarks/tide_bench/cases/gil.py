"""A thread that needs the GIL for each of its items, beside a busy loop.

Its rounds per second are counted, so that more is better; both cores are free.
"""
import asyncio
import subprocess
import threading
import time

from ..case import process
from .tcp import Echo


class Rounds(threading.Thread):
    """Gives the GIL away and wants it back, over and over."""

    def __init__(self):
        super().__init__(daemon=True)
        self.rounds, self.ended = 0, False

    def run(self):
        while not self.ended:
            time.sleep(0)
            self.rounds += 1


def count(env, until):
    thread = Rounds()
    began = time.perf_counter()
    thread.start()
    env.loop.run_until_complete(until)
    thread.ended = True
    wall = time.perf_counter() - began
    return {"ops": thread.rounds, "cpu": wall, "wall": wall}


def chain(env):
    loop = env.loop

    async def busy():
        def step():
            loop.call_soon(step)
        step()
        await asyncio.sleep(env.seconds)

    return count(env, busy())


def echo(env):
    loop = env.loop
    where = loop.run_until_complete(env.listen(Echo))
    command = [env.load_program, "echo", "--conns", "10", "--port", str(where["port"]),
               "--warm", "0.05", "--seconds", str(env.seconds)]

    async def busy():
        ended = loop.create_future()

        def load():
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            loop.call_soon_threadsafe(ended.set_result, None)
        threading.Thread(target=load, daemon=True).start()
        await ended

    return count(env, busy())


process("gil/call_soon", "a thread's rounds beside a call_soon chain", chain,
        clock="wall", targets={"stock": 0.7}, pinned=False, unit="round")
process("gil/echo", "a thread's rounds beside a saturated echo", echo,
        clock="wall", targets={"stock": 0.7}, pinned=False, unit="round")
