"""Clients of a real PostgreSQL and a real Redis, which run on the load's core."""
import asyncio
import glob
import io
import os
import pwd
import shutil
import socket
import subprocess
import time

from .. import build
from ..case import process

ROWS = 100
PIPELINE = 50
COPIED = 20_000     # rows of one COPY
USER = "postgres"


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def answers(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("the server does not start, or the one before it does not end")
        time.sleep(0.02)


def as_postgres():
    """Options of setpriv: PostgreSQL refuses to run as root."""
    if os.geteuid():
        return []
    return [f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]


def cluster():
    """A data directory, made once; and the directory of the programs."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
    if not found:
        raise RuntimeError("needs PostgreSQL")
    programs = os.path.dirname(found[-1])
    data = build.BUILD / "postgres"
    if not (data / "PG_VERSION").exists():
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(parents=True)
        if not os.geteuid():
            user = pwd.getpwnam(USER)
            os.chown(data, user.pw_uid, user.pw_gid)
        subprocess.run(["setpriv", *as_postgres(), f"{programs}/initdb", "-D", data, "-A", "trust",
                        "-U", "bench", "--no-sync"], check=True, capture_output=True)
    return programs, data


def postgres(env):
    programs, data = cluster()
    port = free_port()
    wait_until(lambda: not (data / "postmaster.pid").exists())
    env.beside([f"{programs}/postgres", "-D", data, "-p", port, "-k", "", "-h", "127.0.0.1",
                "-F"], *as_postgres(), end="INT")
    wait_until(lambda: answers(port))
    return {"host": "127.0.0.1", "port": port, "user": "bench", "database": "postgres"}


async def ready(connect):
    """A connection, once the server has started."""
    while True:
        try:
            return await connect()
        except Exception as exc:
            if "starting up" not in str(exc):
                raise
            await asyncio.sleep(0.02)


def by_asyncpg(query, n):
    def body(env):
        import asyncpg
        where = postgres(env)
        conn = env.loop.run_until_complete(ready(lambda: asyncpg.connect(**where)))

        async def batch(n):
            for _ in range(n):
                await conn.fetch(query)

        return env.measure(batch, n)
    return body


def asyncpg_copy(env):
    import asyncpg
    where = postgres(env)
    rows = b"some text and a number\t12345\n" * COPIED

    async def connect():
        conn = await ready(lambda: asyncpg.connect(**where))
        await conn.execute("create temp table t (a text, b int)")
        return conn

    conn = env.loop.run_until_complete(connect())

    async def batch(n):
        for _ in range(n):
            await conn.execute("truncate t")
            await conn.copy_to_table("t", source=io.BytesIO(rows))

    return env.measure(batch, 2)


def by_psycopg(query, n):
    def body(env):
        import psycopg
        where = postgres(env)
        where["dbname"] = where.pop("database")
        conn = env.loop.run_until_complete(
            ready(lambda: psycopg.AsyncConnection.connect(**where, autocommit=True)))

        async def batch(n):
            for _ in range(n):
                cursor = await conn.execute(query)
                await cursor.fetchall()

        return env.measure(batch, n)
    return body


def redis_pipeline(env):
    import redis.asyncio
    program = shutil.which("redis-server")
    if program is None:
        raise RuntimeError("needs redis-server")
    port = free_port()
    env.beside([program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly",
                "no", "--dir", env.directory])
    wait_until(lambda: answers(port))
    client = redis.asyncio.Redis(port=port)

    async def batch(n):
        for _ in range(n // PIPELINE):
            async with client.pipeline(transaction=False) as pipe:
                for i in range(PIPELINE):
                    pipe.set(f"key{i}", b"value")
                await pipe.execute()

    return env.measure(batch, 4 * PIPELINE)


SELECT = f"select generate_series(1, {ROWS}), 'some text'"
process("db/asyncpg/one", "asyncpg, SELECT 1", by_asyncpg("select 1", 100), unit="query",
        target=1.2)
process("db/asyncpg/rows", "asyncpg, 100 rows", by_asyncpg(SELECT, 50), unit="query")
process("db/asyncpg/copy", f"asyncpg, COPY of {COPIED:,} rows", asyncpg_copy, unit="COPY")
process("db/psycopg/one", "psycopg, SELECT 1", by_psycopg("select 1", 100), unit="query")
process("db/psycopg/rows", "psycopg, 100 rows", by_psycopg(SELECT, 50), unit="query")
process("db/redis/pipeline", "redis, pipeline of 50 SET", redis_pipeline, unit="command",
        target=1.25)
