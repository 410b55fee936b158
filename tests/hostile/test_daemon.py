"""A program that makes a daemon of itself closes every descriptor, the loop's too.

libuv ends a process whose epoll set is gone; asyncio's loop does not mind, or raises.
"""
import pytest

HELPERS = """
    def close_all():
        os.closerange(3, 200)

    warnings.simplefilter("ignore")
    loop = new_loop()
    loop.run_until_complete(asyncio.sleep(0))
"""

WAYS = {
    "close": """
    close_all()
    try:
        loop.close()
    except OSError:
        pass
    """,
    "drop": "close_all(); del loop; gc.collect()",
    "exit": "close_all()",
    "run": """
    close_all()
    try:
        loop.run_until_complete(asyncio.sleep(0.01))
    except (OSError, ValueError) as exc:
        pass
    """,
    "inside": """
    loop.call_soon(close_all)
    try:
        loop.run_until_complete(asyncio.sleep(0.01))
    except (OSError, ValueError) as exc:
        pass
    """,
    "threadsafe": """
    close_all()
    try:
        loop.call_soon_threadsafe(print)
        loop.stop()
        loop.run_forever()
    except (OSError, ValueError) as exc:
        pass
    """,
}


@pytest.mark.parametrize("reused", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_closed_descriptors(script, way, reused):
    """A file that has the set's number then is not mistaken for it."""
    more = "\n    real = close_all\n    def close_all():\n        real()\n" \
        "        keep.extend(tempfile.TemporaryFile() for _ in range(20))\n" if reused else ""
    out = script(f"    import gc, tempfile\n    keep = []\n{HELPERS}{more}\n    {WAYS[way]}\n"
                 "    print('still here')\n")
    assert out[-1] == "still here"


@pytest.mark.parametrize("end", ["pass", "kept = loop", "del loop; gc.collect()"])
def test_daemon_with_a_loop_of_its_own(script, end):
    out = script(f"""
    import gc
    {HELPERS}
    child = os.fork()
    if not child:
        os.closerange(3, 200)
        {end}
        own = new_loop()
        own.run_until_complete(asyncio.sleep(0))
        own.close()
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    loop.close()
    """)
    assert out == ["7"]
