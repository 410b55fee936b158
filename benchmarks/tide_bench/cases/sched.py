"""Scheduling: callbacks, timers, other threads; nothing but the loop."""
import threading

from ..case import process

CHAIN = 10_000
BATCH = 1_000


def call_soon_chain(env):
    loop = env.loop

    async def batch(n):
        done = loop.create_future()

        def step(left):
            if left:
                loop.call_soon(step, left - 1)
            else:
                done.set_result(None)
        loop.call_soon(step, n - 1)
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
    """Calls from another thread, 64 on their way at most."""
    loop = env.loop

    async def batch(n):
        room, done = threading.Semaphore(64), loop.create_future()

        def last():
            done.set_result(None)

        def calls():
            for _ in range(n - 1):
                room.acquire()
                loop.call_soon_threadsafe(room.release)
            loop.call_soon_threadsafe(last)
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


process("sched/call_soon/chain", "call_soon, a chain", call_soon_chain, target=5)
process("sched/call_soon/batch", "call_soon, in batches", call_soon_batch, target=2)
process("sched/call_later/cancel", "call_later and cancel", timer_cancel, target=5)
process("sched/call_later/fire", "call_later, firing", timer_fire, target=3.5)
process("sched/threadsafe/thread", "call_soon_threadsafe, another thread", threadsafe)
process("sched/threadsafe/own", "call_soon_threadsafe, own thread", threadsafe_own, target=2.5)
process("sched/executor", "run_in_executor", executor, target=1.4)
