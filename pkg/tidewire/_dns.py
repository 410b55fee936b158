"""getaddrinfo() and getnameinfo(): no thread where no name server is needed.

C code answers the usual calls for a literal address (ops/dns.c).  For the other calls without
a name, this file calls the same function of the socket module with the same arguments, so the
result or the exception is the same.  Both suspend for one turn of the loop, as asyncio's methods
do while a thread works.  Threads in C look names up (ops/resolver.c).  Unusual calls are passed
to asyncio's own methods, which use the executor.
"""
import _socket
import asyncio
import socket
from types import BuiltinFunctionType

from . import _seam

_base = asyncio.BaseEventLoop
_NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


def _is_address(host):
    """Is this the text of an IPv4 or IPv6 address (with a scope), or None?"""
    if host is None:
        return True
    if isinstance(host, (bytes, bytearray)):
        try:
            host = host.decode('ascii')
        except UnicodeDecodeError:
            return False
    elif not isinstance(host, str):
        return False
    family = socket.AF_INET
    if ':' in host:
        family, host = socket.AF_INET6, host.partition('%')[0]
    elif not host[:1].isdigit():
        return False
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError):
        return False
    return True


def _is_number(port):
    """Is this a port, and no name of a service?"""
    return (port is None or isinstance(port, int)
            or isinstance(port, (str, bytes)) and port.isdigit())


def _original(function, of):
    """The function, if it is the socket module's own; otherwise a value that equals nothing."""
    return function if of else object()


# The C code replaces the functions of the socket module, but not those that a program
# has put in their place.
_known = _original(
    socket.getaddrinfo,
    getattr(socket.getaddrinfo, '__globals__', None) is vars(socket))
_known_below = _original(_socket.getaddrinfo, isinstance(_socket.getaddrinfo, BuiltinFunctionType))
_known_names = _original(socket.getnameinfo, isinstance(socket.getnameinfo, BuiltinFunctionType))


def _has_plain_executor(loop):
    """Can the program not see whether the executor or a thread of C is used?"""
    return (loop._default_executor is loop._made_executor
            and not loop._executor_shutdown_called
            and loop.run_in_executor == loop._plain_run_in_executor)


async def _result(loop, future):
    """The result of a lookup.  A lookup for a cancelled task is not begun."""
    try:
        return await future
    except asyncio.CancelledError:
        loop._abandon_lookup(future)
        raise


async def getaddrinfo(self, host, port, *,
                      family=0, type=0, proto=0, flags=0):
    """socket.getaddrinfo() without blocking: a list of 5-tuples.

    OSError (socket.gaierror) if there is no such host or service.
    See library/asyncio-eventloop.
    """
    known = socket.getaddrinfo is _known
    if known:
        found = self._literal_addresses(host, port, family, type, proto, flags)
        if found is not None:
            await _seam.give_way()
            return found
    # With AI_CANONNAME some C libraries look for the name of an address.
    if (_is_number(port) and _is_address(host)
            and isinstance(flags, int) and not flags & socket.AI_CANONNAME):
        self._check_closed()
        lookup = (self._getaddrinfo_debug if self.get_debug()
                  else socket.getaddrinfo)
        await _seam.give_way()
        return lookup(host, port, family, type, proto, flags)
    if known and _socket.getaddrinfo is _known_below and _has_plain_executor(self):
        future = self._look_up_name(host, port, family, type, proto, flags)
        if future is not None:
            return await _result(self, future)
    return await _base.getaddrinfo(self, host, port, family=family, type=type,
                                   proto=proto, flags=flags)


async def getnameinfo(self, sockaddr, flags=0):
    """socket.getnameinfo() without blocking: (host, port).

    OSError (socket.gaierror) if there is no such name.
    See library/asyncio-eventloop.
    """
    if isinstance(flags, int) and flags & _NUMERIC == _NUMERIC:
        self._check_closed()
        await _seam.give_way()
        return socket.getnameinfo(sockaddr, flags)
    if socket.getnameinfo is _known_names and _has_plain_executor(self):
        future = self._look_up_address(sockaddr, flags)
        if future is not None:
            return await _result(self, future)
    return await _base.getnameinfo(self, sockaddr, flags)
