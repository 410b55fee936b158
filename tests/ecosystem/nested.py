"""Programs with runs inside of runs, by nest_asyncio: see test_nest_asyncio.py.

    python nested.py nest_asyncio tidewire:new_event_loop NAME

Each function below that takes a loop is a program; one fails by an exception.
"""
import asyncio
import contextvars
import importlib
import os
import signal
import socket
import ssl
import sys
import threading
import traceback

TLS_FOLDER = os.environ.get("TLS_FOLDER")
VARIABLE = contextvars.ContextVar("VARIABLE", default=0)


async def later(value, turns=3):
    for _ in range(turns):
        await asyncio.sleep(0)
    return value


def in_task(loop, function):
    """Call it in a task of a loop that runs."""
    async def main():
        return function()

    return loop.run_until_complete(main())


def in_callback(loop, function):
    """Call it in a callback, while nobody waits for a future."""
    results = []

    def callback():
        try:
            results.append(function())
        finally:
            loop.stop()

    loop.call_soon(callback)
    loop.run_forever()
    return results[0]


# -- where it may run ---------------------------------------------------------

def task(loop):
    assert in_task(loop, lambda: loop.run_until_complete(later(5))) == 5


def callback(loop):
    def function():
        value = loop.run_until_complete(later(5))
        assert asyncio.get_running_loop() is loop and loop.is_running()
        return value

    assert in_callback(loop, function) == 5
    assert not loop.is_running()


def timer(loop):
    def function():
        results.append(loop.run_until_complete(asyncio.sleep(0.001, "slept")))
        loop.stop()

    results = []
    loop.call_later(0.001, function)
    loop.run_forever()
    assert results == ["slept"]


def reader_callback(loop):
    ours, theirs = socket.socketpair()
    results = []

    def function():
        ours.recv(10)
        results.append(loop.run_until_complete(later(5)))
        loop.remove_reader(ours)
        loop.stop()

    with ours, theirs:
        loop.add_reader(ours, function)
        theirs.send(b"x")
        loop.run_forever()
    assert results == [5]


def asyncio_run(loop):
    async def inner():
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    async def main():
        return asyncio.run(inner())

    asyncio.set_event_loop(loop)
    assert asyncio.run(main()) is not None
    assert loop.run_until_complete(main()) is loop
    asyncio.set_event_loop(None)


def many_levels(loop):
    def down(level):
        async def here():
            await asyncio.sleep(0)
            assert VARIABLE.get() == level + 1
            VARIABLE.set(level)
            return level + (down(level - 1) if level else 0)

        return loop.run_until_complete(here())

    VARIABLE.set(21)
    assert down(20) == 210


def finished_future(loop):
    def function():
        future = loop.create_future()
        future.set_result(1)
        return loop.run_until_complete(future)

    assert in_task(loop, function) == 1


def another_loop(loop):
    """A second one runs inside; and the first one in that."""
    async def inner():
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is other
        return loop.run_until_complete(later(7))

    async def main():
        me = asyncio.current_task()
        hooks = sys.get_asyncgen_hooks()
        assert other.run_until_complete(inner()) == 7
        assert asyncio.get_running_loop() is loop and asyncio.current_task() is me
        assert sys.get_asyncgen_hooks() == hooks
        assert not other.is_running() and loop.is_running()
        await asyncio.sleep(0)

    other = type(loop)()
    loop.run_until_complete(main())
    other.close()


# -- what surrounds it --------------------------------------------------------

def current_task(loop):
    async def inner():
        assert asyncio.current_task().get_name() == "inner"

    async def main():
        me = asyncio.current_task()
        loop.run_until_complete(loop.create_task(inner(), name="inner"))
        assert asyncio.current_task() is me
        await asyncio.sleep(0)
        assert asyncio.current_task() is me

    loop.run_until_complete(main())


def classes(loop):
    async def main():
        assert isinstance(loop.create_future(), asyncio.Future)
        assert isinstance(asyncio.current_task(), asyncio.Task)
        assert len(asyncio.all_tasks()) == 1

    loop.run_until_complete(main())


def other_tasks_go_on(loop):
    async def count():
        while True:
            seen.append(1)
            await asyncio.sleep(0)

    def function():
        ticking = loop.create_task(count())
        loop.run_until_complete(later(1, 50))
        ticking.cancel()
        return len(seen)

    seen = []
    assert in_task(loop, function) >= 49


def order(loop):
    """What was ready before runs before the nested coroutine."""
    def function():
        for i in range(5):
            loop.call_soon(seen.append, i)
        loop.run_until_complete(later(0, 1))
        seen.append("back")

    seen = []
    loop.call_soon(seen.append, "outer")
    in_task(loop, function)
    assert seen == ["outer", 0, 1, 2, 3, 4, "back"], seen


def done_callbacks(loop):
    async def inner():
        await asyncio.sleep(0)

    def function():
        inside = loop.create_task(inner())
        inside.add_done_callback(lambda task: seen.append("done"))
        loop.run_until_complete(inside)

    seen = []
    in_task(loop, function)
    loop.run_until_complete(asyncio.sleep(0))
    assert seen == ["done"]


def generation(loop):
    """The rest of the outer generation runs inside, and once."""
    seen = []

    def nesting(name):
        loop.run_until_complete(later(0, 2))
        seen.append(name)

    for i in range(200):
        loop.call_soon(seen.append, i)
        if i % 20 == 7:
            loop.call_soon(nesting, f"nest {i}")
    loop.run_until_complete(asyncio.sleep(0.01))
    assert sorted(x for x in seen if isinstance(x, int)) == list(range(200))
    assert sorted(x for x in seen if isinstance(x, str)) == sorted(
        f"nest {i}" for i in range(7, 200, 20))


def async_generators(loop):
    ended = []

    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            ended.append(1)

    async def inner():
        async for _ in numbers():
            break

    in_task(loop, lambda: loop.run_until_complete(inner()))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(asyncio.sleep(0))
    assert ended == [1]


def debug_mode(loop):
    loop.set_debug(True)
    assert in_task(loop, lambda: loop.run_until_complete(later(5))) == 5
    assert in_callback(loop, lambda: loop.run_until_complete(later(5))) == 5
    loop.set_debug(False)


def contexts(loop):
    """A handle whose context is entered: at once in none, lost in none."""
    context = contextvars.copy_context()
    seen = []

    async def inner():
        for _ in range(3):
            await asyncio.sleep(0)
        return 1

    def outer():
        for i in range(3):
            loop.call_soon(seen.append, i, context=context)
        loop.run_until_complete(inner())
        seen.append("back")
        loop.call_soon(loop.stop)

    loop.call_soon(outer, context=context)
    loop.run_forever()
    assert seen == ["back", 0, 1, 2], seen


def contexts_of_timers(loop):
    """The same of a timer that becomes due during the nested run."""
    context = contextvars.copy_context()
    seen = []

    def outer():
        loop.call_later(0, seen.append, "timer", context=context)
        loop.run_until_complete(asyncio.sleep(0.002))
        seen.append("back")
        loop.call_later(0, loop.stop)

    loop.call_soon(outer, context=context)
    loop.run_forever()
    assert seen == ["back", "timer"], seen


def contexts_of_two_levels(loop):
    """The end of an inner run does not call what waits for the end of an outer one."""
    context = contextvars.copy_context()
    seen = []

    def innermost():
        loop.call_soon(seen.append, "waited", context=context)
        loop.run_until_complete(later(0))
        seen.append("inner")

    async def inner():
        loop.call_soon(innermost)
        for _ in range(3):      # so that more is ready behind it, each time
            loop.call_soon(int)
        await later(0, 10)

    def outer():
        loop.run_until_complete(inner())
        seen.append("outer")
        loop.call_soon(loop.stop)

    loop.call_soon(outer, context=context)
    loop.run_forever()
    assert seen == ["inner", "outer", "waited"], seen


def greenlets(loop):
    """Nested runs in greenlets, which do not end in the order in which they began."""
    try:
        from greenlet import getcurrent, greenlet
    except ImportError:
        return
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        return      # greenlet copies whole stacks, which ends a sanitized process
    context = contextvars.copy_context()
    main = getcurrent()
    seen = []

    def in_greenlet():
        loop.call_soon(main.switch)     # out of the middle of the nested run
        loop.run_until_complete(done)
        seen.append("greenlet")

    def resume():
        other.switch()

    def begin():
        other.switch()
        for i in range(200):
            loop.call_soon(seen.append, i, context=context)

    def outer():
        loop.call_soon(begin)
        loop.run_until_complete(later(0, 10))
        seen.append("outer")
        done.set_result(None)
        loop.call_soon(resume)
        loop.call_soon(loop.call_soon, loop.stop)

    other = greenlet(in_greenlet)
    done = loop.create_future()
    loop.call_soon(outer, context=context)
    loop.run_forever()
    assert seen[0] == "outer" and sorted(map(str, seen[1:])) == sorted(
        [*map(str, range(200)), "greenlet"]), seen


# -- how it ends --------------------------------------------------------------

def exception(loop):
    async def inner():
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async def main():
        for _ in range(3):
            try:
                loop.run_until_complete(inner())
            except ZeroDivisionError:
                caught.append(1)
        await asyncio.sleep(0)
        return 9

    caught = []
    assert loop.run_until_complete(main()) == 9
    assert len(caught) == 3


def exits(loop):
    """KeyboardInterrupt and SystemExit leave every level, and the loop is as new."""
    for kind in (KeyboardInterrupt, SystemExit):
        async def inner():
            await asyncio.sleep(0)
            raise kind

        async def main():
            loop.run_until_complete(inner())

        try:
            loop.run_until_complete(main())
        except kind:
            pass
        else:
            raise AssertionError(kind)
        assert not loop.is_running() and asyncio._get_running_loop() is None
        assert asyncio.current_task(loop) is None
        assert loop.run_until_complete(later(3)) == 3


def interrupt(loop):
    """Ctrl-C while a nested run waits."""
    async def main():
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        loop.run_until_complete(asyncio.sleep(60))

    try:
        loop.run_until_complete(main())
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError
    assert not loop.is_running()
    assert loop.run_until_complete(later(3)) == 3


def caught_interrupt(loop):
    """It is caught between the levels: the outer run goes on."""
    async def inner():
        raise KeyboardInterrupt

    async def main():
        try:
            loop.run_until_complete(inner())
        except KeyboardInterrupt:
            pass
        await asyncio.sleep(0)
        return loop.run_until_complete(later(4))

    assert loop.run_until_complete(main()) == 4


def stop(loop):
    """stop() ends the nested run without a result."""
    def function():
        loop.call_soon(loop.stop)
        waiting = loop.create_future()
        try:
            loop.run_until_complete(waiting)
        except RuntimeError as exc:
            assert "stopped before Future completed" in str(exc)
            return "stopped"

    assert in_callback(loop, function) == "stopped"
    assert loop.run_until_complete(later(3)) == 3


def run_forever(loop):
    """A nested run_forever() ends by stop(), and the outer run goes on."""
    async def main():
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
        assert loop.is_running()
        await asyncio.sleep(0)
        return 8

    assert loop.run_until_complete(main()) == 8


def outer_future_first(loop):
    """The future of the outer run is done while the nested one waits."""
    outer, seen = loop.create_future(), []

    def callback():
        loop.call_soon(outer.set_result, 1)
        seen.append(loop.run_until_complete(later(2, 10)))

    loop.call_soon(callback)
    assert loop.run_until_complete(outer) == 1
    assert seen == [2]


def close(loop):
    def function():
        try:
            loop.close()
        except RuntimeError as exc:
            return str(exc)

    async def inner():
        return function()

    text = in_task(loop, lambda: loop.run_until_complete(inner()))
    assert text == "Cannot close a running event loop"


# -- with descriptors ---------------------------------------------------------

async def serve(loop, handler, **options):
    server = await asyncio.start_server(handler, "127.0.0.1", 0, **options)
    return server, server.sockets[0].getsockname()[:2]


async def echo(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def talk(address, **options):
    reader, writer = await asyncio.open_connection(*address, **options)
    total = 0
    for size in (1, 1000, 300_000):
        writer.write(b"a" * size)
        total += len(await reader.readexactly(size))
    writer.close()
    await writer.wait_closed()
    return total


def contexts_of_tls():
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(f"{TLS_FOLDER}/cert.pem", f"{TLS_FOLDER}/key.pem")
    client = ssl.create_default_context(cafile=f"{TLS_FOLDER}/ca.pem")
    return server, client


def _streams(loop, server_tls=None, client_tls=None):
    async def nesting(reader, writer):
        """Each connection is answered by a nested conversation."""
        await reader.readexactly(1)
        total = loop.run_until_complete(talk(inner_address, ssl=client_tls))
        writer.write(b"%d" % total)
        writer.close()

    async def main():
        nonlocal inner_address
        inner, inner_address = await serve(loop, echo, ssl=server_tls)
        outer, address = await serve(loop, nesting, ssl=server_tls)

        async def ask():
            reader, writer = await asyncio.open_connection(*address, ssl=client_tls)
            writer.write(b"x")
            answer = await reader.read()
            writer.close()
            return answer

        answers = await asyncio.gather(*[ask() for _ in range(5)])
        for server in (inner, outer):
            server.close()
            await server.wait_closed()
        return answers

    inner_address = None
    assert loop.run_until_complete(main()) == [b"301001"] * 5


def streams(loop):
    _streams(loop)


def tls(loop):
    _streams(loop, *contexts_of_tls())


def _protocol(loop, server_tls=None, client_tls=None):
    """Nested runs inside data_received(), each of which serves the others' sockets."""
    class Nesting(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(b"<")
            loop.run_until_complete(later(0, 5))
            self.transport.write(data + b">")

    async def main():
        server = await loop.create_server(Nesting, "127.0.0.1", 0, ssl=server_tls)
        address = server.sockets[0].getsockname()

        async def ask(i):
            reader, writer = await asyncio.open_connection(*address, ssl=client_tls)
            for _ in range(10):
                writer.write(b"%d" % i)
                assert await reader.readuntil(b">") == b"<%d>" % i
            writer.close()
            await writer.wait_closed()

        await asyncio.gather(*[ask(i) for i in range(20)])
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())


def protocol(loop):
    _protocol(loop)


def protocol_over_tls(loop):
    _protocol(loop, *contexts_of_tls())


def held_writes(loop):
    """What a callback wrote has left before a nested run waits for the answer."""
    async def main():
        server, address = await serve(loop, echo)
        reader, writer = await asyncio.open_connection(*address)
        for _ in range(50):
            for _ in range(3):
                writer.write(b"x")
            assert loop.run_until_complete(reader.readexactly(3)) == b"xxx"
            writer.write(b"y")
            assert await reader.readexactly(1) == b"y"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())


def many_readers(loop):
    """Nested runs while many descriptors are due: each is served, and none twice."""
    pairs = [socket.socketpair() for _ in range(100)]
    seen, level = [], [0]
    done = loop.create_future()

    def readable(i):
        assert pairs[i][0].recv(10) == b"x"
        loop.remove_reader(pairs[i][0])
        if i % 3 == 0 and level[0] < 5:
            level[0] += 1
            loop.run_until_complete(later(0, 2))
            for a in range(4):      # new ones, while the outer turn's are due
                extra = socket.socketpair()
                pairs.append(extra)
                loop.add_reader(extra[0], fresh, extra[0])
                extra[1].send(b"y")
            loop.run_until_complete(later(0, 2))
            level[0] -= 1
        seen.append(i)
        if len(seen) == 100:
            done.set_result(None)

    def fresh(sock):
        sock.recv(10)
        loop.remove_reader(sock)

    for i, (ours, theirs) in enumerate(pairs):
        loop.add_reader(ours, readable, i)
        theirs.send(b"x")
    loop.run_until_complete(done)
    assert sorted(seen) == list(range(100))
    for pair in pairs:
        loop.remove_reader(pair[0])
        for sock in pair:
            sock.close()


def closing_inside(loop):
    """A nested run closes transports that are due in the outer turn."""
    async def main():
        made, lost = [], []

        class Server(asyncio.Protocol):
            def connection_made(self, transport):
                made.append(transport)

            def data_received(self, data):
                if len(lost) == 0:
                    lost.append("first")

                    async def close():
                        for transport in made:
                            transport.abort()
                        await asyncio.sleep(0)

                    loop.run_until_complete(close())

            def connection_lost(self, exc):
                lost.append(exc)
                if len(lost) == 21:
                    done.set_result(None)

        done = loop.create_future()
        server = await loop.create_server(Server, "127.0.0.1", 0)
        clients = [socket.create_connection(server.sockets[0].getsockname())
                   for _ in range(20)]
        while len(made) < 20:
            await asyncio.sleep(0)
        for client in clients:
            client.send(b"x")
        await done
        for client in clients:
            client.close()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())


def datagrams(loop):
    async def main():
        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, addr):
                loop.run_until_complete(later(0, 2))
                self.transport.sendto(data, addr)

        transport, _ = await loop.create_datagram_endpoint(
            Echo, local_addr=("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(transport.get_extra_info("sockname"))
            for i in range(20):
                client.send(b"%d" % i)
            got = [await loop.sock_recv(client, 10) for _ in range(20)]
        transport.close()
        return sorted(got, key=int)

    assert loop.run_until_complete(main()) == [b"%d" % i for i in range(20)]


def subprocesses(loop):
    async def child():
        process = await asyncio.create_subprocess_exec(
            "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate(b"x" * 100_000)
        return len(out), process.returncode

    assert in_task(loop, lambda: loop.run_until_complete(child())) == (100_000, 0)


def executor(loop):
    async def work():
        return await loop.run_in_executor(None, sum, range(10))

    assert in_task(loop, lambda: loop.run_until_complete(work())) == 45
    assert in_callback(loop, lambda: loop.run_until_complete(work())) == 45
    loop.run_until_complete(loop.shutdown_default_executor())


def names(loop):
    async def look_up():
        return await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)

    assert in_task(loop, lambda: loop.run_until_complete(look_up()))
    loop.run_until_complete(loop.shutdown_default_executor())


def threads(loop):
    """call_soon_threadsafe() wakes a nested run."""
    def function():
        future = loop.create_future()
        thread = threading.Thread(
            target=lambda: loop.call_soon_threadsafe(future.set_result, 3))
        loop.call_later(0.01, thread.start)
        result = loop.run_until_complete(future)
        thread.join()
        return result

    assert in_task(loop, function) == 3


def signals(loop):
    def function():
        future = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, future.set_result, 3)
        loop.call_later(0.01, os.kill, os.getpid(), signal.SIGUSR1)
        result = loop.run_until_complete(future)
        loop.remove_signal_handler(signal.SIGUSR1)
        return result

    assert in_task(loop, function) == 3


# -- tidewire's own ------------------------------------------------------------

def tidewire_class(loop):
    """apply() changes nothing of the class."""
    import tidewire
    assert not {"_run_once", "_num_runs_pending"} & set(vars(tidewire.Loop))
    assert loop._nest_patched
    for name in ("run_forever", "run_until_complete", "_check_running"):
        module = getattr(tidewire.Loop, name).__module__
        assert module.startswith(("tidewire", "asyncio")), name


def tidewire_done_callbacks(loop):
    """Callbacks of the awaited task run before a nested run returns."""
    async def main():
        inside = loop.create_task(later(1))
        inside.add_done_callback(lambda task: seen.append("done"))
        loop.run_until_complete(inside)
        seen.append("back")

    seen = []
    loop.run_until_complete(main())
    assert seen == ["done", "back"]


def tidewire_another_thread(loop):
    """Another thread than the loop's cannot run it."""
    def run():
        try:
            loop.run_until_complete(waiting)
        except RuntimeError as exc:
            caught.append(str(exc))

    async def main():
        await asyncio.to_thread(run)
        waiting.cancel()
        return loop.run_until_complete(later(3))

    caught, waiting = [], loop.create_future()
    assert loop.run_until_complete(main()) == 3
    assert caught == ["This event loop is already running"]
    loop.run_until_complete(loop.shutdown_default_executor())


def tidewire_same_transport(loop):
    """A nested run in data_received() receives more of the same connection."""
    ours, theirs = socket.socketpair()

    class Protocol(asyncio.Protocol):
        def data_received(self, data):
            seen.append(data)
            if data == b"a":
                theirs.send(b"b")
                loop.run_until_complete(second)
                seen.append("back")
                done.set_result(None)
            else:
                second.set_result(None)

    async def main():
        transport, _ = await loop.create_connection(Protocol, sock=ours)
        theirs.send(b"a")
        await done
        transport.close()
        await asyncio.sleep(0)

    seen, second, done = [], loop.create_future(), loop.create_future()
    loop.run_until_complete(main())
    theirs.close()
    assert seen == [b"a", b"b", "back"], seen


def tidewire_same_reader(loop):
    """Not so a callback of add_reader(): it is not called inside of itself."""
    ours, theirs = socket.socketpair()
    calls = []

    def readable():
        calls.append(1)
        if len(calls) == 1:
            loop.run_until_complete(later(0, 10))
            assert len(calls) == 1
        ours.recv(1)
        if len(calls) == 3:
            loop.remove_reader(ours)
            done.set_result(None)

    done = loop.create_future()
    with ours, theirs:
        loop.add_reader(ours, readable)
        theirs.send(b"xyz")
        loop.run_until_complete(done)
    assert len(calls) == 3


PROGRAMS = {name: value for name, value in vars().items()
            if callable(value) and getattr(value, "__code__", None) is not None
            and value.__code__.co_varnames[:value.__code__.co_argcount] == ("loop",)}


def run_program(name, new_loop, nest):
    loop = new_loop()
    nest.apply(loop)
    errors = []
    loop.set_exception_handler(lambda loop, context: errors.append(context))
    try:
        PROGRAMS[name](loop)
        assert errors == [], (len(errors), errors[0])
    finally:
        loop.close()


def main(module, factory, names):
    nest = importlib.import_module(module)
    package, _, attribute = factory.partition(":")
    new_loop = getattr(importlib.import_module(package), attribute)
    for name in names:
        try:
            run_program(name, new_loop, nest)
        except BaseException as exc:
            traceback.print_exc()
            print(name, f"failed: {exc!r}", flush=True)
        else:
            print(name, "ok", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:] or list(PROGRAMS))
