"""Resident memory of connections that do nothing."""
import asyncio
import gc
import json
import os
import subprocess

from ..case import process

PAIRS = 2000
PAGE = os.sysconf("SC_PAGESIZE")


def resident():
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * PAGE


class Quiet(asyncio.Protocol):
    everyone = []

    def connection_made(self, transport):
        self.transport = transport
        self.everyone.append(self)


def idle_pairs(env):
    """2,000 connections with both ends here; bytes per pair."""
    loop = env.loop
    loop.set_debug(False)

    async def main():
        where = await env.listen(Quiet)

        async def pairs(n):
            wanted = len(Quiet.everyone) + 2 * n
            for _ in range(n):
                await loop.create_connection(Quiet, "127.0.0.1", where["port"])
            while len(Quiet.everyone) < wanted:
                await asyncio.sleep(0.001)
        await pairs(100)
        before = resident()
        await pairs(PAIRS)
        return (resident() - before) / PAIRS

    return {"bytes": loop.run_until_complete(main())}


class Upload(Quiet):
    got = 0

    def data_received(self, data):
        Upload.got += len(data)


def tls_uploads(env):
    """TLS connections, each idle after it sent a message; bytes each."""
    loop = env.loop
    count, size = env.args["conns"], env.args["size"]

    async def main():
        where = await env.listen(Upload)
        before = resident()
        command = [env.load_program, "upload", "--tls", "--hold", "--size", str(size),
                   "--conns", str(count), "--port", str(where["port"])]
        load = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        told = await loop.run_in_executor(None, load.stdout.readline)
        assert json.loads(told)["uploaded"] == count
        while Upload.got < count * size:
            await asyncio.sleep(0.01)
        used = (resident() - before) / count
        load.stdin.close()
        load.wait()
        return used

    return {"bytes": loop.run_until_complete(main())}


process("memory/pair", "memory of an idle pair of connections", idle_pairs, limit=1700)
process("memory/tls", "memory of an idle TLS connection after 300KiB", tls_uploads,
        args={"over": "tls", "conns": 50, "size": 300 * 1024}, target=4)
process("memory/tls/10000", "memory of each of 10,000 idle TLS connections", tls_uploads,
        args={"over": "tls", "conns": 10_000, "size": 1024}, target=4, rounds=3)
