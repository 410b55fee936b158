"""A busy loop and a thread that needs the GIL: how far each gets.

Counted are the rounds of a thread that gives the GIL away and wants it back,
or what the loop does beside that thread, or beside one that computes.  More is
better; both cores are free.
"""
import asyncio
import json
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


class Compute(Rounds):
    """Wants the GIL all the time."""

    def run(self):
        while not self.ended:
            self.rounds += 1


def beside(thread, loop, busy):
    """What ``busy()`` gives, and how long that took, beside the thread."""
    began = time.perf_counter()
    thread.start()
    done = loop.run_until_complete(busy)
    thread.ended = True
    return done, time.perf_counter() - began


def ops(count, wall):
    return {"ops": count, "cpu": wall, "wall": wall}


async def chain(env):
    """A call_soon chain; gives its steps."""
    loop = env.loop
    steps = 0

    def step():
        nonlocal steps
        steps += 1
        loop.call_soon(step)

    step()
    await asyncio.sleep(env.seconds)
    return steps


async def echo(env):
    """A saturated echo server; gives the messages."""
    loop = env.loop
    where = await env.listen(Echo)
    command = [env.load_program, "echo", "--conns", "10", "--port", str(where["port"]),
               "--warm", "0.05", "--seconds", str(env.seconds)]
    ended = loop.create_future()

    def load():
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        loop.call_soon_threadsafe(ended.set_result, output)

    threading.Thread(target=load, daemon=True).start()
    return json.loads(await ended)["messages"]


def rounds(busy):
    """The case that counts the thread's rounds beside ``busy``."""
    def run(env):
        thread = Rounds()
        _, wall = beside(thread, env.loop, busy(env))
        return ops(thread.rounds, wall)
    return run


def work(busy, thread):
    """The case that counts what ``busy`` does beside the thread."""
    def run(env):
        done, wall = beside(thread(), env.loop, busy(env))
        return ops(done, wall)
    return run


def case(name, title, run, unit, **targets):
    process(name, title, run, clock="wall", pinned=False, unit=unit, **targets)


case("gil/call_soon", "a thread's rounds beside a call_soon chain", rounds(chain), "round",
     targets={"stock": 0.7})
case("gil/echo", "a thread's rounds beside a saturated echo", rounds(echo), "round",
     targets={"stock": 0.7})
case("gil/call_soon/loop", "a call_soon chain beside a thread's rounds", work(chain, Rounds),
     "step")
case("gil/echo/loop", "TCP echo 1KiB beside a thread's rounds", work(echo, Rounds), "message")
case("gil/call_soon/compute", "a call_soon chain beside a computing thread",
     work(chain, Compute), "step")
