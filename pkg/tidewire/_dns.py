"""getaddrinfo() and getnameinfo(): what needs no name server needs no thread.

The usual questions about a literal address are answered in C (ops/dns.c).
What else is answered here is answered by the same function of the socket
module, with the same arguments, hence with the same result or the same
exception.  asyncio's own methods do everything else, in the executor.
"""
import asyncio
import socket

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


# The C code speaks for the function of the socket module, not for one that a
# program has put in its place.
_known = (socket.getaddrinfo
          if getattr(socket.getaddrinfo, '__globals__', None) is vars(socket)
          else object())


async def getaddrinfo(self, host, port, *,
                      family=0, type=0, proto=0, flags=0):
    """socket.getaddrinfo() without blocking: a list of 5-tuples.

    OSError (socket.gaierror) if there is no such host or service.
    See library/asyncio-eventloop.
    """
    if socket.getaddrinfo is _known:
        found = self._literal_addresses(host, port, family, type, proto, flags)
        if found is not None:
            return found
    # With AI_CANONNAME some C libraries look for the name of an address.
    if (_is_number(port) and _is_address(host)
            and isinstance(flags, int) and not flags & socket.AI_CANONNAME):
        self._check_closed()
        lookup = (self._getaddrinfo_debug if self.get_debug()
                  else socket.getaddrinfo)
        return lookup(host, port, family, type, proto, flags)
    return await _base.getaddrinfo(self, host, port, family=family, type=type,
                                   proto=proto, flags=flags)


async def getnameinfo(self, sockaddr, flags=0):
    """socket.getnameinfo() without blocking: (host, port).

    OSError (socket.gaierror) if there is no such name.
    See library/asyncio-eventloop.
    """
    if isinstance(flags, int) and flags & _NUMERIC == _NUMERIC:
        self._check_closed()
        return socket.getnameinfo(sockaddr, flags)
    return await _base.getnameinfo(self, sockaddr, flags)
