"""One program for each feature of datagrams, pipes, subprocesses and TLS."""
import asyncio
import os
import subprocess
import tempfile

from parity.connecting import support_refused
from parity.registry import programs

# -- datagrams, pipes, subprocesses, TLS ------------------------------------

class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, t, name, hooks=None):
        self.t, self.name, self.hooks = t, name, hooks or {}

    def see(self, event, *args):
        self.t.note(self.name, event, *args)
        if event in self.hooks:
            self.hooks[event](self)

    def connection_made(self, transport):
        self.transport = transport
        self.see("made")

    def datagram_received(self, data, address):
        self.see("datagram", data)

    def error_received(self, exc):
        self.see("error", type(exc).__name__)

    def connection_lost(self, exc):
        self.see("lost", type(exc).__name__)


@programs("echo", "empty", "refused", "wrong address", "wrong type", "close",
          "abort", "raise in received", "raise in error", "close in received",
          "abort in made", "after close", "connected", "limits", "too big")
async def datagrams(t, what):
    loop = t.loop
    hooks = {
        "raise in received": {"datagram": lambda p: 1 / 0},
        "raise in error": {"error": lambda p: 1 / 0},
        "close in received": {"datagram": lambda p: p.transport.close()},
        "abort in made": {"made": lambda p: p.transport.abort()},
    }.get(what)
    one, first = await loop.create_datagram_endpoint(
        lambda: Datagrams(t, "one", hooks), local_addr=("127.0.0.1", 0))
    t.end_with(one)
    if one.is_closing():
        await t.settle()
        return
    address = one.get_extra_info("sockname")
    two, second = await loop.create_datagram_endpoint(
        lambda: Datagrams(t, "two", hooks if "error" in what else None),
        remote_addr=address if what not in ("refused", "raise in error")
        else ("127.0.0.1", support_refused()))
    t.end_with(two)
    await t.settle()
    if what == "wrong address":
        t.attempt("two", "sendto", two.sendto, b"x", ("127.0.0.1", 1))
    elif what == "wrong type":
        t.attempt("two", "sendto", two.sendto, "text")
        t.attempt("two", "sendto", two.sendto, None)
    elif what == "limits":
        t.note("two", two.get_write_buffer_limits(),
               two.get_write_buffer_size())
        two.set_write_buffer_limits(high=0)
        two.sendto(b"x")
    elif what == "too big":
        t.attempt("two", "sendto", two.sendto, b"x" * 100_000)
    elif what == "empty":
        t.attempt("two", "sendto", two.sendto, b"")
        t.attempt("two", "sendto", two.sendto, b"after")
    elif what == "after close":
        two.close()
        t.attempt("two", "sendto", two.sendto, b"late")
    else:
        # One only where its error may come before the next is sent.
        for i in range(1 if two.get_extra_info("peername") != address else 5):
            t.attempt("two", "sendto", two.sendto, b"%d" % i)
    if what == "close":
        two.close()
    elif what == "abort":
        two.abort()
    await t.settle()
    t.note("two", "closing", two.is_closing())
    two.close()
    one.close()
    await t.settle()
    t.attempt("two", "sendto", two.sendto, b"late")


class PipeEnd(asyncio.Protocol):
    def __init__(self, t, name, hooks=None):
        self.t, self.name, self.hooks = t, name, hooks or {}

    def see(self, event, *args):
        self.t.note(self.name, event, *args)
        if event in self.hooks:
            return self.hooks[event](self)

    def connection_made(self, transport):
        self.transport = transport
        self.see("made")

    def data_received(self, data):
        self.see("data", data)

    def eof_received(self):
        self.see("eof")

    def connection_lost(self, exc):
        self.see("lost", type(exc).__name__)

    def pause_writing(self):
        self.see("pause")

    def resume_writing(self):
        self.see("resume")


@programs("echo", "writer closes", "reader closes", "writer aborts",
          "write_eof", "pause", "regular file", "raise", "much", "wrong type",
          "after close")
async def pipes(t, what):
    loop = t.loop
    if what == "regular file":
        with tempfile.TemporaryFile() as file:
            await t.wait("r", "read", loop.connect_read_pipe(
                lambda: PipeEnd(t, "r"), file))
            await t.wait("w", "write", loop.connect_write_pipe(
                lambda: PipeEnd(t, "w"), file))
        return
    r, w = os.pipe()
    hooks = {"data": lambda p: 1 / 0} if what == "raise" else None
    reader, _ = await loop.connect_read_pipe(
        lambda: PipeEnd(t, "r", hooks), os.fdopen(r, "rb", 0))
    writer, _ = await loop.connect_write_pipe(
        lambda: PipeEnd(t, "w"), os.fdopen(w, "wb", 0))
    t.end_with(reader), t.end_with(writer)
    await t.settle()
    if what == "pause":
        reader.pause_reading()
    if what == "wrong type":
        t.attempt("w", "write", writer.write, "text")
    writer.write(b"x" * (1_000_000 if what == "much" else 5))
    await t.settle(30 if what == "much" else 3)
    if what == "pause":
        reader.resume_reading()
        await t.settle()
    t.note("w", "size", writer.get_write_buffer_size(),
           writer.get_write_buffer_limits(), writer.can_write_eof())
    {"reader closes": reader.close, "writer aborts": writer.abort,
     "write_eof": writer.write_eof}.get(what, writer.close)()
    await t.settle()
    t.note("end", reader.is_closing(), writer.is_closing())
    t.attempt("w", "late", writer.write, b"late")
    await t.settle()


class Child(asyncio.SubprocessProtocol):
    def __init__(self, t):
        self.t = t
        self.exited = t.loop.create_future()
        self.lost = t.loop.create_future()

    def connection_made(self, transport):
        self.t.note("c", "made")

    def pipe_data_received(self, fd, data):
        self.t.note(f"pipe {fd}", "data", data)

    def pipe_connection_lost(self, fd, exc):
        self.t.note(f"pipe {fd}", "lost", type(exc).__name__)

    def process_exited(self):
        self.t.note("c", "exited")
        self.exited.set_result(None)

    def connection_lost(self, exc):
        self.t.note("c", "lost", type(exc).__name__)
        self.lost.set_result(None)


@programs("true", "false", "missing", "cat", "killed", "terminated",
          "closed", "shell", "stderr", "devnull", "bad argument", "exit 7")
async def subprocesses(t, what):
    loop = t.loop
    argv = {"false": ["/bin/false"], "missing": ["/nonexistent"],
            "cat": ["/bin/cat"], "killed": ["/bin/sleep", "100"],
            "terminated": ["/bin/sleep", "100"],
            "closed": ["/bin/sleep", "100"],
            "stderr": ["/bin/sh", "-c", "echo out; echo err >&2"],
            "exit 7": ["/bin/sh", "-c", "exit 7"],
            "bad argument": [5]}.get(what, ["/bin/true"])
    stdin = subprocess.PIPE if what == "cat" else subprocess.DEVNULL
    if what == "shell":
        coro = loop.subprocess_shell(lambda: Child(t), "echo hello",
                                     stdin=stdin)
    else:
        coro = loop.subprocess_exec(lambda: Child(t), *argv, stdin=stdin)
    pair = await t.wait("starter", "start", coro)
    if not pair:
        return
    transport, child = pair
    if what == "cat":
        stdin = transport.get_pipe_transport(0)
        stdin.write(b"through the cat")
        stdin.close()
    elif what == "killed":
        transport.kill()
    elif what == "terminated":
        transport.terminate()
    elif what == "closed":
        transport.close()
    await t.wait("end", "lost", child.lost)
    t.note("c", "returncode", transport.get_returncode())
    t.attempt("c", "send_signal", transport.send_signal, 9)
    t.attempt("c", "kill", transport.kill)
    transport.close()
    await t.settle()


@programs("echo", "close", "abort", "eof", "wrong name", "no certificate",
          "plain peer", "start_tls", "cut", "extra info")
async def tls(t, what):
    import ssl

    from parity import certificates
    server_context, client_context = certificates.contexts()
    loop = t.loop
    if what == "plain peer":
        server = await loop.create_server(
            lambda: t.protocol("server", {
                "any data": None,
                "made": lambda p: p.transport.write(b"this is no TLS\r\n")}),
            "127.0.0.1", 0)
    else:
        server = await loop.create_server(
            lambda: t.protocol("server", {
                "data": lambda p: p.transport.write(b"answer")}),
            "127.0.0.1", 0, ssl=server_context)
    port = server.sockets[0].getsockname()[1]
    if what == "no certificate":
        client_context = ssl.create_default_context()
    try:
        if what == "start_tls":
            return
        transport, protocol = await asyncio.wait_for(loop.create_connection(
            lambda: t.protocol("client"), "127.0.0.1", port,
            ssl=client_context,
            server_hostname="other" if what == "wrong name"
            else "localhost"), 5)
    except Exception as exc:
        t.note("client", "failed", type(exc).__name__,
               getattr(exc, "reason", None),
               getattr(exc, "verify_message", None))
        await t.settle(10)
        server.close()
        return
    t.end_with(transport)
    transport.write(b"hello")
    await t.settle(10)
    t.note("client", "can_write_eof", transport.can_write_eof())
    if what == "extra info":
        for key in ("cipher", "compression", "sslcontext", "ssl_object",
                    "peercert", "sockname"):
            t.note("client", key,
                   type(transport.get_extra_info(key)).__name__)
    if what == "eof":
        t.attempt("client", "write_eof", transport.write_eof)
    if what in ("abort", "cut"):
        transport.abort()
    else:
        transport.close()
    await t.settle(20)
    t.note("client", "closing", transport.is_closing())
    server.close()
    await t.settle(5)
