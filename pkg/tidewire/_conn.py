"""create_connection() to a literal address, in fewer steps than asyncio's.

asyncio's own method does everything else. It also runs when a program, or a
test, has changed one of its steps.
"""
import asyncio
import functools
import socket

from . import _core, _seam

_base = asyncio.BaseEventLoop
_sock_connect = _core.Loop.sock_connect


def _shared(made):
    """The program passed the socket, and may have a duplicate of it, or its number.

    No write is held then, as in asyncio (csrc/net/hold.h).
    """
    flush = getattr(made[0], '_flush_held', None)
    if flush is not None:
        flush(True)
    return made


def _with_sock(method):
    """The method for a socket that the program passes; it shares it with the transport."""
    @functools.wraps(method)
    async def call(self, protocol_factory, *args, **kwargs):
        made = await method(self, protocol_factory, *args, **kwargs)
        given = method is _base.connect_accepted_socket or kwargs.get('sock') is not None
        return _shared(made) if given else made
    return call


create_unix_connection = _with_sock(_seam.create_unix_connection)
create_datagram_endpoint = _with_sock(_base.create_datagram_endpoint)
connect_accepted_socket = _with_sock(_base.connect_accepted_socket)


def _is_asyncios(loop):
    """Are the steps that this file skips asyncio's own?"""
    return (getattr(loop._ensure_resolved, '__func__', None)
            is _seam.ensure_resolved
            and getattr(loop._connect_sock, '__func__', None)
            is _seam.connect_sock
            and type(loop).sock_connect is _sock_connect
            and 'sock_connect' not in vars(loop))


def _only_address(loop, host, port, family, proto, *options):
    """The result of getaddrinfo() for a literal address; None for anything else, or if the
    call asks for more than a connection."""
    for option in options:
        if option is not None:
            return None
    if host is None or loop._debug or not _is_asyncios(loop):
        return None
    return _seam.ipaddr_info(host, port, family, socket.SOCK_STREAM, proto)


async def _connect(loop, protocol_factory, info):
    """The rest of create_connection() for one address, without TLS."""
    family, type, proto, _, address = info
    sock = socket.socket(family, type, proto)
    try:
        sock.setblocking(False)
        if await loop._sock_connect_at_once(sock, address):
            # A server in this process has its turn to accept, as it has while asyncio
            # waits; and a program that tries again and again does not stop other tasks.
            await _seam.give_way()
    except BaseException:
        sock.close()
        raise
    return await loop._create_connection_transport(
        sock, protocol_factory, None, None)


if 'all_errors' in (_base.create_connection.__kwdefaults__ or ()):

    async def create_connection(
            self, protocol_factory, host=None, port=None,
            *, ssl=None, family=0,
            proto=0, flags=0, sock=None,
            local_addr=None, server_hostname=None,
            ssl_handshake_timeout=None,
            ssl_shutdown_timeout=None,
            happy_eyeballs_delay=None, interleave=None,
            all_errors=False):
        info = _only_address(
            self, host, port, family, proto, ssl, sock, local_addr,
            server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout,
            happy_eyeballs_delay, interleave, all_errors or None)
        if info is not None:
            return await _connect(self, protocol_factory, info)
        made = await _base.create_connection(
            self, protocol_factory, host, port, ssl=ssl, family=family,
            proto=proto, flags=flags, sock=sock, local_addr=local_addr,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            happy_eyeballs_delay=happy_eyeballs_delay,
            interleave=interleave, all_errors=all_errors)
        return made if sock is None else _shared(made)

else:

    async def create_connection(
            self, protocol_factory, host=None, port=None,
            *, ssl=None, family=0,
            proto=0, flags=0, sock=None,
            local_addr=None, server_hostname=None,
            ssl_handshake_timeout=None,
            ssl_shutdown_timeout=None,
            happy_eyeballs_delay=None, interleave=None):
        info = _only_address(
            self, host, port, family, proto, ssl, sock, local_addr,
            server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout,
            happy_eyeballs_delay, interleave)
        if info is not None:
            return await _connect(self, protocol_factory, info)
        made = await _base.create_connection(
            self, protocol_factory, host, port, ssl=ssl, family=family,
            proto=proto, flags=flags, sock=sock, local_addr=local_addr,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            happy_eyeballs_delay=happy_eyeballs_delay,
            interleave=interleave)
        return made if sock is None else _shared(made)
