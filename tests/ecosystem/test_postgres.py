"""asyncpg and psycopg, talking to a PostgreSQL over TCP, a Unix socket, and TLS."""
import pytest

pytestmark = [pytest.mark.ecosystem, pytest.mark.timeout(120)]

ASYNCPG = """
    import asyncpg, ssl
    how = sys.argv[1]
    where = {"user": "tester", "database": "postgres", "port": int(os.environ["DB_PORT"])}
    if how == "unix":
        where |= {"host": os.environ["DB_FOLDER"], "ssl": False}
    elif how == "tcp":
        where |= {"host": os.environ["DB_HOST"], "ssl": False}
    else:
        where |= {"host": os.environ["DB_HOST"],
                  "ssl": ssl.create_default_context(cafile=os.environ["DB_CA"])}

    async def queries(c):
        assert await c.fetchval("SELECT $1::int + 1", 41) == 42
        (row,) = await c.fetch("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        assert row["ssl"] is (how == "tls")
        rows = await c.fetch("SELECT i, repeat('x', 1000) AS s FROM generate_series(1, 5000) AS i")
        assert len(rows) == 5000 and rows[-1]["i"] == 5000
        big = os.urandom(3_000_000)
        assert await c.fetchval("SELECT $1::bytea", big) == big
        try:
            await c.execute("SELECT 1 / 0")
        except asyncpg.DivisionByZeroError:
            pass
        else:
            assert False
        async with c.transaction():
            total = 0
            async for record in c.cursor("SELECT generate_series(1, 300) AS i"):
                total += record["i"]
            assert total == 45150

    async def copy(c):
        await c.execute("CREATE TEMP TABLE t (i int, s text)")
        await c.copy_records_to_table("t", records=[(i, "row %d" % i) for i in range(20_000)])
        assert await c.fetchval("SELECT count(*) FROM t") == 20_000
        size = 0
        async def sink(data):
            nonlocal size
            size += len(data)
        await c.copy_from_query("SELECT * FROM t", output=sink)
        assert size == sum(len("%d\\trow %d\\n" % (i, i)) for i in range(20_000))

    async def listen(c, other):
        heard = asyncio.Queue()
        await c.add_listener("news", lambda *args: heard.put_nowait(args[3]))
        for n in range(5):
            await other.execute(f"NOTIFY news, '{n}'")
        assert [await heard.get() for _ in range(5)] == list("01234")

    async def cancel(c):
        try:
            await c.execute("SELECT pg_sleep(60)", timeout=0.1)
        except TimeoutError:
            pass
        else:
            assert False
        task = asyncio.create_task(c.execute("SELECT pg_sleep(60)"))
        while not await watcher.fetchval("SELECT count(*) FROM pg_stat_activity WHERE query = "
                                         "'SELECT pg_sleep(60)' AND state = 'active'"):
            pass
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert await c.fetchval("SELECT 1") == 1        # the connection goes on

    async def pool():
        async with asyncpg.create_pool(**where, min_size=2, max_size=8) as pool:
            async def ask(i):
                async with pool.acquire() as c:
                    return await c.fetchval("SELECT $1::int * 2", i)
            assert await asyncio.gather(*map(ask, range(200))) == [i * 2 for i in range(200)]

    async def main():
        global watcher
        assert type(asyncio.get_running_loop()) is kind
        c, watcher = await asyncpg.connect(**where), await asyncpg.connect(**where)
        await queries(c)
        await copy(c)
        await listen(c, watcher)
        await cancel(c)
        await c.close()
        await watcher.close()
        await pool()
        print("done")

    loop = new_loop()
    kind = type(loop)
    loop.close()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
"""

PSYCOPG = """
    import psycopg
    how = sys.argv[1]
    where = {"user": "tester", "dbname": "postgres", "port": os.environ["DB_PORT"],
             "host": os.environ["DB_FOLDER" if how == "unix" else "DB_HOST"],
             "sslmode": "verify-full" if how == "tls" else "disable"}
    if how == "tls":
        where["sslrootcert"] = os.environ["DB_CA"]

    async def main():
        assert type(asyncio.get_running_loop()) is kind
        connect = psycopg.AsyncConnection.connect
        async with await connect(**where, autocommit=True) as c, \\
                await connect(**where, autocommit=True) as other:
            async with c.cursor() as cursor:
                await cursor.execute("SELECT %s::int + 1", (41,))
                assert await cursor.fetchone() == (42,)
                await cursor.execute(
                    "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
                assert await cursor.fetchone() == (how == "tls",)
                big = os.urandom(3_000_000)
                await cursor.execute("SELECT %b::bytea", (big,))
                assert await cursor.fetchone() == (big,)
                await cursor.execute("CREATE TEMP TABLE t (i int, s text)")
                async with cursor.copy("COPY t FROM STDIN") as copy:
                    for i in range(20_000):
                        await copy.write_row((i, "row %d" % i))
                rows = 0
                async with cursor.copy("COPY t TO STDOUT") as copy:
                    async for row in copy.rows():
                        rows += 1
                assert rows == 20_000
            await c.execute("LISTEN news")
            for n in range(5):
                await other.execute(f"NOTIFY news, '{n}'")
            heard = [notice.payload async for notice in c.notifies(timeout=20, stop_after=5)]
            assert heard == list("01234")
            try:
                await asyncio.wait_for(c.execute("SELECT pg_sleep(60)"), 0.1)
            except TimeoutError:
                pass
            else:
                assert False
            cursor = await c.execute("SELECT 1")        # the connection goes on
            assert await cursor.fetchone() == (1,)
            try:
                await c.execute("SELECT 1 / 0")
            except psycopg.errors.DivisionByZero:
                pass
            else:
                assert False
        async def ask(i):
            async with await connect(**where) as c:
                return (await (await c.execute("SELECT %s::int * 2", (i,))).fetchone())[0]
        assert await asyncio.gather(*map(ask, range(15))) == [i * 2 for i in range(15)]
        print("done")

    loop = new_loop()
    kind = type(loop)
    loop.close()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
"""


@pytest.mark.parametrize("how", ["tcp", "unix", "tls"])
def test_asyncpg(script, postgres, how):
    pytest.importorskip("asyncpg")
    assert script(ASYNCPG, args=[how], env=postgres, timeout=90) == ["done"]


@pytest.mark.parametrize("how", ["tcp", "unix", "tls"])
def test_psycopg(script, postgres, how):
    pytest.importorskip("psycopg")
    assert script(PSYCOPG, args=[how], env=postgres, timeout=90) == ["done"]
