"""What ends without waiting gives way to the loop wherever asyncio does.

A program that calls such a thing again and again, without a sleep, must not stop other
tasks, timers and timeouts.
"""
import asyncio
import gc
import socket
import threading
import warnings

import pytest

NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


class Counted:
    """Awaits what it was given; counts how often that suspended."""

    def __init__(self, awaitable):
        self.awaitable = awaitable
        self.times = 0

    def __await__(self):
        inner = self.awaitable.__await__()
        while True:
            try:
                waits_for = inner.send(None)
            except StopIteration as stop:
                return stop.value
            self.times += 1
            yield waits_for


@pytest.fixture
def refused():
    """An address of this machine that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()


def connect_refused(loop, refused, listener):
    return loop.create_connection(asyncio.Protocol, *refused)


def connect_by_name(loop, refused, listener):
    return loop.create_connection(asyncio.Protocol, "localhost", refused[1])


def connect_from_an_address(loop, refused, listener):
    return loop.create_connection(asyncio.Protocol, *refused, local_addr=("127.0.0.1", 0))


def connect_happily(loop, refused, listener):
    return loop.create_connection(asyncio.Protocol, *refused, happy_eyeballs_delay=1)


def connect_in_another_family(loop, refused, listener):
    return loop.create_connection(asyncio.Protocol, *refused, family=socket.AF_INET6)


def connect_for_a_factory_that_raises(loop, refused, listener):
    return loop.create_connection(lambda: 1 / 0, *listener)


def open_refused(loop, refused, listener):
    return asyncio.open_connection(*refused)


def addresses_of_a_literal(loop, refused, listener):
    return loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)


def addresses_of_an_ipv6_literal(loop, refused, listener):
    return loop.getaddrinfo("::1", 80)


def addresses_of_none(loop, refused, listener):
    return loop.getaddrinfo(None, 80)


def addresses_in_another_family(loop, refused, listener):
    return loop.getaddrinfo("127.0.0.1", 80, family=socket.AF_INET6)


def names_of_numbers(loop, refused, listener):
    return loop.getnameinfo(("127.0.0.1", 80), NUMERIC)


def names_of_nonsense(loop, refused, listener):
    return loop.getnameinfo(("nonsense", 80), NUMERIC)


async def connect_a_socket(loop, refused, listener):
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, refused)



def a_datagram_endpoint(loop, refused, listener):
    return loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))


def a_server(loop, refused, listener):
    return loop.create_server(asyncio.Protocol, "127.0.0.1", 0)


def in_an_executor(loop, refused, listener):
    waiting = threading.Event()     # from 3.14 on nobody waits for a job that is done at once
    loop.call_soon(waiting.set)
    return loop.run_in_executor(None, waiting.wait)


@pytest.mark.parametrize("make", [
    connect_refused, connect_by_name, connect_from_an_address, connect_happily,
    connect_in_another_family, connect_for_a_factory_that_raises, open_refused,
    addresses_of_a_literal, addresses_of_an_ipv6_literal, addresses_of_none,
    addresses_in_another_family, names_of_numbers, names_of_nonsense, connect_a_socket,
    a_datagram_endpoint, a_server, in_an_executor])
def test_gives_way(loop, run, refused, listener, make):
    async def main():
        counted = Counted(make(loop, refused, listener))
        with warnings.catch_warnings():
            # asyncio leaves the socket to the collector when the factory raises.
            warnings.simplefilter("ignore", ResourceWarning)
            try:
                made = await counted
            except (OSError, ZeroDivisionError):
                made = None
            gc.collect()
        if isinstance(made, asyncio.AbstractServer):
            made.close()
        elif isinstance(made, tuple) and hasattr(made[0], "close"):
            made[0].close()
            await asyncio.sleep(0)
        return counted.times

    assert run(main()) > 0


def test_retry_without_a_sleep(loop, run):
    """A client tries until another task of the same loop has made the server."""
    async def serve_later(address):
        await asyncio.sleep(0.01)
        return await loop.create_server(asyncio.Protocol, *address)

    async def main():
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            address = sock.getsockname()
        task = asyncio.create_task(serve_later(address))
        tries = 0
        while True:
            assert (tries := tries + 1) < 1_000_000
            try:
                transport, _ = await loop.create_connection(asyncio.Protocol, *address)
                break
            except ConnectionRefusedError:
                pass
        transport.abort()
        (await task).close()
        await asyncio.sleep(0.01)

    run(main())
