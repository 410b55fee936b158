"""Protocols that remember datagrams, and endpoints for them."""
import asyncio
import os
import socket
import sys

import pytest

import support

EMPTY = sys.version_info >= (3, 13)     # sendto(b"") sends
HEADER = 8 if EMPTY else 0              # counted for each that waits


class Dgrams(support.Memory, asyncio.DatagramProtocol):
    """Remembers: ("dgram", data, addr), ("error", exc), made, lost..."""

    def datagram_received(self, data, addr):
        self.note("dgram", data, addr)

    def error_received(self, exc):
        self.note("error", exc)

    @property
    def payloads(self):
        return [e[1] for e in self.events if e[0] == "dgram"]

    @property
    def peers(self):
        return [e[2] for e in self.events if e[0] == "dgram"]

    @property
    def problems(self):
        return [e[1] for e in self.events if e[0] == "error"]

    async def count(self, n):
        await self.until(lambda: len(self.payloads) >= n)


class Echo(Dgrams):
    def datagram_received(self, data, addr):
        super().datagram_received(data, addr)
        self.transport.sendto(data, addr)


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
            s.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6")
HOSTS = ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)]


async def endpoint(factory=Dgrams, **kwargs):
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        factory, **kwargs)
    assert protocol.transport is transport
    return protocol


async def bound(factory=Dgrams, host="127.0.0.1", **kwargs):
    return await endpoint(factory, local_addr=(host, 0), **kwargs)


async def connected(server, factory=Dgrams):
    return await endpoint(factory, remote_addr=name_of(server)[:2])


def name_of(protocol):
    return protocol.transport.get_extra_info("sockname")


async def close(*protocols):
    for protocol in protocols:
        protocol.transport.close()
    for protocol in protocols:
        await protocol.saw("lost")


async def pair(kind="dgram", factory=Dgrams):
    """A transport on one end of a Unix socketpair, the other end."""
    ours, peer = socket.socketpair(
        socket.AF_UNIX, getattr(socket, f"SOCK_{kind.upper()}"))
    peer.setblocking(False)
    return await endpoint(factory, sock=ours), peer


def unused_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


async def soon(rounds=3):
    for _ in range(rounds):
        await asyncio.sleep(0)


async def filled(kind="unix"):
    """A transport whose next datagram waits, and a plain socket that reads."""
    reader = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    reader.bind(b"\0tidewire-test-%d-%d" % (os.getpid(), id(reader)))
    reader.setblocking(False)
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    ours.connect(reader.getsockname())
    count = 0
    while True:
        try:
            ours.send(b"fill")
        except BlockingIOError:
            break
        count += 1
    return await endpoint(sock=ours), reader, count


def drain(sock):
    out = []
    while True:
        try:
            out.append(sock.recv(1 << 20))
        except BlockingIOError:
            return out
