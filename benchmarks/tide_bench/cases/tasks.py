"""Coroutines: sleep(0), tasks, gather, wait_for, timeouts."""
import asyncio

from ..case import process


def sleep_zero(env):
    async def batch(n):
        for _ in range(n):
            await asyncio.sleep(0)

    return env.measure(batch, 10_000)


def sleep_zero_many(env):
    async def one():
        for _ in range(100):
            await asyncio.sleep(0)

    async def batch(n):
        await asyncio.gather(*[one() for _ in range(n // 100)])

    return env.measure(batch, 10_000)


def gather(env):
    async def nothing():
        pass

    async def batch(n):
        await asyncio.gather(*[nothing() for _ in range(n)])

    return env.measure(batch, 1000)


def create_task(env):
    async def nothing():
        pass

    async def batch(n):
        for _ in range(n):
            await env.loop.create_task(nothing())

    return env.measure(batch, 1000)


def wait_for(env):
    async def nothing():
        await asyncio.sleep(0)

    async def batch(n):
        for _ in range(n):
            await asyncio.wait_for(nothing(), 60)

    return env.measure(batch, 1000)


def timeout(env):
    async def batch(n):
        for _ in range(n):
            async with asyncio.timeout(60):
                await asyncio.sleep(0)

    return env.measure(batch, 1000)


def queue(env):
    async def batch(n):
        items = asyncio.Queue(16)

        async def produce():
            for i in range(n):
                await items.put(i)
        producer = env.loop.create_task(produce())
        for _ in range(n):
            await items.get()
        await producer

    return env.measure(batch, 1000)


process("tasks/sleep0", "sleep(0)", sleep_zero, target=2.0)
process("tasks/sleep0/idle250", "sleep(0), 250 idle connections", sleep_zero, target=1.9,
        args={"idle": 250})
process("tasks/sleep0/x100", "sleep(0), 100 tasks", sleep_zero_many)
process("tasks/gather", "tasks by gather", gather, target=1.5)
process("tasks/create", "create_task and await", create_task)
process("tasks/wait_for", "wait_for", wait_for, target=1.5)
process("tasks/timeout", "asyncio.timeout", timeout)
process("tasks/queue", "a queue between two tasks", queue)
