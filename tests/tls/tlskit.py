"""What the TLS tests share: certificates, contexts, and a peer under full control.

Peer is the other end of a connection: an ssl.SSLObject over MemoryBIOs and a
bare socket.  It can hold back, split, corrupt or forge what it sends.
"""
import asyncio
import contextlib
import functools
import socket
import ssl

import support

NAME = "localhost"
# What asyncio's transport below reports of a CancelledError in a callback.
TOLD_BELOW = "Fatal error: protocol.buffer_updated() call failed."


@functools.cache
def authority():
    import trustme
    return trustme.CA()


@functools.cache
def certificate(*names):
    return authority().issue_cert(*(names or (NAME, "127.0.0.1")))


def server_context(version=None, *, names=(), client_ca=False):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate(*names).configure_cert(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        authority().configure_trust(context)
    return context


def client_context(version=None, *, trust=True, cert=False):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if trust:
        authority().configure_trust(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if cert:
        authority().issue_cert("client@example.org").configure_cert(context)
    return context


VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


async def wrap(sock, factory, context, *, server_side=False, **kwargs):
    """Our TLS transport on a connected socket: (transport, protocol)."""
    loop = asyncio.get_running_loop()
    if server_side:
        return await loop.connect_accepted_socket(factory, sock, ssl=context, **kwargs)
    kwargs.setdefault("server_hostname", NAME)
    if sock.family == socket.AF_UNIX:
        return await loop.create_unix_connection(factory, sock=sock, ssl=context, **kwargs)
    return await loop.create_connection(factory, sock=sock, ssl=context, **kwargs)


async def start(protocol, context, **kwargs):
    """loop.start_tls() over a protocol's transport: the new transport."""
    if not kwargs.get("server_side"):
        kwargs.setdefault("server_hostname", NAME)
    return await asyncio.get_running_loop().start_tls(
        protocol.transport, protocol, context, **kwargs)


async def tls_pair(left=support.Recorder, right=support.Recorder, *, client=None, server=None,
                   kind="unix"):
    """Two protocols that talk TLS to each other: client, server."""
    a, b = support.socketpair(kind)
    (_, one), (_, two) = await asyncio.gather(
        wrap(a, left, client or client_context()),
        wrap(b, right, server or server_context(), server_side=True))
    return one, two


class Peer:
    """The other side, by hand."""

    def __init__(self, sock, context, *, server_side=False, server_hostname=None, **kwargs):
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.obj = context.wrap_bio(
            self.incoming, self.outgoing, server_side=server_side,
            server_hostname=server_hostname, **kwargs)

    async def feed(self):
        """One read of the socket; False at its end."""
        data = await asyncio.get_running_loop().sock_recv(self.sock, 262144)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()
        return bool(data)

    async def raw(self, data):
        """These very bytes."""
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def flush(self):
        if self.outgoing.pending:
            await self.raw(self.outgoing.read())

    async def drive(self, function, *args):
        """function(*args) of the object, with the I/O it asks for."""
        while True:
            try:
                result = function(*args)
            except ssl.SSLWantReadError:
                await self.flush()
                await self.feed()
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    await self.flush()      # the alert
                raise
            else:
                await self.flush()
                return result

    async def handshake(self):
        await self.drive(self.obj.do_handshake)
        return self

    async def write(self, data):
        if data:
            await self.drive(self.obj.write, data)

    def record(self, data):
        """Ciphertext of data, not sent."""
        assert not self.outgoing.pending
        self.obj.write(data)
        return self.outgoing.read()

    async def read(self, size=262144):
        """Some plaintext, b'' at the end."""
        try:
            return await self.drive(self.obj.read, size)
        except (ssl.SSLEOFError, ConnectionError):
            return b""

    async def read_exactly(self, size):
        out = bytearray()
        while len(out) < size:
            data = await self.read(min(size - len(out), 262144))
            if not data:
                break
            out += data
        return bytes(out)

    async def read_all(self):
        return await self.read_exactly(1 << 62)

    async def unwrap(self):
        await self.drive(self.obj.unwrap)

    def close_notify(self):
        """The bytes of it, not sent."""
        try:
            self.obj.unwrap()
        except ssl.SSLWantReadError:
            pass
        return self.outgoing.read()

    def close(self):
        self.sock.close()


async def with_peer(factory=support.Recorder, *, ours="client", client=None, server=None,
                    kind="unix", **kwargs):
    """Our protocol (its transport is set) and a Peer, both through the handshake."""
    client, server = client or client_context(), server or server_context()
    sock, other = support.socketpair(kind)
    if ours == "client":
        peer = Peer(other, server, server_side=True)
        made = wrap(sock, factory, client, **kwargs)
    else:
        peer = Peer(other, client, server_hostname=NAME)
        made = wrap(sock, factory, server, server_side=True, **kwargs)
    try:
        (_, protocol), _ = await asyncio.gather(made, peer.handshake())
    except BaseException:
        peer.close()
        raise
    return protocol, peer


async def finish(protocol, peer=None):
    """Abort ours, close theirs, see connection_lost."""
    protocol.transport.abort()
    if peer is not None:
        peer.close()
    await protocol.saw("lost")


class MemoryTransport(asyncio.Transport):
    """A lower transport without a socket: a foreign one, for start_tls().

    What TLS writes is in `sent`; deliver() is the network.
    """

    _start_tls_compatible = True

    def __init__(self, protocol):
        super().__init__()
        self.protocol = protocol
        self.sent = bytearray()
        self.calls = []
        self.closing = False
        self.lost = False
        self.extra = {"peername": "nobody"}

    def set_protocol(self, protocol):
        self.protocol = protocol

    def get_protocol(self):
        return self.protocol

    def get_extra_info(self, name, default=None):
        return self.extra.get(name, default)

    def pause_reading(self):
        self.calls.append("pause_reading")

    def resume_reading(self):
        self.calls.append("resume_reading")

    def is_reading(self):
        return True

    def write(self, data):
        self.sent += data

    def get_write_buffer_size(self):
        return 0

    def is_closing(self):
        return self.closing

    def take(self):
        out = bytes(self.sent)
        self.sent.clear()
        return out

    def deliver(self, data):
        view = memoryview(data)
        while view and not self.closing:
            buffer = self.protocol.get_buffer(len(view))
            n = min(len(buffer), len(view))
            buffer[:n] = view[:n]
            view = view[n:]
            self.protocol.buffer_updated(n)

    def close(self):
        self._end(None)

    def abort(self):
        self._end(None)

    def _force_close(self, exc):
        self._end(exc)

    def _end(self, exc):
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self._lost, exc)

    def _lost(self, exc):
        self.lost = True
        self.protocol.connection_lost(exc)


def blob(size):
    """So many bytes, none of which is where another of its kind was."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]
