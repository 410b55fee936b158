"""Loops with one planted defect each: the judge must find it."""
import asyncio
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
            os.close(sock.fileno())
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
