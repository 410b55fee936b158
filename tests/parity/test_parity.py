"""The same program on asyncio's loop and on ours sees the same."""
import asyncio
import sys

import pytest

from parity import harness, programs

# Debian 12 has 3.11.2: its pipe transports have no is_reading(), nor what else
# was mended since.
of_today = pytest.mark.skipif(
    sys.version_info < (3, 11, 7), reason="later releases of this asyncio differ from it")


def check(stock_factory, factory, program, *args):
    stock = harness.run(stock_factory, program, *args)
    ours = harness.run(factory, program, *args)
    differences = harness.compare(stock, ours)
    if differences:
        # A busy machine may have cut a phase short: once more.
        stock = harness.run(stock_factory, program, *args)
        ours = harness.run(factory, program, *args)
        differences = harness.compare(stock, ours)
    assert not differences, "\n".join(differences)


@of_today
@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_program(name, loop_factory):
    check(asyncio.SelectorEventLoop, loop_factory, programs.PROGRAMS[name])


def test_there_are_enough():
    assert len(programs.PROGRAMS) >= 150


# -- the harness finds what is planted --------------------------------------

class Planted(asyncio.SelectorEventLoop):
    """asyncio's loop with a transport that differs in one way."""
    plant = None

    def _make_socket_transport(self, *args, **kwargs):
        return self._planted(super()._make_socket_transport(*args, **kwargs))

    def _planted(self, transport):
        if self.plant:
            self.plant(transport)
        return transport

    def _make_read_pipe_transport(self, *args, **kwargs):
        return self._planted(super()._make_read_pipe_transport(*args, **kwargs))

    def _make_write_pipe_transport(self, *args, **kwargs):
        return self._planted(super()._make_write_pipe_transport(*args, **kwargs))

    def _make_datagram_transport(self, *args, **kwargs):
        return self._planted(super()._make_datagram_transport(*args, **kwargs))

    async def _make_subprocess_transport(self, *args, **kwargs):
        return self._planted(await super()._make_subprocess_transport(*args, **kwargs))


def deaf_pause(transport):
    transport.pause_reading = lambda: None


def lossy_write(transport):
    write = transport.write
    transport.write = lambda data: write(data[1:])


def no_eof(transport):
    transport.write_eof = lambda: None


def eager_close(transport):
    transport.close = transport.abort


def wrong_limits(transport):
    transport.get_write_buffer_limits = lambda: (16, 65536)


def chatty_write(transport):
    write = transport.write

    def raising(data):
        if transport.is_closing():
            raise RuntimeError("closed")
        write(data)
    transport.write = raising


def late_send(transport):
    sendto = transport.sendto
    transport.sendto = lambda data, addr=None: transport._loop.call_soon(sendto, data, addr)


def deaf_kill(transport):
    transport.kill = transport.send_signal


@pytest.mark.parametrize("plant, name", [
    (deaf_pause, "unix: pause in data"),
    (deaf_pause, "unix: pause, peer sends, closes"),
    (lossy_write, "unix: write in data"),
    (no_eof, "unix: write, write_eof in data"),
    (eager_close, "unix: close, queued"),
    (wrong_limits, "unix: state in data"),
    (chatty_write, "unix: close, write in data"),
    (deaf_pause, "read pipe: in data"),
    (lossy_write, "write pipe: in lost"),
    (no_eof, "write socket: ends"),
    (eager_close, "write pipe: ends, queued"),
    (wrong_limits, "unix datagrams: in datagram"),
    (late_send, "udp: in datagram"),
    (deaf_kill, "subprocess: in data"),
], ids=lambda x: getattr(x, "__name__", None))
def test_planted_difference_is_found(plant, name):
    kind = type("Planted", (Planted,), {"plant": staticmethod(plant)})
    program = programs.PROGRAMS[name]
    stock = harness.run(asyncio.SelectorEventLoop, program)
    assert not harness.compare(stock, harness.run(Planted, program))
    assert harness.compare(stock, harness.run(kind, program))


def test_planted_order_is_found():
    class Reversed(asyncio.SelectorEventLoop):
        def call_later(self, delay, callback, *args, context=None):
            if not delay:
                return self.call_soon(callback, *args, context=context)
            return super().call_later(delay, callback, *args,
                                      context=context)

    program = programs.PROGRAMS["order_soon_and_later"]
    stock = harness.run(asyncio.SelectorEventLoop, program)
    assert harness.compare(stock, harness.run(Reversed, program))
