"""Scheduling: callbacks, timers, other threads; nothing but the loop."""
import asyncio
import threading

from ..case import process

CHAIN = 10_000
BATCH = 1_000


def call_soon_chain(env):
    loop = env.loop

    async def batch(n):
        done, left = loop.create_future(), n

        def step():
            nonlocal left
            left -= 1
            if left:
                loop.call_soon(step)
            else:
                done.set_result(None)
        loop.call_soon(step)
        await done

    return env.measure(batch, CHAIN)


def call_soon_batch(env):
    loop = env.loop

    def nothing():
        pass

    async def batch(n):
        done = loop.create_future()
        for _ in range(n - 1):
            loop.call_soon(nothing)
        loop.call_soon(done.set_result, None)
        await done

    return env.measure(batch, BATCH)


def timer_cancel(env):
    loop = env.loop

    def nothing():
        pass

    async def batch(n):
        for _ in range(n):
            loop.call_later(60, nothing).cancel()

    return env.measure(batch, BATCH)


def timer_fire(env):
    loop = env.loop

    def nothing():
        pass

    async def batch(n):
        done = loop.create_future()
        for _ in range(n - 1):
            loop.call_later(0.001, nothing)
        loop.call_later(0.0011, done.set_result, None)
        await done

    return env.measure(batch, BATCH)


def threadsafe(env):
    """Calls from another thread, while the loop waits for the last of them."""
    loop = env.loop

    def nothing():
        pass

    async def batch(n):
        done = loop.create_future()

        def calls():
            for _ in range(n - 1):
                loop.call_soon_threadsafe(nothing)
            loop.call_soon_threadsafe(done.set_result, None)
        thread = threading.Thread(target=calls)
        thread.start()
        await done
        thread.join()

    return env.measure(batch, BATCH)


def threadsafe_own(env):
    """Calls from the loop's own thread."""
    loop = env.loop

    def nothing():
        pass

    async def batch(n):
        done = loop.create_future()
        for _ in range(n - 1):
            loop.call_soon_threadsafe(nothing)
        loop.call_soon_threadsafe(done.set_result, None)
        await done

    return env.measure(batch, BATCH)


def executor(env):
    loop = env.loop

    def nothing():
        pass

    async def batch(n):
        for _ in range(n):
            await loop.run_in_executor(None, nothing)

    return env.measure(batch, 200)


def executor_many(env):
    loop = env.loop

    def nothing():
        pass

    async def batch(n):
        await asyncio.gather(*[loop.run_in_executor(None, nothing) for _ in range(n)])

    return env.measure(batch, 200)


process("sched/call_soon/chain", "call_soon, a chain", call_soon_chain, target=5)
process("sched/call_soon/chain/idle250", "call_soon, a chain, 250 idle connections",
        call_soon_chain, target=3.5, args={"idle": 250})
process("sched/call_soon/batch", "call_soon, in batches", call_soon_batch, target=2)
process("sched/call_later/cancel", "call_later and cancel", timer_cancel, target=5)
process("sched/call_later/fire", "call_later, firing", timer_fire, target=3.5)
process("sched/threadsafe/thread", "call_soon_threadsafe, another thread", threadsafe, target=2)
process("sched/threadsafe/own", "call_soon_threadsafe, own thread", threadsafe_own, target=2)
# One by one is two switches of threads, which are the kernel's; at once is the loop's part.
process("sched/executor", "run_in_executor, one by one", executor, target=1.15)
process("sched/executor/many", "run_in_executor, 200 at once", executor_many, target=1.4)
