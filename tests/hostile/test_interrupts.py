"""KeyboardInterrupt and SystemExit out of every callback.

They come out of run_forever at once; then the loop runs on, every other
callback is still there, and every connection ends.
"""
import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading

import pytest

import support
from support import BufferedRecorder, Recorder

KINDS = [KeyboardInterrupt, SystemExit]


def run_until_interrupt(loop, kind):
    """The interrupt comes out although other work waits."""
    timer = loop.call_later(8, loop.stop)
    with pytest.raises(kind):
        loop.run_forever()
    timer.cancel()
    assert not loop.is_running()
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def raiser(kind):
    def hook(protocol, *args):
        if not getattr(protocol, "raised", False):
            protocol.raised = True
            raise kind
    return hook


async def check(loop):
    """The loop works: timers, sockets, threads."""
    await asyncio.sleep(0.001)
    one, two = await support.pair("unix")
    one.transport.write(b"fine")
    await two.got(b"fine")
    await support.close(one, two)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [
    "data", "eof", "pause", "resume", "lost", "get_buffer", "buffer_updated"])
def test_protocol_callbacks(loop, run, errors, logs, kind, place):
    make = BufferedRecorder if "buffer" in place else Recorder

    async def start():
        return await support.connected(
            "unix", lambda: make({place: raiser(kind)}))

    transport, protocol, peer = run(start())
    if place in ("pause", "resume"):
        def write():
            while transport.get_write_buffer_size() < 70000:
                transport.write(b"x" * 65536)
        loop.call_soon(write)
        if place == "resume":
            run(asyncio.sleep(0))
            reader = []
            loop.add_reader(peer, lambda: reader.append(
                len(support.drain(peer) or b"")))
    elif place == "eof":
        peer.shutdown(1)
    elif place == "lost":
        loop.call_soon(transport.abort)
    else:
        peer.send(b"hello")
    run_until_interrupt(loop, kind)
    if place == "resume":
        loop.remove_reader(peer)
    run(check(loop))

    async def end():
        transport.abort()
        await protocol.saw("lost")
        await support.turns(3)
        assert protocol.names.count("lost") == 1

    run(end())
    peer.close()
    errors.clear()
    logs.clear()


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_of_the_stream_comes_again(loop, run, kind):
    """Otherwise nobody would ever close the connection."""
    transport, protocol, peer = run(support.connected(
        "unix", lambda: Recorder({"eof": raiser(kind)})))
    peer.shutdown(socket.SHUT_WR)
    run_until_interrupt(loop, kind)
    run(protocol.saw("lost"))
    assert protocol.names == ["made", "eof", "eof", "lost"]
    peer.close()


@pytest.mark.parametrize("kind", KINDS)
def test_connection_made(loop, run, kind):
    ours, peer = support.socketpair()
    made = []

    def factory():
        made.append(Recorder({"made": raiser(kind)}))
        return made[-1]

    async def start():
        await loop.create_unix_connection(factory, sock=ours)

    task = loop.create_task(start())
    run_until_interrupt(loop, kind)
    run(asyncio.wait([task], timeout=5))
    run(check(loop))
    run(support.close(*made))
    peer.close()


@pytest.mark.parametrize("kind", KINDS)
def test_connection_made_of_a_server(loop, run, kind):
    import socket
    made = []

    def factory():
        made.append(Recorder({"made": raiser(kind)} if not made else None))
        return made[-1]

    server = run(loop.create_server(factory, "127.0.0.1", 0))
    address = server.sockets[0].getsockname()
    first = socket.create_connection(address)
    run_until_interrupt(loop, kind)
    second = socket.create_connection(address)
    second.sendall(b"x")

    async def rest():
        while len(made) < 2:
            await asyncio.sleep(0)
        await made[1].got(b"x")
        first.close()
        second.close()
        for protocol in made:
            protocol.transport.abort()
            await protocol.saw("lost")
        server.close()
        await server.wait_closed()

    run(rest())


@pytest.mark.parametrize("kind", KINDS)
def test_factory_of_a_server(loop, run, kind, errors):
    import gc
    import socket
    import warnings
    made = []

    def factory():
        if not made:
            made.append(None)
            raise kind
        made.append(Recorder())
        return made[-1]

    server = run(loop.create_server(factory, "127.0.0.1", 0))
    address = server.sockets[0].getsockname()
    first = socket.create_connection(address)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        run_until_interrupt(loop, kind)
        second = socket.create_connection(address)

        async def rest():
            while len(made) < 2 or not made[1].names:
                await asyncio.sleep(0)
            first.close()
            second.close()
            made[1].transport.abort()
            await made[1].saw("lost")
            server.close()
            await support.io_turns(3)

        run(rest())
        gc.collect()
    # asyncio accepts in a task, whose exception nobody asks for.
    assert all(isinstance(c["exception"], kind) for c in errors.take())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("schedule", [
    lambda loop, f: loop.call_soon(f),
    lambda loop, f: loop.call_later(0.001, f),
    lambda loop, f: loop.call_later(0, f),
    lambda loop, f: loop.call_soon_threadsafe(f),
    lambda loop, f: threading.Timer(
        0.01, loop.call_soon_threadsafe, (f,)).start()],
    ids=["call_soon", "call_later", "zero", "threadsafe", "other thread"])
def test_handles(loop, run, kind, schedule):
    def fail():
        raise kind

    seen = []
    schedule(loop, fail)
    for i in range(5):
        loop.call_later(0.002 * i, seen.append, i)
    run_until_interrupt(loop, kind)
    run(asyncio.sleep(0.02))
    assert seen == [0, 1, 2, 3, 4]
    run(check(loop))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("which", ["reader", "writer"])
def test_reader_and_writer(loop, run, kind, which):
    a, b = support.socketpair()
    seen = []

    def fail():
        if not seen:
            seen.append(1)
            raise kind
        seen.append(2)
        if which == "reader":
            b.recv(10)
        else:
            loop.remove_writer(b)

    a.send(b"x")
    getattr(loop, "add_" + which)(b, fail)
    run_until_interrupt(loop, kind)
    run(asyncio.sleep(0.005))
    assert seen == [1, 2]           # it is watched as before
    loop.remove_reader(b)
    loop.remove_writer(b)
    run(check(loop))
    a.close()
    b.close()


@pytest.mark.parametrize("kind", KINDS)
def test_signal_handler(loop, run, kind):
    def fail():
        raise kind

    loop.add_signal_handler(signal.SIGUSR1, fail)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    run_until_interrupt(loop, kind)
    loop.remove_signal_handler(signal.SIGUSR1)
    run(check(loop))


@pytest.mark.parametrize("kind", KINDS)
def test_exception_handler(loop, run, kind):
    def handler(loop, context):
        raise kind

    def fail():
        raise ZeroDivisionError

    loop.set_exception_handler(handler)
    loop.call_soon(fail)
    run_until_interrupt(loop, kind)
    loop.set_exception_handler(None)
    run(check(loop))


@pytest.mark.parametrize("kind", KINDS)
def test_exception_handler_of_a_protocol(loop, run, kind):
    """data_received fails, and the handler that hears of it interrupts."""
    def handler(loop, context):
        raise kind

    async def start():
        return await support.connected("unix", lambda: Recorder(
            {"data": lambda p, d: 1 / 0}))

    transport, protocol, peer = run(start())
    loop.set_exception_handler(handler)
    peer.send(b"x")
    run_until_interrupt(loop, kind)
    loop.set_exception_handler(None)
    run(check(loop))
    transport.abort()
    run(protocol.saw("lost"))
    peer.close()


@pytest.mark.parametrize("kind", KINDS)
def test_task(loop, run, kind):
    async def fail():
        await asyncio.sleep(0.001)
        raise kind

    task = loop.create_task(fail())
    run_until_interrupt(loop, kind)
    assert isinstance(task.exception(), kind)
    run(check(loop))


@pytest.mark.parametrize("kind", KINDS)
def test_done_callback(loop, run, kind):
    def fail(future):
        raise kind

    future = loop.create_future()
    future.add_done_callback(fail)
    future.set_result(None)
    run_until_interrupt(loop, kind)
    run(check(loop))


@pytest.mark.parametrize("kind", KINDS)
def test_others_in_the_same_batch(loop, run, kind):
    """Ten connections are due, the third interrupts: the rest come later."""
    protocols, peers = [], []

    async def start():
        for i in range(10):
            hooks = {"data": raiser(kind)} if i == 3 else None
            _, protocol, peer = await support.connected(
                "unix", lambda: Recorder(hooks))
            protocols.append(protocol)
            peers.append(peer)

    run(start())
    for peer in peers:
        peer.send(b"x")
    run_until_interrupt(loop, kind)

    async def rest():
        for protocol in protocols:
            await protocol.got(b"x")
        await support.close(*protocols)

    run(rest())
    for peer in peers:
        peer.close()


class AtOpcode:
    """KeyboardInterrupt before the n-th opcode of the Python code inside.

    The collector is off meanwhile: what it calls may not be interrupted.
    """

    def __init__(self, n):
        self.left = n

    def trace(self, frame, event, arg):
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self.trace

    def __enter__(self):
        self.previous = sys.gettrace()
        sys.settrace(self.trace)

    def __exit__(self, *exc):
        sys.settrace(self.previous)


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
def test_run_forever_at_each_opcode(make_loop, is_stock, debug, no_gc):
    """Whatever its Python code was at: the loop runs again, the hooks of
    asynchronous generators, the tracking of coroutines' origins and the wakeup
    descriptor are as before."""
    if is_stock:
        pytest.skip("asyncio's own cleanup does not hold out")
    def now():
        return sys.get_asyncgen_hooks(), sys.get_coroutine_origin_tracking_depth()

    before, n = now(), 0
    while True:
        n += 1
        loop = make_loop()
        loop.set_debug(debug)
        loop.call_soon(loop.stop)
        point = AtOpcode(n)
        try:
            with point:
                loop.run_forever()
        except KeyboardInterrupt:
            pass
        assert now() == before, n
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.run_until_complete(asyncio.sleep(0))
        assert now() == before, n
        loop.close()
        assert signal.set_wakeup_fd(-1) == -1, n
        if point.left > 0:
            break
    assert n > 50


@pytest.mark.parametrize("kind", support.KINDS)
def test_socket_object_at_each_opcode(run, kind, no_gc):
    """The descriptor is closed by its owner alone."""
    async def main():
        n = 0
        while True:
            n += 1
            point = AtOpcode(n)
            one, two = await support.pair(kind)
            try:
                with point:
                    two.transport.get_extra_info("socket")
            except KeyboardInterrupt:
                pass
            two.transport.write(b"fine")
            await one.got(b"fine")
            assert two.transport.get_extra_info("socket").fileno() > 0
            await support.close(one, two)
            if point.left > 0:
                break
    run(main())


def test_ctrl_c_at_many_points(script):
    """A second process interrupts a busy loop, hundreds of times.

    TCP, TLS, UDP, timers, threads and subprocesses are all at work; after
    each interrupt the loop runs on.  An interrupt may end a task, or a
    connection: then there are new ones.
    """
    out = script("""
        import logging
        import _thread
        import random
        import ssl
        import trustme
        count = int(sys.argv[1])
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
        sys.unraisablehook = threading.excepthook = lambda info: None
        authority = trustme.CA()
        server_ssl = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(server_ssl)
        client_ssl = ssl.create_default_context()
        authority.configure_trust(client_ssl)
        new_loop().close()
        loop = new_loop()
        loop.set_exception_handler(lambda l, c: None)
        done = dict.fromkeys(["tcp", "tls", "udp", "timer", "thread", "child"],
                             0)
        wrong = []

        async def echo(reader, writer):
            try:
                while data := await reader.read(1000):
                    writer.write(data)
                    await writer.drain()
            finally:
                writer.close()

        async def stream(name, ports):
            options = {} if name == "tcp" else {
                "ssl": client_ssl, "server_hostname": "localhost"}
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", ports[name], **options)
            try:
                for i in range(50):
                    data = b"%d " % i * 50
                    writer.write(data)
                    got = await reader.readexactly(len(data))
                    if got != data:
                        wrong.append((name, data, got))
                    done[name] += 1
                    await asyncio.sleep(0)
            finally:
                writer.close()

        class Datagrams(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport
                if transport.get_extra_info("peername"):
                    transport.sendto(b"0")

            def datagram_received(self, data, addr):
                peer = self.transport.get_extra_info("peername")
                self.transport.sendto(data, None if peer else addr)
                done["udp"] += 1

        async def datagrams(name, ports):
            transport, _ = await loop.create_datagram_endpoint(
                Datagrams, remote_addr=("127.0.0.1", ports["udp"]))
            try:
                await asyncio.sleep(0.01)
            finally:
                transport.abort()

        async def threads(name, ports):
            # No executor: an interrupt can leave its semaphore locked.
            future = loop.create_future()

            def work():
                loop.call_soon_threadsafe(
                    lambda: future.done() or future.set_result(None))

            _thread.start_new_thread(work, ())
            await future
            done[name] += 1

        async def children(name, ports):
            child = await asyncio.create_subprocess_exec(
                "/bin/echo", "fine", stdout=-1, start_new_session=True)
            out, _ = await child.communicate()
            # Nothing, or no reader: connection_made() was interrupted.
            if out not in (b"fine\\n", b"", None):
                wrong.append((name, out))
            done[name] += 1

        kinds = {"tcp": stream, "tls": stream, "udp": datagrams,
                 "thread": threads, "child": children}
        tasks = {}

        def tick(ports):
            # The heart of it: what has ended, well or not, begins again.
            done["timer"] += 1
            for name, kind in kinds.items():
                if name not in tasks or tasks[name].done():
                    tasks[name] = loop.create_task(kind(name, ports))

        async def serve():
            plain = await asyncio.start_server(echo, "127.0.0.1", 0)
            secure = await asyncio.start_server(echo, "127.0.0.1", 0,
                                                ssl=server_ssl)
            datagram, _ = await loop.create_datagram_endpoint(
                Datagrams, local_addr=("127.0.0.1", 0))
            return (plain, secure, datagram), {
                "tcp": plain.sockets[0].getsockname()[1],
                "tls": secure.sockets[0].getsockname()[1],
                "udp": datagram.get_extra_info("sockname")[1]}

        servers, ports = loop.run_until_complete(serve())
        armed, interrupts = False, 0

        def interrupt(signum, frame):
            "As Python's own, but only while the loop runs, and once."
            global armed, interrupts
            if armed:
                armed = False
                interrupts += 1
                raise KeyboardInterrupt

        signal.signal(signal.SIGINT, interrupt)
        parent, pid = os.getpid(), os.fork()
        if not pid:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            rng = random.Random(int(sys.argv[2]))
            while os.getppid() == parent:
                time.sleep(rng.random() ** 2 * 0.006)
                os.kill(parent, signal.SIGINT)
            os._exit(0)
        timers = []
        while interrupts < count:
            timers += [
                loop.call_later(0.0002 * i, tick, ports) for i in range(10)]
            timers.append(loop.call_later(0.002, loop.stop))
            try:
                armed = True
                loop.run_forever()
                armed = False
            except KeyboardInterrupt:
                pass
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert asyncio._get_running_loop() is None
        print("wrong", wrong)
        for timer in timers:
            timer.cancel()

        async def after():
            "Everything works, and ends."
            for name, kind in kinds.items():
                before = done[name]
                await asyncio.wait_for(kind(name, ports), 20)
                assert done[name] > before, name
            servers[0].close(), servers[1].close(), servers[2].abort()
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            if rest:
                await asyncio.wait(rest, timeout=5)

        loop.run_until_complete(after())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        print("idle", [name for name in done if not done[name]])
        sys.stdout.flush()
        os._exit(0)
    """, timeout=60, args=(os.environ.get("TIDEWIRE_TEST_INTERRUPTS", "300"),
                           os.environ.get("TIDEWIRE_TEST_SEED", "1")))
    assert out == ["wrong []", "idle []"]


class Interrupting(socket.socket):
    """A socket whose fileno() is interrupted once."""

    armed = False

    def fileno(self):
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt
        return super().fileno()


@pytest.mark.tidewire   # asyncio does not ask for the number again
def test_interrupt_in_fileno_while_an_operation_waits(loop):
    left, right = socket.socketpair()
    sock = Interrupting(fileno=left.detach())
    sock.setblocking(False)

    async def main():
        loop.call_soon(arm)
        await loop.sock_recv(sock, 10)

    def arm():
        sock.armed = True
        right.send(b"x")

    with sock, right:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(main())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))


@pytest.mark.tidewire   # asyncio looks at futures of its own
def test_interrupt_in_done_while_an_operation_waits(loop_factory):
    """The future is the program's; what its done() raises leaves the loop."""
    class Interrupted(asyncio.Future):
        armed = False

        def done(self):
            if self.armed:
                self.armed = False
                raise KeyboardInterrupt
            return super().done()

    with contextlib.closing(loop_factory()) as plain:
        kind = type(plain)

    class Own(kind):
        def create_future(self):
            self.made = Interrupted(loop=self)
            return self.made

    loop = Own()
    left, right = socket.socketpair()
    left.setblocking(False)

    async def main():
        waiting = asyncio.ensure_future(loop.sock_recv(left, 10))
        await asyncio.sleep(0)
        loop.made.armed = True
        right.send(b"x")
        await waiting

    with left, right, contextlib.closing(loop):
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(main())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no __buffer__()")
def test_interrupt_in_buffer_of_an_operation(loop):
    """recv_into() makes a TypeError of it; it does not vanish."""
    class Buffer:
        def __init__(self):
            self.bytes, self.asked = bytearray(10), 0

        def __buffer__(self, flags):
            self.asked += 1
            if self.asked == 1:
                raise KeyboardInterrupt
            return memoryview(self.bytes)

    left, right = socket.socketpair()
    left.setblocking(False)
    right.send(b"x")
    with left, right:
        with pytest.raises(TypeError):
            loop.run_until_complete(loop.sock_recv_into(left, Buffer()))


@pytest.mark.tidewire
def test_interrupt_in_fileno_of_a_transports_socket(loop):
    """add_reader() asks whether a transport's descriptor is still its own."""
    left, right = socket.socketpair()
    sock = Interrupting(fileno=left.detach())
    sock.setblocking(False)
    number = sock.fileno()

    async def main():
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
        sock.armed = True
        try:
            loop.add_reader(number, int)
        finally:
            transport.abort()
        await asyncio.sleep(0.01)

    with right, pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(main())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0.01))
    sock.close()
