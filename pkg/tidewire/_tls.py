"""The cold side of TLS: what the room csrc/tls asks of the ssl module, and start_tls()."""

import ssl
import sys
from typing import Any

import _ssl

# A function in C of the ssl module: its address tells where the ssl module's code is.
SSL_C_FUNCTION = _ssl.RAND_status


def wrap_bio(sslcontext: Any, server_side: bool, server_hostname: str | None) -> tuple[Any, ...]:
    """The object of a new connection, and what C has to know about it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    sslobj = sslcontext.wrap_bio(
        incoming, outgoing, server_side=server_side, server_hostname=server_hostname)
    kind = type(sslobj)
    inner = getattr(sslobj, "_sslobj", None)
    overridden = (
        inner is None
        or getattr(kind, "read", None) is not ssl.SSLObject.read
        or getattr(kind, "write", None) is not ssl.SSLObject.write
        or not vars(sslobj).keys().isdisjoint(("read", "write")))
    # A message callback's exception comes out of the next method of the object.
    suited = not overridden and sslobj.context._msg_callback is None
    return sslobj, inner, incoming, outgoing, overridden, suited


def probe() -> Any:
    """The inner object of a client that is made by the ssl module alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())._sslobj  # type: ignore[attr-defined]


# In the order of the enum in csrc/tls/engine_impl.h.
C_NAMES = (
    sys.modules[__name__],
    ssl.SSLWantReadError,
    ssl.SSLSyscallError,
    ssl.SSLError,
    ssl.CertificateError,
    ssl.MemoryBIO,
)
