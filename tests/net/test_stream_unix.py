"""What is special about Unix sockets."""
import asyncio
import os
import pathlib
import socket
import stat
import sys

import pytest

import support
from support import Recorder


@pytest.fixture
def path(tmp_path_factory):
    import tempfile
    with tempfile.TemporaryDirectory(prefix="tw-") as folder:
        yield os.path.join(folder, "s")


async def end(server):
    server.close()
    await server.wait_closed()


def test_server_and_connection(loop, run, path):
    async def main():
        echo = {"data": lambda p, data: p.transport.write(data)}
        server = await loop.create_unix_server(lambda: Recorder(echo), path)
        assert stat.S_ISSOCK(os.stat(path).st_mode)
        transport, protocol = await loop.create_unix_connection(Recorder, path)
        transport.write(b"hello")
        await protocol.got(b"hello")
        assert transport.get_extra_info("peername") == path
        assert transport.get_extra_info("sockname") == ""
        await support.close(protocol)
        await end(server)
        await support.io_turns()

    run(main())


@pytest.mark.parametrize("make", [str, os.fsencode, pathlib.Path])
def test_kinds_of_paths(loop, run, path, make):
    async def main():
        server = await loop.create_unix_server(Recorder, make(path))
        if make is os.fsencode:
            target = path
        else:
            target = make(path)
        _, protocol = await loop.create_unix_connection(Recorder, target)
        await support.close(protocol)
        await end(server)
        await support.io_turns()

    run(main())


def test_abstract(loop, run):
    name = "\0tidewire-test-%d" % os.getpid()

    async def main():
        server = await loop.create_unix_server(Recorder, name)
        transport, protocol = await loop.create_unix_connection(Recorder, name)
        assert transport.get_extra_info("peername") in (name,
                                                        name.encode())
        await support.close(protocol)
        await end(server)
        await support.io_turns()

    run(main())


def test_stale_socket_is_replaced(loop, run, path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)

    async def main():
        server = await loop.create_unix_server(Recorder, path)
        await end(server)

    run(main())


def test_other_file_is_not_replaced(loop, run, path):
    pathlib.Path(path).write_text("precious")

    async def main():
        with pytest.raises(OSError):
            await loop.create_unix_server(Recorder, path)

    run(main())
    assert pathlib.Path(path).read_text() == "precious"


def test_missing_socket(loop, run, path):
    async def main():
        with pytest.raises(FileNotFoundError):
            await loop.create_unix_connection(Recorder, path)
        pathlib.Path(path).write_text("")
        with pytest.raises(ConnectionRefusedError):
            await loop.create_unix_connection(Recorder, path)

    run(main())


def test_missing_folder(loop, run, path):
    async def main():
        with pytest.raises(FileNotFoundError):
            await loop.create_unix_server(Recorder, path + "/x/y")

    run(main())


def test_too_long(loop, run, path):
    async def main():
        with pytest.raises(OSError, match="path too long"):
            await loop.create_unix_server(Recorder, "/tmp/" + "x" * 200)
        with pytest.raises(OSError, match="path too long"):
            await loop.create_unix_connection(Recorder, "/tmp/" + "x" * 200)

    run(main())


@pytest.mark.parametrize("method", ["create_unix_connection",
                                    "create_unix_server"])
@pytest.mark.parametrize("arguments", [
    dict(), dict(path="/x", sock=True), dict(sock="tcp"), dict(sock="udp"),
    dict(path="/x", server_hostname="x"), dict(path="/x", nonsense=1),
    dict(path="/x", ssl_handshake_timeout=1),
    dict(path="/x", ssl_shutdown_timeout=1),
    dict(path="/x", ssl=True),
], ids=str)
def test_wrong_arguments(loop, method, arguments):
    def attempt(loop):
        kwargs = dict(arguments)
        socks = {True: lambda: socket.socket(socket.AF_UNIX),
                 "tcp": socket.socket,
                 "udp": lambda: socket.socket(socket.AF_UNIX,
                                              socket.SOCK_DGRAM)}
        if "sock" in kwargs:
            kwargs["sock"] = socks[kwargs["sock"]]()
        try:
            loop.run_until_complete(asyncio.wait_for(
                getattr(loop, method)(Recorder, **kwargs), 5))
        except Exception as exc:
            text = str(exc)
            return type(exc), text.split("fd=")[0]
        finally:
            if "sock" in kwargs:
                kwargs["sock"].close()

    reference = asyncio.SelectorEventLoop()
    try:
        expected = attempt(reference)
    finally:
        reference.close()
    ours = attempt(loop)
    assert ours is not None and ours[0] is expected[0]
    if "nonsense" not in arguments:
        assert ours[1] == expected[1]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="new in 3.13")
@pytest.mark.parametrize("cleanup", [True, False])
def test_cleanup_socket(loop, run, path, cleanup):
    async def main():
        server = await loop.create_unix_server(Recorder, path,
                                               cleanup_socket=cleanup)
        await end(server)

    run(main())
    assert os.path.exists(path) is not cleanup


@pytest.mark.skipif(sys.version_info < (3, 13), reason="new in 3.13")
def test_cleanup_is_known_to_block(loop, run, path, monkeypatch):
    # blockbuster lets asyncio's function block the loop, and knows it like this.
    seen = []

    def known(function):
        def note(*args, **kwargs):
            code = sys._getframe(1).f_code
            seen.append((os.path.basename(code.co_filename), code.co_name))
            return function(*args, **kwargs)
        return note

    async def main():
        server = await loop.create_unix_server(Recorder, path)
        monkeypatch.setattr(os, "stat", known(os.stat))
        monkeypatch.setattr(os, "unlink", known(os.unlink))
        server.close()
        monkeypatch.undo()
        await end(server)

    run(main())
    assert not os.path.exists(path)
    assert seen == [("unix_events.py", "_stop_serving")] * 2


def test_server_on_an_existing_socket(loop, run, path):
    async def main():
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        server = await loop.create_unix_server(Recorder, sock=sock)
        _, protocol = await loop.create_unix_connection(Recorder, path)
        await support.close(protocol)
        await end(server)
        await support.io_turns()
        assert sock.fileno() == -1

    run(main())


def test_connection_on_an_existing_socket(loop, run):
    async def main():
        a, b = support.socketpair("unix")
        transport, protocol = await loop.create_unix_connection(
            Recorder, sock=a)
        b.send(b"x")
        await protocol.got(b"x")
        await support.close(protocol)
        b.close()

    run(main())


def test_streams(loop, run, path):
    async def main():
        async def handle(reader, writer):
            writer.write((await reader.readline()).upper())
            writer.close()

        server = await asyncio.start_unix_server(handle, path)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"hello\n")
        assert await reader.read() == b"HELLO\n"
        writer.close()
        await writer.wait_closed()
        await end(server)
        await support.io_turns()

    run(main())
