"""redis-py's asyncio client, talking to a Redis over TCP, a Unix socket, and TLS."""
import pytest

pytestmark = [pytest.mark.ecosystem, pytest.mark.timeout(120)]

PROGRAM = """
    import redis.asyncio as redis
    how = sys.argv[1]

    def client():
        if how == "unix":
            return redis.Redis(unix_socket_path=os.environ["DB_PATH"])
        if how == "tcp":
            return redis.Redis(host=os.environ["DB_HOST"], port=int(os.environ["DB_PORT"]))
        return redis.Redis(host=os.environ["DB_HOST"], port=int(os.environ["DB_TLS_PORT"]),
                           ssl=True, ssl_ca_certs=os.environ["DB_CA"])

    async def commands(r):
        assert await r.set("key", "value") and await r.get("key") == b"value"
        big = os.urandom(3_000_000)
        await r.set("big", big)
        assert await r.get("big") == big
        async with r.pipeline(transaction=True) as pipeline:
            for i in range(2000):
                pipeline.rpush("list", i)
            assert await pipeline.execute() == list(range(1, 2001))
        assert await r.lrange("list", 0, -1) == [b"%d" % i for i in range(2000)]
        async def ask(i):
            await r.set(f"k{i}", i)
            return int(await r.get(f"k{i}"))
        assert await asyncio.gather(*map(ask, range(100))) == list(range(100))
        try:
            await r.lpush("key", 1)
        except redis.ResponseError:
            pass
        else:
            assert False

    async def publish(r):
        async with r.pubsub() as pubsub:
            await pubsub.subscribe("news")
            assert (await pubsub.get_message(timeout=20))["type"] == "subscribe"
            for n in range(5):
                assert await r.publish("news", n) == 1
            heard = []
            async for message in pubsub.listen():
                heard.append(message["data"])
                if len(heard) == 5:
                    break
            assert heard == [b"0", b"1", b"2", b"3", b"4"]

    async def cancel(r):
        task = asyncio.create_task(r.blpop("nothing", timeout=60))
        while not [c for c in await r.client_list() if c["cmd"] == "blpop"]:
            pass
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert await r.get("key") == b"value"
        waiting = asyncio.create_task(r.blpop("something", timeout=60))
        await r.rpush("something", "here")
        assert await waiting == (b"something", b"here")

    async def main():
        assert type(asyncio.get_running_loop()) is kind
        async with client() as r:
            await r.flushall()
            await commands(r)
            await publish(r)
            await cancel(r)
        print("done")

    loop = new_loop()
    kind = type(loop)
    loop.close()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
"""


@pytest.mark.parametrize("how", ["tcp", "unix", "tls"])
def test_redis(script, redis, how):
    pytest.importorskip("redis.asyncio")
    assert script(PROGRAM, args=[how], env=redis, timeout=90) == ["done"]
