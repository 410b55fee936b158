"""The output queue of streams and pipes: what is a message stays one, and what is written
beside a transport comes in its order.
"""
import asyncio
import os
import pty
import socket
import termios

import pytest

from net.pipekit import files, read_some, writer
from net.test_hold import callback
import support
from support import Recorder

MESSAGES = [b"READY=1", b"STATUS=up", b"x" * 500, b"MAINPID=7"]


def message_pipe(name):
    """A file object for the writing end, the reading one, and a function that reads a message."""
    if name == "packets":
        r, w = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)
        return (open(w, "wb", 0), os.fdopen(r, "rb", 0),
                lambda reader: os.read(reader.fileno(), 4096))
    kind = {"seqpacket": socket.SOCK_SEQPACKET, "dgram": socket.SOCK_DGRAM}[name]
    a, b = socket.socketpair(socket.AF_UNIX, kind)
    b.setblocking(False)
    return a, b, lambda reader: reader.recv(4096)


def read_all(read, reader):
    out = []
    while True:
        try:
            data = read(reader)
        except BlockingIOError:
            return out
        if not data:
            return out
        out.append(data)


names = pytest.mark.parametrize("name", ["seqpacket", "dgram", "packets"])


@names
def test_messages_of_one_callback(run, name):
    async def main():
        file, reader, read = message_pipe(name)
        two = await writer(file)

        def write():
            for data in MESSAGES:
                two.transport.write(data)

        for _ in range(20):     # also when it does so all the time
            await callback(write)
            assert read_all(read, reader) == MESSAGES
        two.transport.abort()
        await two.saw("lost")
        reader.close()

    run(main())


@pytest.mark.tidewire       # asyncio joins those that had to wait
@names
def test_messages_that_had_to_wait(run, name):
    async def main():
        file, reader, read = message_pipe(name)
        two = await writer(file)
        two.transport.set_write_buffer_limits(1 << 20)
        sent = [b"%d " % n * (n % 50 + 1) for n in range(2000)]

        def write():
            for data in sent:
                two.transport.write(data)

        await callback(write)
        assert two.transport.get_write_buffer_size() > 0
        got = []
        while len(got) < len(sent):
            got += read_all(read, reader)
            await support.io_turns(1)
        assert got == sent
        two.transport.close()
        await two.saw("lost")
        reader.close()

    run(main())


@pytest.mark.tidewire       # a hook of the loop's, called by hand
def test_stream_of_messages(run):
    """A socket that is no stream, under a stream transport."""
    async def main():
        loop = asyncio.get_running_loop()
        a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        a.setblocking(False)
        b.setblocking(False)
        waiter = loop.create_future()
        protocol = Recorder()
        transport = loop._make_socket_transport(a, protocol, waiter)
        del a
        await waiter

        def write():
            for data in MESSAGES:
                transport.write(data)
            transport.writelines(MESSAGES)

        for _ in range(20):
            await callback(write)
            assert read_all(lambda s: s.recv(4096), b) == [*MESSAGES, b"".join(MESSAGES)]
        await support.close(protocol)
        b.close()

    run(main())


def test_two_writers_of_one_pipe(run):
    """2>&1, and print() beside a transport."""
    async def main():
        r, w = files()
        one, two = await writer(w), await writer(os.fdopen(os.dup(w.fileno()), "wb", 0))

        def write():
            for _ in range(3):
                one.transport.write(b"1")
                two.transport.write(b"2")
                os.write(w.fileno(), b"3")

        for _ in range(20):
            await callback(write)
            assert await read_some(r.fileno(), 9) == b"123" * 3
        one.transport.close()
        two.transport.close()
        await one.saw("lost")
        await two.saw("lost")
        r.close()

    run(main())


def test_terminal_whose_settings_change(run):
    """What is written before a change is written with the settings before it."""
    async def main():
        master, slave = pty.openpty()
        os.set_blocking(master, False)
        two = await writer(os.fdopen(slave, "wb", 0))

        def write(post):
            settings = termios.tcgetattr(slave)
            settings[1] = settings[1] | termios.OPOST if post else settings[1] & ~termios.OPOST
            two.transport.write(b"a\n")
            two.transport.write(b"b\n")
            termios.tcsetattr(slave, termios.TCSANOW, settings)

        await callback(lambda: write(True))
        assert await read_some(master, 6) == b"a\r\nb\r\n"
        for post in [False, True] * 10:
            await callback(lambda post=post: write(post))
            want = b"a\nb\n" if post else b"a\r\nb\r\n"
            assert await read_some(master, len(want)) == want
        two.transport.close()
        await two.saw("lost")
        os.close(master)

    run(main())


def test_signal_behind_a_write(script):
    """The child looks at its stdin when the signal comes: the data is there."""
    assert script("""
    import asyncio, signal, sys
    CHILD = r'''
    import os, signal, time
    os.set_blocking(0, False)
    def on(*args):      # print() may be running: it cannot be called again within itself
        try:
            os.write(1, b"%r\\n" % os.read(0, 100))
        except BlockingIOError:
            os.write(1, b"nothing\\n")
    signal.signal(signal.SIGUSR1, on)
    os.write(1, b"ready\\n")
    while True:
        time.sleep(10)
    '''
    async def main():
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, stdin=-1, stdout=-1)
        await child.stdout.readline()
        seen = set()
        for n in range(20):
            child.stdin.write(b"new ")
            child.stdin.write(b"settings")
            child.send_signal(signal.SIGUSR1)
            seen.add(await child.stdout.readline())
        child.kill()
        await child.wait()
        print(seen)
    new_loop().run_until_complete(main())
    """) == [str({b"b'new settings'\n"})]


def test_header_and_then_a_child(run):
    """A child has the socket as its stdout (CGI), behind what was written."""
    async def main():
        async def serve(reader, writer):
            fd = writer.get_extra_info("socket").fileno()
            while await reader.readline():
                writer.write(b"head;")
                writer.write(b"er;")
                child = await asyncio.create_subprocess_exec("echo", "body", stdout=fd)
                await child.wait()
            writer.close()
            await writer.wait_closed()
            closed.set()

        closed = asyncio.Event()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for _ in range(12):
            writer.write(b"GET\n")
            assert await reader.readline() == b"head;er;body\n"
        writer.close()
        await writer.wait_closed()
        await closed.wait()
        server.close()

    run(main())


def test_header_and_then_sendfile_on_a_duplicate(run, tmp_path):
    body = os.urandom(5000)
    (tmp_path / "body").write_bytes(body)

    async def main():
        async def serve(reader, writer):
            copy = writer.get_extra_info("socket").dup()
            with open(tmp_path / "body", "rb") as file, copy:
                while await reader.readline():
                    writer.write(b"head")
                    writer.write(b"er")
                    os.sendfile(copy.fileno(), file.fileno(), 0, len(body))
            writer.close()
            await writer.wait_closed()
            closed.set()

        closed = asyncio.Event()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for _ in range(20):
            writer.write(b"GET\n")
            assert await reader.readexactly(5006) == b"header" + body
        writer.close()
        await writer.wait_closed()
        await closed.wait()
        server.close()

    run(main())
