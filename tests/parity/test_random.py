"""Random sequences of transport operations, on both loops.

The amounts are such that the kernel's buffers make no difference: a little,
which always fits, or a lot, which never does.
"""
import asyncio
import os
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parity import harness

EXAMPLES = int(os.environ.get("TIDEWIRE_TEST_EXAMPLES", 25))
SMALL = st.integers(1, 30)

OPERATIONS = st.one_of(
    st.tuples(st.just("write"), SMALL),
    st.tuples(st.just("write"), st.just(2_000_000)),
    st.tuples(st.just("writelines"), st.integers(0, 4)),
    st.tuples(st.just("peer_send"), SMALL),
    st.tuples(st.sampled_from([
        "pause", "resume", "close", "abort", "write_eof", "switch",
        "buffered", "peer_read", "peer_shutdown", "peer_close",
        "write nothing", "limits", "limits back", "settle", "settle",
        "query", "get_protocol", "wrong write"]), st.just(0)),
)


async def sequence(t, kind, hooks, operations):
    transport, protocol, peer = await t.connected(kind, "p", hooks)
    exact, has_ended = ("abort", 0) not in operations, False
    names = iter("qrstuvwxyzabcdefghijklmno")
    await t.settle()
    for name, size in operations:
        if name == "write":
            t.attempt("p", name, transport.write, b"w" * size)
        elif name == "writelines":
            if has_ended and sys.version_info < (3, 12):
                continue        # there asyncio's message says write()
            t.attempt("p", name, transport.writelines, [b"l" * 3] * size)
        elif name == "write nothing":
            t.attempt("p", name, transport.write, b"")
        elif name == "wrong write":
            t.attempt("p", name, transport.write, "text")
        elif name in ("close", "abort", "write_eof"):
            t.attempt("p", name, getattr(transport, name))
            has_ended |= name == "write_eof"
        elif name in ("pause", "resume"):
            t.attempt("p", name, getattr(transport, name + "_reading"))
        elif name == "limits":
            t.attempt("p", name, transport.set_write_buffer_limits, 100, 10)
        elif name == "limits back":
            t.attempt("p", name, transport.set_write_buffer_limits)
        elif name in ("switch", "buffered"):
            protocol = t.protocol(next(names), hooks,
                                  buffered=name == "buffered")
            protocol.transport = transport
            t.attempt("p", name, transport.set_protocol, protocol)
        elif name == "get_protocol":
            t.note("p", transport.get_protocol() is protocol)
        elif name == "query":
            t.state("p", transport)
        elif name == "settle":
            await t.settle(2)
        elif peer.sock.fileno() < 0:
            continue
        elif name == "peer_send":
            peer.send(b"p" * size)
            # Data and what follows it are two events: let it arrive.
            await t.settle(2)
        elif name == "peer_read":
            await peer.read_all(exact=exact)
            await t.settle(2)
        elif name == "peer_shutdown":
            peer.shutdown()
            await t.settle(2)
        elif name == "peer_close":
            peer.close()
            await t.settle(2)
    t.state("p", transport)
    await t.settle()
    if peer.sock.fileno() >= 0:
        await peer.read_all(exact=exact)
    await t.settle()
    t.attempt("p", "close", transport.close)
    if peer.sock.fileno() >= 0:
        await peer.read_all(exact=exact)
        peer.at_eof()
    await t.settle()
    t.state("p", transport)


HOOKS = {
    "none": {},
    "half open": {"eof": lambda p: True},
    "echo": {"data": lambda p: p.transport.write(b"echo")},
    "polite": {"eof": lambda p: p.transport.write(b"bye") and None},
}


@pytest.mark.parametrize("hooks", HOOKS)
def test_random_operations(loop_factory, hooks):
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))
    @given(st.lists(OPERATIONS, max_size=14))
    def check(operations):
        args = sequence, "unix", HOOKS[hooks], operations
        for attempt in range(3):    # a busy machine may cut a phase short
            stock = harness.run(asyncio.SelectorEventLoop, *args)
            ours = harness.run(loop_factory, *args)
            differences = harness.compare(stock, ours)
            if not differences:
                return
        assert not differences, "\n".join([str(operations), *differences])

    check()
