"""The part of TLS that runs seldom: calls of the ssl module for csrc/tls, and start_tls()."""

import asyncio
import inspect
import sys
from asyncio import constants
from asyncio.log import logger
from typing import Any

from tidewire import _core

try:
    import ssl

    import _ssl
except ImportError:     # a Python without the ssl module: no TLS, as with asyncio
    ssl = None          # type: ignore[assignment]



def why_not(version: str, number: tuple[int, ...]) -> str | None:
    """Why C must not call the library behind the ssl module, by the version it shows; or None.

    Forks have functions of the same names with other arguments.
    """
    for fork in "AWS-LC", "BoringSSL", "LibreSSL":
        if fork in version:
            return f"the ssl module uses {fork}, not OpenSSL: {version}"
    if not version.startswith("OpenSSL ") or "compatible" in version:
        return f"the ssl module does not use OpenSSL: {version}"
    if not (1, 1, 1) <= number < (5,):
        return f"this version of OpenSSL is not known: {version}"
    return None


if ssl is not None:
    # For csrc/tls/libssl.c: a C function; its address shows where the ssl module's code is.
    SSL_LIBRARY = (_ssl.RAND_status, ssl.OPENSSL_VERSION,
                   why_not(ssl.OPENSSL_VERSION, ssl.OPENSSL_VERSION_INFO))


def wrap_bio(sslcontext: Any, server_side: bool, server_hostname: str | None) -> tuple[Any, ...]:
    """The object of a new connection, and facts about it for C."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    sslobj = sslcontext.wrap_bio(
        incoming, outgoing, server_side=server_side, server_hostname=server_hostname)
    kind = type(sslobj)
    inner = getattr(sslobj, "_sslobj", None)
    overridden = (
        inner is None
        or getattr(kind, "read", None) is not ssl.SSLObject.read
        or getattr(kind, "write", None) is not ssl.SSLObject.write
        or not getattr(sslobj, "__dict__", {}).keys().isdisjoint(("read", "write")))
    # A message callback's exception comes out of the next method of the object.
    usable = not overridden and sslobj.context._msg_callback is None
    return sslobj, inner, incoming, outgoing, overridden, usable


def probe() -> Any:
    """The inner object of a client, made by the ssl module alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())._sslobj  # type: ignore[attr-defined]


if ssl is not None:
    # In the order of the enum in csrc/tls/names.h.
    C_NAMES = (
        sys.modules[__name__],
        ssl.SSLWantReadError,
        ssl.SSLSyscallError,
        ssl.SSLError,
        ssl.CertificateError,
    )


# -- reports -----------------------------------------------------------------------------------

# In asyncio the lower transport's report (TW_TLS_FATAL_CALLBACK in C), which also reports
# CancelledError.
FATAL_CALLBACK = "Fatal error: protocol.buffer_updated() call failed."


def report_fatal(loop: Any, protocol: Any, transport: Any, message: str, exc: BaseException) -> None:
    """A TLS connection ended by an error: the report of asyncio's SSLProtocol._fatal_error()."""
    if isinstance(exc, OSError):
        if loop.get_debug():
            logger.debug("%r: %s", protocol, message, exc_info=exc)
    elif message == FATAL_CALLBACK or not isinstance(exc, asyncio.CancelledError):
        loop.call_exception_handler({
            "message": message,
            "exception": exc,
            "transport": transport,
            "protocol": protocol,
        })


def log_debug(loop: Any, protocol: Any, transport: Any, text: str) -> None:
    logger.debug(text, protocol)


def log_handshake(loop: Any, protocol: Any, transport: Any, milliseconds: float) -> None:
    logger.debug("%r: SSL handshake took %.1f ms", protocol, milliseconds)


def warn_eof() -> None:
    logger.warning("returning true from eof_received() has no effect when using ssl")


# -- methods of the loop -----------------------------------------------------------------------

def _arguments(loop: Any, protocol: Any, sslcontext: Any, waiter: Any, server_side: bool,
               server_hostname: str | None, handshake_timeout: float | None,
               shutdown_timeout: float | None, call_connection_made: bool) -> tuple[Any, ...]:
    """asyncio's checks of SSLProtocol()'s arguments, and its defaults."""
    if ssl is None:
        raise RuntimeError("stdlib ssl module not available")
    if handshake_timeout is None:
        handshake_timeout = constants.SSL_HANDSHAKE_TIMEOUT
    elif handshake_timeout <= 0:
        raise ValueError(
            f"ssl_handshake_timeout should be a positive number, got {handshake_timeout}")
    if shutdown_timeout is None:
        shutdown_timeout = constants.SSL_SHUTDOWN_TIMEOUT
    elif shutdown_timeout <= 0:
        raise ValueError(
            f"ssl_shutdown_timeout should be a positive number, got {shutdown_timeout}")
    if not sslcontext:
        if server_side:
            raise ValueError("Server side SSL needs a valid SSLContext")
        sslcontext = ssl.create_default_context()
        if not server_hostname:
            sslcontext.check_hostname = False
    hostname = server_hostname if server_hostname and not server_side else None
    return (loop, protocol, sslcontext, waiter, server_side, hostname, handshake_timeout,
            shutdown_timeout, call_connection_made)


def make_ssl_transport(
        self, rawsock, protocol, sslcontext, waiter=None, *, server_side=False,
        server_hostname=None, extra=None, server=None, ssl_handshake_timeout=None,
        ssl_shutdown_timeout=None, call_connection_made=True):
    """The hook that asyncio's BaseEventLoop calls for a connected socket and ssl=."""
    self._ensure_fd_no_transport(rawsock)
    arguments = _arguments(
        self, protocol, sslcontext, waiter, server_side, server_hostname, ssl_handshake_timeout,
        ssl_shutdown_timeout, call_connection_made)
    return _core.tls_open(*arguments, rawsock, extra, server)


if "context" in inspect.signature(asyncio.BaseEventLoop._make_ssl_transport).parameters:

    def make_ssl_transport_in_context(
            self, rawsock, protocol, sslcontext, waiter=None, *, server_side=False,
            server_hostname=None, extra=None, server=None, ssl_handshake_timeout=None,
            ssl_shutdown_timeout=None, call_connection_made=True, context=None):
        """The hook that asyncio's BaseEventLoop calls for a connected socket and ssl=."""
        run = context.run if context is not None else lambda f, *args, **kwargs: f(*args, **kwargs)
        return run(
            make_ssl_transport, self, rawsock, protocol, sslcontext, waiter,
            server_side=server_side, server_hostname=server_hostname, extra=extra, server=server,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout, call_connection_made=call_connection_made)

    _make_ssl_transport = make_ssl_transport_in_context
else:
    _make_ssl_transport = make_ssl_transport
_make_ssl_transport.__name__ = "_make_ssl_transport"


def _take_buffered(protocol: Any) -> bytes:
    """The bytes that a StreamReader has read ahead: on a server's side they are ciphertext."""
    if isinstance(protocol, asyncio.StreamReaderProtocol):
        reader = getattr(protocol, "_stream_reader", None)
        if reader is not None and reader._buffer:
            data = bytes(reader._buffer)
            reader._buffer.clear()
            return data
    return b""


async def start_tls(self, transport, protocol, sslcontext, *, server_side=False,
                    server_hostname=None, ssl_handshake_timeout=None, ssl_shutdown_timeout=None):
    """Upgrade a transport to TLS; returns the transport that *protocol* uses from then on.

    sslcontext: an ssl.SSLContext; server_side: which part of the handshake is ours;
    server_hostname: the name that the certificate must have; the timeouts are seconds (60 and 30).
    None if the connection is closed meanwhile.
    TypeError for another transport or context; OSError, ssl.SSLError or ConnectionError
    if the handshake fails.  See library/asyncio-eventloop.
    """
    if ssl is None:
        raise RuntimeError("Python ssl module is not available")
    if not isinstance(sslcontext, ssl.SSLContext):
        raise TypeError(
            f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}")
    if not getattr(transport, "_start_tls_compatible", False):
        raise TypeError(f"transport {transport!r} is not supported by start_tls()")

    waiter = self.create_future()
    upgraded = _core.tls_over(*_arguments(
        self, protocol, sslcontext, waiter, server_side, server_hostname, ssl_handshake_timeout,
        ssl_shutdown_timeout, False))
    # Nothing may run between the two: the handshake begins in its turn.
    transport.pause_reading()
    if server_side and (buffered := _take_buffered(protocol)):
        upgraded._feed(buffered)
    upgraded._insert(transport)
    begin = self.call_soon(upgraded._begin)
    resume = self.call_soon(transport.resume_reading)
    try:
        await waiter
    except BaseException:
        transport.close()
        begin.cancel()
        resume.cancel()
        waiter = None       # its exception's traceback has this frame
        raise
    # None if the connection was closed meanwhile, as asyncio's: connection_lost() was called.
    return upgraded if upgraded.get_protocol() is not None else None
