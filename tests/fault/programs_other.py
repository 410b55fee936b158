"""The other programs: datagrams, pipes, children, sock_*(), signals, threads, names, forks."""
import asyncio
import contextlib
import os
import signal
import socket
import tempfile
import threading
import time
import tty

from fault.programs import address_of, program
from fault.protocols import DATA, Broken, Client, Corrupt, Datagrams, Echo, Sink, abort_all, ended


async def datagram_round(server, client, address, n=40):
    """Every datagram comes back, or an error was reported for it; in order, none twice."""
    sent = []
    for i in range(n):
        data = b"%d:" % i + b"x" * (i % 3 * 400)
        sent.append(data)
        client.transport.sendto(data, address)
        if i % 10 == 9:
            await asyncio.sleep(0)
    deadline = asyncio.get_running_loop().time() + 0.3
    while (len(client.got) + len(client.errors) + len(server.errors) < n
           and asyncio.get_running_loop().time() < deadline and not client.lost.done()
           and not server.lost.done()):
        client.news.clear()
        server.news.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(client.news.wait(), 0.05)
    at = -1
    for data in client.got:
        if data not in sent:
            raise Corrupt("a datagram that nobody sent")
        i = sent.index(data)
        if i <= at:
            raise Corrupt(f"datagram {i} behind {at}")
        at = i
    missing = n - len(client.got)
    if missing:
        errors = client.errors + server.errors
        lost = [f.result() for f in (client.lost, server.lost) if f.done()]
        if errors or any(lost):
            raise (errors + [e for e in lost if e])[0]
        raise ConnectionError("lost silently")


@program
async def udp(ctx):
    loop = asyncio.get_running_loop()
    made = []
    try:
        server, sp = await loop.create_datagram_endpoint(
            lambda: Datagrams(True), local_addr=("127.0.0.1", 0))
        made.append(server)
        address = server.get_extra_info("sockname")
        for where, to in (({"remote_addr": address}, None),
                          ({"local_addr": ("127.0.0.1", 0)}, address)):
            client, cp = await loop.create_datagram_endpoint(lambda: Datagrams(False), **where)
            made.append(client)
            await datagram_round(sp, cp, to)
    finally:
        for t in made:
            t.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@program
async def unix_dgram(ctx):
    loop = asyncio.get_running_loop()
    made = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            server, sp = await loop.create_datagram_endpoint(
                lambda: Datagrams(True), local_addr=folder + "/a", family=socket.AF_UNIX)
            made.append(server)
            client, cp = await loop.create_datagram_endpoint(
                lambda: Datagrams(False), local_addr=folder + "/b", remote_addr=folder + "/a",
                family=socket.AF_UNIX)
            made.append(client)
            await datagram_round(sp, cp, None, 8)
        finally:
            for t in made:
                t.close()
            await asyncio.sleep(0)
            await asyncio.sleep(0)


@program
async def pipes(ctx):
    loop = asyncio.get_running_loop()
    r, w = os.pipe()
    source, sink = open(r, "rb", 0), open(w, "wb", 0)
    rt = wt = None
    try:
        rt, rp = await loop.connect_read_pipe(lambda: Sink("read"), source)
        wt, wp = await loop.connect_write_pipe(lambda: Sink("write"), sink)
        wt.write(DATA[:50])
        await asyncio.sleep(0)
        wt.write(DATA[50:60])
        wt.write(DATA[60:])
        wt.write(DATA)
        wt.close()
        await wp.lost
        await rp.lost
        if not (DATA * 2).startswith(bytes(rp.got)):
            raise Corrupt("pipe")
        if len(rp.got) != len(DATA) * 2:
            raise rp.exc or wp.exc or ConnectionError("pipe ended early")
    finally:
        for t in rt, wt:
            if t is not None and not t.is_closing():
                t.abort() if hasattr(t, "abort") else t.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        source.close()
        sink.close()


@program
async def subprocess(ctx):
    process = await asyncio.create_subprocess_exec("/bin/cat", stdin=-1, stdout=-1, stderr=-1)
    try:
        out, err = await process.communicate(DATA[:70000])
        if not DATA.startswith(out):
            raise Corrupt("subprocess")
        if len(out) != 70000 or err or process.returncode != 0:
            raise ConnectionError(f"{len(out)} bytes, return code {process.returncode}")
        other = await asyncio.create_subprocess_exec("/bin/sleep", "100")
        other.kill()
        if await other.wait() not in (-9, 255):
            raise Broken(f"killed, and the return code is {other.returncode}")
        if other.returncode == 255:
            raise ConnectionError("return code 255")
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        process._transport.close()


async def sock_pair(stack):
    """A connection that sock_accept() and sock_connect() made."""
    loop = asyncio.get_running_loop()
    listener = stack.enter_context(socket.socket())
    client = stack.enter_context(socket.socket())
    listener.setblocking(False)
    client.setblocking(False)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    accepting = loop.create_task(loop.sock_accept(listener))
    stack.callback(accepting.cancel)
    await asyncio.sleep(0)
    await loop.sock_connect(client, listener.getsockname())
    server, _ = await asyncio.wait_for(accepting, 1)
    return client, stack.enter_context(server)


async def sock_stream(stack, client, server):
    loop = asyncio.get_running_loop()
    waiting = loop.create_task(loop.sock_recv(server, 100))
    stack.callback(waiting.cancel)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await loop.sock_sendall(client, b"hello")
    if not b"hello".startswith(await asyncio.wait_for(waiting, 1)):
        raise Corrupt("sock_recv")
    if waiting.result() != b"hello":
        raise ConnectionError("a part of it")
    sending = loop.create_task(loop.sock_sendall(client, DATA * 10))
    stack.callback(sending.cancel)
    got, buffer = bytearray(), bytearray(7000)
    while len(got) < len(DATA) * 10:
        if len(got) % 2:
            n = await asyncio.wait_for(loop.sock_recv_into(server, buffer), 1)
            piece = buffer[:n]
        else:
            piece = await asyncio.wait_for(loop.sock_recv(server, 6001), 1)
        if not piece:
            raise ConnectionError("end")
        got += piece
        if sending.done():
            sending.result()
    await sending
    if got != DATA * 10:
        raise Corrupt("sock_sendall")


@program
async def sock_ops(ctx):
    with contextlib.ExitStack() as stack:
        await sock_stream(stack, *await sock_pair(stack))


@program
async def sock_dgrams(ctx):
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        a = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        b = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        for sock in a, b:
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
        buffer = bytearray(100)
        for receive in (loop.sock_recvfrom(a, 100), loop.sock_recvfrom_into(a, buffer)):
            receiving = loop.create_task(receive)
            stack.callback(receiving.cancel)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if await loop.sock_sendto(b, b"x" * 10, a.getsockname()) != 10:
                raise Broken("sock_sendto")
            got, address = await asyncio.wait_for(receiving, 1)
            if (buffer[:got] if isinstance(got, int) else got) != b"x" * 10:
                raise Corrupt("sock_recvfrom")
            if address != b.getsockname():
                raise Corrupt("sock_recvfrom: the address")


@program
async def signals(ctx):
    loop = asyncio.get_running_loop()
    for _ in range(3):
        done = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, lambda: done.done() or done.set_result(1))
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.wait_for(done, 1)
        loop.remove_signal_handler(signal.SIGUSR1)


@program
async def threadsafe(ctx):
    loop = asyncio.get_running_loop()
    got, done = [], loop.create_future()

    def work():
        for i in range(50):
            loop.call_soon_threadsafe(got.append, i)
            if i % 10 == 0:
                time.sleep(0.0005)
        loop.call_soon_threadsafe(lambda: done.done() or done.set_result(None))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    await asyncio.wait_for(done, 1)
    thread.join()
    if got != list(range(50)):
        raise Corrupt("call_soon_threadsafe")
    if await asyncio.wait_for(loop.run_in_executor(None, len, DATA), 1) != len(DATA):
        raise Corrupt("run_in_executor")


@program
async def names(ctx):
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(loop.getaddrinfo("localhost", 80 + i, type=socket.SOCK_STREAM))
             for i in range(5)]
    tasks.append(loop.create_task(loop.getnameinfo(("127.0.0.1", 80))))
    done, pending = await asyncio.wait(tasks, timeout=1)
    for t in pending:
        t.cancel()
    if pending:
        raise Broken("a lookup that never ends")
    for t in done:
        t.result()


@program
async def watching(ctx):
    """add_reader() and add_writer() on a pair, again and again."""
    loop = asyncio.get_running_loop()
    a, b = socket.socketpair()
    with a, b:
        a.setblocking(False)
        b.setblocking(False)
        for i in range(5):
            done, wrote = loop.create_future(), loop.create_future()

            def readable():
                with contextlib.suppress(BlockingIOError, InterruptedError):
                    done.done() or done.set_result(b.recv(100))
            loop.add_reader(b, readable)
            loop.add_writer(b, lambda: wrote.done() or wrote.set_result(1))
            try:
                a.send(b"%d" % i)
                if await asyncio.wait_for(done, 1) != b"%d" % i:
                    raise Corrupt("reader")
                await asyncio.wait_for(wrote, 1)
            finally:
                loop.remove_reader(b)
                loop.remove_writer(b)


def child_with_a_loop(new_loop):
    """Fork; the child makes a loop and runs it.  Exit status 3: the system refused."""
    pid = os.fork()
    if pid:
        return pid
    code = 9
    try:
        asyncio._set_running_loop(None)
        own = new_loop()
        own.run_until_complete(asyncio.sleep(0))
        own.close()
        code = 0
    except OSError:
        code = 3
    finally:
        os._exit(code)


async def status_of(pid):
    for _ in range(200):
        got, status = os.waitpid(pid, os.WNOHANG)
        if got:
            return status
        await asyncio.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise Broken("the child hangs")


@program
async def forking(ctx):
    """A child is forked from a coroutine while a connection is busy, and has a loop of its own."""
    loop = asyncio.get_running_loop()
    client = Client(DATA[:2000])
    served = []

    def made():
        served.append(Echo("server"))
        return served[-1]

    server = await loop.create_server(made, "127.0.0.1", 0)
    try:
        await loop.create_connection(lambda: client, *address_of(server))
        status = await status_of(child_with_a_loop(ctx.new_loop))
        if status not in (0, 3 << 8):
            raise Broken(f"the child ended with {status}")
        await client.lost
        if bytes(client.got) != DATA[:2000]:
            raise client.exc or ConnectionError("early")
    finally:
        server.close()
        abort_all(served + [client])
        await ended(*served, client)


@program
async def making(ctx):
    """The judge makes the loop itself under the fault, runs it once, and closes it."""


@program
async def timers(ctx):
    loop = asyncio.get_running_loop()
    order = []
    for i in (3, 1, 2):
        loop.call_later(i * 0.002, order.append, i)
    await asyncio.wait_for(asyncio.sleep(0.01), 1)
    if order != [1, 2, 3]:
        raise Corrupt("timers")


def run_or_raise(loop, reported):
    """On any loop, a task without the memory for its next step never ends; the reason is reported."""
    try:
        loop.run_until_complete(asyncio.sleep(0))
    except RuntimeError:
        if not reported:
            raise
        raise reported[0]["exception"] from None


@program
async def lifecycle(ctx):
    """Other loops are made, run and closed in a thread of their own."""
    result = []

    def work():
        for _ in range(3):
            own = ctx.new_loop()
            reported = []
            own.set_exception_handler(lambda loop, context: (reported.append(context), loop.stop()))
            try:
                run_or_raise(own, reported)
                own.call_soon(int)
                own.call_later(10, int)
            finally:
                own.close()

    def body():
        try:
            work()
            result.append(None)
        except BaseException as exc:
            result.append(exc)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0.001)
    if result[0] is not None:
        raise result[0]


async def ghost(loop, a, b):
    watched = os.dup(a.fileno())
    keeper = -1
    try:
        loop.add_reader(watched, int)
        await asyncio.sleep(0.001)
        keeper = os.dup(watched)
    finally:
        os.close(watched)
        loop.remove_reader(watched)
    try:
        b.send(b"x")
        await asyncio.sleep(0.002)
        if await asyncio.wait_for(loop.sock_recv(a, 10), 1) != b"x":
            raise Corrupt("sock_recv")
        done = loop.create_future()
        loop.call_soon_threadsafe(done.set_result, 1)
        await asyncio.wait_for(done, 1)
    finally:
        os.close(keeper)


@program
async def ghosts(ctx):
    """Descriptors are closed while a duplicate keeps their file, and its watch, alive."""
    for _ in range(3):
        a, b = socket.socketpair()
        with a, b:
            a.setblocking(False)
            b.setblocking(False)
            await ghost(asyncio.get_running_loop(), a, b)


def read_or_raise(fd, *protocols):
    """What came, or why nothing came."""
    try:
        return os.read(fd, 100)
    except BlockingIOError:
        errors = [p.exc for p in protocols if p.exc is not None]
        raise (errors or [ConnectionError("not written")])[0] from None


@program
async def terminal(ctx):
    """One terminal is read and written: the second transport watches a duplicate."""
    loop = asyncio.get_running_loop()
    master, slave = os.openpty()
    files = [open(slave, "r+b", 0, closefd=False) for _ in range(2)]
    reading = writing = None
    try:
        tty.setraw(slave)
        reading, rp = await loop.connect_read_pipe(lambda: Sink("read"), files[0])
        writing, wp = await loop.connect_write_pipe(lambda: Sink("write"), files[1])
        os.set_blocking(master, False)
        writing.write(b"to the master")
        os.write(master, b"to the slave")
        for _ in range(50):
            await asyncio.sleep(0.002)
            if bytes(rp.got) == b"to the slave":
                break
        else:
            raise rp.exc or wp.exc or ConnectionError("not read")
        if read_or_raise(master, wp) != b"to the master":
            raise Corrupt("terminal")
        reading.close()
        await rp.lost
        writing.write(b"still there")
        await asyncio.sleep(0.002)
        read_or_raise(master, wp)
    finally:
        try:
            for transport in reading, writing:
                if transport is not None:
                    transport.close()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        finally:        # a loop that cannot wait cancels this task
            os.close(slave)
            os.close(master)
