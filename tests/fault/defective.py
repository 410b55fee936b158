"""Loops with one planted defect each: the judge must find it."""
import asyncio
import ctypes
import os


class Leaking(asyncio.SelectorEventLoop):
    async def sock_connect(self, sock, address):
        try:
            return await super().sock_connect(sock, address)
        except OSError:
            os.dup(sock.fileno())
            raise


class ClosingTwice(asyncio.SelectorEventLoop):
    async def sock_connect(self, sock, address):
        try:
            return await super().sock_connect(sock, address)
        except OSError:
            # A second close by Python's own code would not count: see benign.py.
            number = sock.fileno()
            os.close(number)
            ctypes.CDLL(None).close(number)
            raise


class Hanging(asyncio.SelectorEventLoop):
    async def sock_connect(self, sock, address):
        try:
            return await super().sock_connect(sock, address)
        except OSError:
            return await self.create_future()


class Masking(asyncio.SelectorEventLoop):
    async def sock_connect(self, sock, address):
        try:
            return await super().sock_connect(sock, address)
        except OSError:
            raise RuntimeError("could not connect") from None


class Crashing(asyncio.SelectorEventLoop):
    async def sock_connect(self, sock, address):
        try:
            return await super().sock_connect(sock, address)
        except OSError:
            os.abort()
