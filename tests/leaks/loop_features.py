"""Time, callbacks and descriptors, again and again."""
import asyncio
import gc
import os
import signal
import socket
import tempfile
import threading
import time
import warnings

from features import LOOP, fail, feature, ignore, outside
import support
from support import Recorder


# -- time and callbacks -----------------------------------------------------

@feature(200)
async def call_soon():
    loop = asyncio.get_running_loop()
    for i in range(10):
        loop.call_soon(ignore, i, object())
        loop.call_soon(ignore).cancel()
    await asyncio.sleep(0)


@feature(100)
async def timers():
    loop = asyncio.get_running_loop()
    for i in range(10):
        loop.call_later(1000, ignore, object()).cancel()
        loop.call_later(0, ignore, object())
        loop.call_at(-1, ignore)
    await asyncio.sleep(0.0001)


@feature(100)
async def handles_asked():
    loop = asyncio.get_running_loop()
    handle = loop.call_soon(ignore)
    timer = loop.call_later(5, ignore)
    repr(handle), repr(timer), timer.when(), hash(timer), timer == timer
    timer.cancel()
    await asyncio.sleep(0)


@feature(100)
async def threadsafe():
    loop = asyncio.get_running_loop()
    for i in range(10):
        loop.call_soon_threadsafe(ignore, object())
        loop.call_soon_threadsafe(ignore, object()).cancel()
    await asyncio.sleep(0)


@feature(20)
async def threadsafe_from_a_thread():
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def work():
        for i in range(10):
            loop.call_soon_threadsafe(ignore, object())
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=work)
    thread.start()
    await done
    thread.join()


@feature(100)
async def tasks():
    async def child():
        await asyncio.sleep(0)
        return object()

    await asyncio.gather(*(child() for _ in range(5)))
    task = asyncio.create_task(asyncio.sleep(100))
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    await asyncio.wait_for(asyncio.sleep(0), 5)


@feature(50)
async def task_factory():
    loop = asyncio.get_running_loop()
    loop.set_task_factory(
        lambda loop, coro, **kw: asyncio.Task(coro, loop=loop, **kw))
    await asyncio.create_task(asyncio.sleep(0))
    loop.set_task_factory(None)


@feature(100)
async def exceptions_in_callbacks():
    loop = asyncio.get_running_loop()
    loop.call_soon(fail, object())
    loop.call_later(0, fail, object())
    loop.call_soon_threadsafe(fail)
    if not loop.get_debug():    # there it is refused
        loop.call_soon(17)
    await asyncio.sleep(0.0001)


@feature(100)
async def debug_mode():
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    try:
        loop.call_soon(ignore, object())
        loop.call_later(0, fail)
        loop.call_later(10, ignore).cancel()
        await asyncio.sleep(0.0001)
    finally:
        loop.set_debug(False)


@feature(100)
async def wrong_arguments():
    loop = asyncio.get_running_loop()
    for call in (lambda: loop.call_soon(), lambda: loop.call_later("x", print),
                 lambda: loop.call_at(None, print),
                 lambda: loop.add_reader("x", print),
                 lambda: loop.add_reader(10 ** 6, print),
                 lambda: loop.remove_reader(-1),
                 lambda: loop.set_exception_handler(5),
                 lambda: loop.call_soon(print, nonsense=1),
                 lambda: loop.add_signal_handler(0, print),
                 lambda: loop.run_forever()):
        try:
            call()
        except Exception:
            pass


@feature(30)
async def executor():
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, ignore, object())
    try:
        await loop.run_in_executor(None, fail)
    except ZeroDivisionError:
        pass


@feature(30)
async def lookups():
    loop = asyncio.get_running_loop()
    await loop.getaddrinfo("localhost", 80)
    await loop.getnameinfo(("127.0.0.1", 80))
    try:
        await loop.getaddrinfo("localhost", 80, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass
    tasks = [asyncio.create_task(loop.getaddrinfo("localhost", 80))
             for _ in range(40)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.wait(tasks)


@feature(50)
async def async_generators():
    async def numbers():
        for i in range(5):
            yield i

    async for i in numbers():
        if i == 2:
            break
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@feature(50)
async def signals():
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, done.set_result, object())
    os.kill(os.getpid(), signal.SIGUSR1)
    await done
    loop.remove_signal_handler(signal.SIGUSR1)


@outside(10)
def loops():
    loop = LOOP["make"]()
    loop.run_until_complete(asyncio.sleep(0))
    loop.call_soon(ignore, object())
    loop.call_later(5, ignore, object())
    loop.close()


@outside(10)
def loops_dropped():
    loop = LOOP["make"]()
    loop.call_soon(ignore, loop)
    loop.call_later(5, ignore, loop)
    loop.attribute = loop


@outside(10)
def interrupts():
    loop = LOOP["make"]()

    def interrupt():
        raise KeyboardInterrupt

    for _ in range(5):
        loop.call_soon(interrupt)
        loop.call_soon(ignore, object())
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            pass
    loop.close()


@outside(5)
def loops_closed_with_everything():
    loop = LOOP["make"]()

    async def main():
        one, two = await support.pair("unix")
        one.transport.pause_reading()
        support.fill(two.transport)
        a, b = support.socketpair()
        loop.add_reader(a, ignore, object())
        loop.add_writer(b, ignore, object())
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        return one, two, server, a, b

    keep = loop.run_until_complete(main())
    loop.remove_reader(keep[3])
    keep[2].close()
    loop.close()


@outside(10)
def loops_closed_with_lookups():
    """The threads go on for a moment, and free what they have."""
    loop = LOOP["make"]()

    async def main():
        tasks = [asyncio.create_task(loop.getaddrinfo("localhost", 80))
                 for _ in range(20)]
        await tasks[0]
        return tasks

    for task in loop.run_until_complete(main()):
        task._log_destroy_pending = False
    loop.close()
    time.sleep(0.01)


@outside(5)
def loops_in_threads():
    def work():
        loop = LOOP["make"]()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


# -- descriptors ------------------------------------------------------------

@feature(50)
async def readers_and_writers():
    loop = asyncio.get_running_loop()
    a, b = support.socketpair()
    done = loop.create_future()
    loop.add_reader(b, ignore, object())
    loop.add_reader(b, lambda: done.done() or done.set_result(b.recv(5)))
    loop.add_writer(b, ignore, object())
    a.send(b"x")
    await done
    loop.remove_writer(b)
    loop.remove_reader(b)
    loop.add_reader(a, ignore)
    loop.remove_reader(a)
    a.close()
    b.close()


@feature(30)
async def sock_operations():
    loop = asyncio.get_running_loop()
    a, b = support.socketpair()
    task = asyncio.ensure_future(loop.sock_recv(b, 100))
    await asyncio.sleep(0)
    await loop.sock_sendall(a, b"x")
    await task
    buffer = bytearray(10)
    task = asyncio.ensure_future(loop.sock_recv_into(b, buffer))
    await asyncio.sleep(0)
    await loop.sock_sendall(a, b"x")
    await task
    for coro in (loop.sock_recv(b, 10), loop.sock_recv_into(b, buffer),
                 loop.sock_sendall(a, b"x" * 3_000_000)):
        task = asyncio.ensure_future(coro)
        await support.turns(2)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
    await asyncio.sleep(0)
    a.close()
    b.close()


@feature(20)
async def sock_connect_and_accept():
    loop = asyncio.get_running_loop()
    with socket.socket() as listener, socket.socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        client.setblocking(False)
        accept = asyncio.ensure_future(loop.sock_accept(listener))
        await asyncio.sleep(0)
        await loop.sock_connect(client, listener.getsockname())
        conn, _ = await accept
        conn.close()
        address = listener.getsockname()
    with socket.socket() as client:
        client.setblocking(False)
        try:
            await loop.sock_connect(client, address)
        except ConnectionError:
            pass


@feature(30)
async def sock_datagrams():
    loop = asyncio.get_running_loop()
    with socket.socket(type=socket.SOCK_DGRAM) as a, \
            socket.socket(type=socket.SOCK_DGRAM) as b:
        for sock in a, b:
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
        buffer = bytearray(10)
        for receive in (lambda: loop.sock_recvfrom(a, 10),
                        lambda: loop.sock_recvfrom_into(a, buffer)):
            for cancel in False, True:
                task = asyncio.ensure_future(receive())
                await support.turns(2)
                if cancel:
                    task.cancel()
                else:
                    await loop.sock_sendto(b, b"x", a.getsockname())
                await asyncio.wait([task])
        for wrong in (loop.sock_recvfrom(a, -1),
                      loop.sock_recvfrom_into(a, b""),
                      loop.sock_sendto(a, "x", ("127.0.0.1", 9))):
            try:
                await wrong
            except (TypeError, ValueError):
                pass


@feature(30)
async def sock_coroutines():
    """Never awaited, closed, thrown into, replaced, dropped."""
    loop = asyncio.get_running_loop()
    a, b = support.socketpair()
    with a, b:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loop.sock_recv(a, 10)
        loop.sock_recv(a, 10).close()
        for how in "close", "throw", "drop":
            operation = loop.sock_recv(a, 10)
            operation.send(None)
            other = loop.sock_recv(a, 10)
            other.send(None)
            if how == "close":
                operation.close()
                other.close()
            elif how == "throw":
                try:
                    other.throw(KeyError("x"))
                except KeyError:
                    pass
            del operation, other
            loop.remove_reader(a)
        task = asyncio.ensure_future(
            loop.sock_connect(a, ("a.host.example", 1)))
        await asyncio.wait([task])
        task.exception()
        gc.collect()


@feature(20)
async def sock_sendfile():
    loop = asyncio.get_running_loop()
    a, b = support.socketpair()
    with a, b, tempfile.TemporaryFile() as file:
        file.truncate(3_000_000)
        await loop.sock_sendfile(a, file, 5, 1000)
        task = asyncio.ensure_future(loop.sock_sendfile(a, file))
        await support.turns(3)
        task.cancel()
        await asyncio.wait([task])
        task = asyncio.ensure_future(loop.sock_sendfile(a, file))
        await support.turns(2)
        b.close()
        await asyncio.wait([task])
        task.exception()
