"""Real peers: openssl s_client and s_server, curl, nginx; Python's blocking ssl sockets."""
import asyncio
import contextlib
import os
import shutil
import socket
import sys

import pytest
import support
import tlskit
from support import Recorder

V12, V13 = tlskit.VERSIONS
FLAGS = {V12: "-tls1_2", V13: "-tls1_3"}


def needs(name):
    # tools/setup.sh unpacks nginx into the environment.
    path = shutil.which(name) or shutil.which(
        name, path=f"/usr/sbin:/usr/local/sbin:{sys.prefix}/peers/usr/sbin")
    return path or pytest.skip(f"no {name} here")


@pytest.fixture
def files(tmp_path):
    """Paths of a CA, a server's chain and key, a client's chain and key."""
    tlskit.authority().cert_pem.write_to_path(tmp_path / "ca.pem")
    tlskit.certificate().private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    client = tlskit.authority().issue_cert("client@example.org")
    client.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    return tmp_path


@contextlib.asynccontextmanager
async def child(*command, **kwargs):
    kwargs = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE,
              "stderr": asyncio.subprocess.DEVNULL,
              "env": {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}, **kwargs}
    process = await asyncio.create_subprocess_exec(*map(str, command), **kwargs)
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.communicate()


async def serve(context, factory):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(factory, "127.0.0.1", 0, ssl=context)
    return server, server.sockets[0].getsockname()[1]


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


async def connect(port, context, factory=Recorder, tries=100):
    """A connection to a server that is just starting."""
    loop = asyncio.get_running_loop()
    for _ in range(tries):
        try:
            return await loop.create_connection(
                factory, "127.0.0.1", port, ssl=context, server_hostname=tlskit.NAME)
        except ConnectionRefusedError:
            await asyncio.sleep(0.05)
    raise AssertionError("the server does not start")


class Upper(Recorder):
    def data_received(self, data):
        super().data_received(data)
        self.transport.write(data.upper())


# -- openssl ----------------------------------------------------------------

@pytest.mark.parametrize("version", tlskit.VERSIONS, ids=lambda v: v.name)
@pytest.mark.parametrize("client_cert", [False, True], ids=["", "client certificate"])
def test_openssl_s_client(run, files, version, client_cert):
    openssl = needs("openssl")

    async def main():
        made = []

        def factory():
            made.append(Upper())
            return made[-1]

        context = tlskit.server_context(version, client_ca=client_cert)
        context.set_alpn_protocols(["echo"])
        server, port = await serve(context, factory)
        command = [openssl, "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost",
                   "-CAfile", files / "ca.pem", "-verify_return_error", "-quiet", FLAGS[version],
                   "-alpn", "echo"]
        if client_cert:
            command += ["-cert", files / "client.pem", "-key", files / "client.pem"]
        async with child(*command) as process:
            for i in range(3):
                process.stdin.write(b"line %d\n" % i)
                assert await process.stdout.readline() == b"LINE %d\n" % i
            big = b"x" * 99999 + b"\n"
            process.stdin.write(big)
            assert await process.stdout.readexactly(len(big)) == big.upper()
            (protocol,) = made
            obj = protocol.transport.get_extra_info("ssl_object")
            assert obj.selected_alpn_protocol() == "echo"
            if client_cert:
                assert protocol.transport.get_extra_info("peercert")
            protocol.transport.close()
            assert await process.stdout.read() == b""
        await protocol.saw("lost")
        server.close()
        await server.wait_closed()
    run(main())


def test_renegotiation(run, files):
    """TLS 1.2: s_client's R, with data on both sides of it."""
    openssl = needs("openssl")

    async def main():
        made = []
        context = tlskit.server_context(V12)
        context.options |= 1 << 8       # SSL_OP_ALLOW_CLIENT_RENEGOTIATION of OpenSSL 3
        server, port = await serve(context, lambda: made.append(Upper()) or made[-1])
        async with child(openssl, "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2",
                         "-CAfile", files / "ca.pem") as process:
            process.stdin.write(b"before\n")
            await read_until(process, b"BEFORE\n")
            process.stdin.write(b"R\n")
            await support.io_turns(20)
            process.stdin.write(b"after\n")
            await read_until(process, b"AFTER\n")
            made[0].transport.abort()
        await made[0].saw("lost")
        server.close()
        await server.wait_closed()
    run(main())


async def read_until(process, wanted):
    seen = b""
    while wanted not in seen:
        data = await process.stdout.read(65536)
        assert data, f"{wanted} never came: {seen[-200:]!r}"
        seen += data


def test_key_update(run, files):
    """TLS 1.3: s_client's k and K (and ask for ours)."""
    openssl = needs("openssl")

    async def main():
        made = []
        server, port = await serve(tlskit.server_context(V13),
                                   lambda: made.append(Upper()) or made[-1])
        async with child(openssl, "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_3",
                         "-CAfile", files / "ca.pem") as process:
            for i, letter in enumerate((b"k", b"K", b"k", b"K")):
                process.stdin.write(b"before %d\n" % i)
                await read_until(process, b"BEFORE %d\n" % i)
                process.stdin.write(letter + b"\n")
                await support.io_turns(10)
                process.stdin.write(b"after %d\n" % i)
                await read_until(process, b"AFTER %d\n" % i)
            made[0].transport.abort()
        await made[0].saw("lost")
        server.close()
        await server.wait_closed()
    run(main())


@pytest.mark.parametrize("version", tlskit.VERSIONS, ids=lambda v: v.name)
def test_openssl_s_server(run, files, version):
    openssl = needs("openssl")

    async def main():
        port = free_port()
        async with child(openssl, "s_server", "-accept", f"127.0.0.1:{port}", "-quiet", "-rev",
                         FLAGS[version], "-cert", files / "server.pem",
                         "-key", files / "server.pem", "-CAfile", files / "ca.pem",
                         "-Verify", "1"):
            _, one = await connect(port, tlskit.client_context(version, cert=True))
            for i in range(3):
                one.transport.write(b"abc%d\n" % i)
                await one.until(lambda i=i: one.data.endswith(b"%dcba\n" % i))
            one.transport.close()
            await one.saw("lost")
    run(main())


@pytest.mark.parametrize("version", tlskit.VERSIONS, ids=lambda v: v.name)
def test_the_server_is_killed(run, files, version):
    openssl = needs("openssl")

    async def main():
        port = free_port()
        async with child(openssl, "s_server", "-accept", f"127.0.0.1:{port}", "-quiet",
                         FLAGS[version], "-cert", files / "server.pem",
                         "-key", files / "server.pem") as process:
            _, one = await connect(port, tlskit.client_context(version))
            process.kill()
            await one.saw("lost")
    run(main())


# -- HTTP -------------------------------------------------------------------

def test_curl(run, files):
    curl = needs("curl")
    body = bytes(range(256)) * 1000

    class Http(Recorder):
        def data_received(self, data):
            super().data_received(data)
            if b"\r\n\r\n" in self.data:
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
                self.transport.write(body)

    async def main():
        made = []
        server, port = await serve(tlskit.server_context(), lambda: made.append(Http()) or made[-1])
        async with child(curl, "-sS", "--cacert", files / "ca.pem", "--http1.1",
                         f"https://localhost:{port}/", "--resolve",
                         f"localhost:{port}:127.0.0.1", "--noproxy", "*") as process:
            out, _ = await process.communicate()
        assert support.same(out, body)
        await made[0].saw("lost")
        assert made[0].lost is None
        server.close()
        await server.wait_closed()
    run(main())


def test_nginx(run, files):
    nginx = needs("nginx")
    body = bytes(range(256)) * 4000
    (files / "body").write_bytes(body)
    port = free_port()
    (files / "nginx.conf").write_text(f"""
        daemon off; master_process off; pid {files}/pid; error_log stderr;
        worker_processes 1; events {{ worker_connections 64; }}
        http {{
            access_log off;
            client_body_temp_path {files}/t1; proxy_temp_path {files}/t2;
            fastcgi_temp_path {files}/t3; uwsgi_temp_path {files}/t4; scgi_temp_path {files}/t5;
            server {{
                listen 127.0.0.1:{port} ssl;
                ssl_certificate {files}/server.pem; ssl_certificate_key {files}/server.pem;
                root {files};
            }}
        }}""")

    async def main():
        async with child(nginx, "-c", files / "nginx.conf", "-p", files):
            await connect_and_get(port, body)
    run(main(), timeout=20)


async def connect_and_get(port, body):
    _, one = await connect(port, tlskit.client_context())
    for _ in range(3):
        one.events.clear()
        one.transport.write(b"GET /body HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await one.until(lambda: b"\r\n\r\n" in one.data)
        head, _, rest = one.data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        await one.got(len(head) + 4 + len(body))
        assert support.same(one.data[len(head) + 4:], body)
    one.transport.close()
    await one.saw("lost")
    assert one.lost is None


# -- Python's own blocking sockets ------------------------------------------

@pytest.mark.parametrize("version", tlskit.VERSIONS, ids=lambda v: v.name)
def test_blocking_client(run, version):
    def talk(port):
        with socket.create_connection(("127.0.0.1", port)) as raw, tlskit.client_context(
                version).wrap_socket(raw, server_hostname="localhost") as sock:
            for size in (1, 100, 20000, 500000):
                sock.sendall(b"a" * size)
                got = b""
                while len(got) < size:
                    got += sock.recv(65536)
                assert got == b"A" * size
            sock.unwrap()

    async def main():
        made = []
        server, port = await serve(tlskit.server_context(version),
                                   lambda: made.append(Upper()) or made[-1])
        await asyncio.to_thread(talk, port)
        await made[0].saw("lost")
        assert made[0].names[-2:] == ["eof", "lost"] and made[0].lost is None
        server.close()
        await server.wait_closed()
    run(main())
