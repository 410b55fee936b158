"""Loops with a defect each, made of asyncio's: the programs have to find every one."""
import asyncio
import os
from asyncio import selector_events


class _Transport(selector_events._SelectorSocketTransport):
    defect = ""
    reads = 0

    def _read_ready__data_received(self):
        self.reads += 1
        if self.defect == "loses" and self.reads == 3:
            try:
                self._sock.recv(5)
            except OSError:
                pass
        super()._read_ready__data_received()

    def pause_reading(self):
        if self.defect != "ignores_pause":
            super().pause_reading()

    def _call_connection_lost(self, exc):
        if self.defect == "lost_twice":
            self._protocol.connection_lost(exc)
        number = self._sock.fileno()
        super()._call_connection_lost(exc)
        if self.defect == "closes_twice":
            try:
                os.close(number)
            except OSError:
                pass


class _Loop(asyncio.SelectorEventLoop):
    transport = _Transport

    def _make_socket_transport(self, sock, protocol, waiter=None, *, extra=None, server=None,
                               **kw):
        return self.transport(self, sock, protocol, waiter, extra, server, **kw)


def _with(name):
    transport = type(name, (_Transport,), {"defect": name})
    return type(name, (_Loop,), {"transport": transport})


loses, ignores_pause, lost_twice, closes_twice = map(
    _with, ("loses", "ignores_pause", "lost_twice", "closes_twice"))
