"""Wrong arguments, in each state of each transport: outcome, warnings and reports as asyncio's."""
import array
import asyncio
import contextlib
import logging
import os
import re
import socket
import warnings

import pytest

import support

ARRAY = array.array("b", b"abc")
VALUES = [None, 5, 1.5, "x", b"x", b"", bytearray(b"y"), memoryview(b"z"), ARRAY, [b"a"], [ARRAY],
          [], (), True, object()]
ADDRESSES = [None, 5, "x", b"x", (), ("127.0.0.1", 9), ("127.0.0.1",), ("127.0.0.1", "x"),
             ("127.0.0.1", 70000), ("127.0.0.1\0", 9)]
LIMITS = [(0, 0), (1, 2), (-1,), (None, -1), (7, 7), (1.5, 1), (2**70,), (True,), (None, None)]
CALLS = (
    [("write", (value,)) for value in VALUES]
    + [("writelines", (value,)) for value in VALUES if isinstance(value, list) or value == ()]
    + [("sendto", (value, ("127.0.0.1", 9))) for value in VALUES]
    + [("sendto", (b"", address)) for address in ADDRESSES]
    + [("set_write_buffer_limits", limits) for limits in LIMITS]
    + [("get_extra_info", (name,)) for name in [*VALUES, "peername", "pipe", "socket"]]
    + [(name, ()) for name in (
        "is_closing", "is_reading", "can_write_eof", "get_write_buffer_size", "pause_reading",
        "get_write_buffer_limits", "resume_reading", "pause_reading", "write_eof", "close",
        "write_eof", "pause_reading", "resume_reading", "close")])


class Protocol(asyncio.Protocol):
    def datagram_received(self, data, addr):
        pass

    def error_received(self, exc):
        pass


async def make(loop, kind):
    """A transport, and what else to close."""
    if kind == "stream":
        ours, other = socket.socketpair()
        return (await loop.create_connection(Protocol, sock=ours))[0], other
    if kind == "datagrams":
        made = await loop.create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))
        return made[0], None
    if kind == "connected datagrams":
        other = socket.socket(type=socket.SOCK_DGRAM)
        other.bind(("127.0.0.1", 0))
        return (await loop.create_datagram_endpoint(
            Protocol, remote_addr=other.getsockname()))[0], other
    r, w = os.pipe()
    r, w = os.fdopen(r, "rb", 0), os.fdopen(w, "wb", 0)
    if kind == "read pipe":
        return (await loop.connect_read_pipe(Protocol, r))[0], w
    return (await loop.connect_write_pipe(Protocol, w))[0], r


STOCK = {
    "stream": asyncio.selector_events._SelectorSocketTransport,
    "datagrams": asyncio.selector_events._SelectorDatagramTransport,
    "connected datagrams": asyncio.selector_events._SelectorDatagramTransport,
    "read pipe": asyncio.unix_events._UnixReadPipeTransport,
    "write pipe": asyncio.unix_events._UnixWritePipeTransport,
}


def lacks(kind, name):
    """Has asyncio's class the abstract method only? The first 3.11s have no is_reading() of pipes, nor
    pause_reading() of datagrams.
    """
    return hasattr(asyncio.ReadTransport, name) and name.endswith("_reading") and (
        getattr(STOCK[kind], name, None) is getattr(asyncio.ReadTransport, name))


def plain(text):
    """Without what differs from run to run, and from name to name."""
    text = re.sub(r"0x[0-9a-f]+|fd=\d+|\('127\.0\.0\.1', \d{4,}\)", "N", text)
    return re.sub(r"_(?:Selector|Unix)(\w+Transport)", r"\1", text)


def said(value):
    if isinstance(value, BaseException):
        return plain(f"{type(value).__name__}: {value}")
    simple = value is None or isinstance(value, (int, str, bytes, tuple))
    return plain(repr(value)) if simple else type(value).__name__


class Records(logging.Handler):
    def __init__(self, records):
        super().__init__(logging.WARNING)
        self.emit = lambda record: records.append(plain(record.getMessage()))


async def outcomes(loop, kind, state):
    transport, other = await make(loop, kind)
    records, seen = [], []
    loop.set_exception_handler(lambda loop, context: records.append(
        (plain(context["message"]), said(context.get("exception")))))
    if state != "open":
        transport.close()
    if state == "lost":
        await support.turns(3)
    handler = Records(records)
    logging.getLogger("asyncio").addHandler(handler)
    try:
        for name, args in CALLS:
            # From 3.12 on asyncio's fails behind close(), and keeps the data.
            broken = name == "writelines" and transport.is_closing() and kind == "stream"
            if broken or lacks(kind, name) or not hasattr(type(transport), name):
                seen.append((name, "absent"))
                continue
            try:
                result = getattr(transport, name)(*args)
            except Exception as exc:
                result = exc
            seen.append((name, plain(repr(args)), said(result), transport.is_closing(), *records))
            records.clear()
    finally:
        logging.getLogger("asyncio").removeHandler(handler)
    with contextlib.suppress(Exception):
        transport.abort()
    await support.turns(3)
    if other:
        other.close()
    return seen


KINDS = ["stream", "datagrams", "connected datagrams", "read pipe", "write pipe"]
# Of datagrams without a peer: docs/differences.
CASES = [(kind, state) for kind in KINDS for state in ("open", "closing", "lost")
         if (kind, state) != ("datagrams", "lost")]


@pytest.mark.parametrize("kind, state", CASES)
def test_wrong_arguments(make_loop, kind, state, logs):
    both = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        for loop in asyncio.SelectorEventLoop(), make_loop():
            both.append(loop.run_until_complete(outcomes(loop, kind, state)))
            loop.close()
    stock, ours = both
    logs.take()
    assert [pair for pair in zip(stock, ours, strict=True) if pair[0] != pair[1]] == []
