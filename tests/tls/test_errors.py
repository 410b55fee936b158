"""The matrix of errors: asyncio and both engines, field by field.

Each scenario runs on asyncio's own loop and on ours; what a program can see
of the failure must be the same: type, args, errno, library, reason,
verify_code, verify_message, the callbacks, the reports.
"""
import asyncio
import re
import socket
import ssl

import pytest
import support
import tlskit

pytestmark = pytest.mark.tidewire

SCENARIOS = {}


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


def describe(exc):
    """Everything there is to see of an exception."""
    if exc is None or isinstance(exc, (str, bytes)):
        return exc
    text = re.sub(r"_ssl\.c:\d+", "_ssl.c", str(exc))
    args = [re.sub(r"_ssl\.c:\d+", "_ssl.c", a) if isinstance(a, str) else a for a in exc.args]
    fields = {name: getattr(exc, name, "-") for name in (
        "errno", "library", "reason", "verify_code", "verify_message", "strerror")}
    if isinstance(fields["strerror"], str):
        fields["strerror"] = re.sub(r"_ssl\.c:\d+", "_ssl.c", fields["strerror"])
    return type(exc).__name__, text, args, fields


class Seen:
    """What one run showed."""

    def __init__(self):
        self.protocol = support.Recorder()
        self.connected = None
        self.reports = []

    def result(self):
        events = [(e[0], *map(describe, e[1:])) if e[0] == "lost" else e
                  for e in self.protocol.events]
        reports = [(c["message"], describe(c.get("exception"))) for c in self.reports]
        return {"connected": self.connected, "events": events, "reports": reports}


def observe(factory, function, debug=False):
    loop = factory()
    loop.set_debug(debug)
    loop.slow_callback_duration = 60
    seen = Seen()
    loop.set_exception_handler(lambda loop, context: seen.reports.append(context))
    try:
        loop.run_until_complete(asyncio.wait_for(function(seen), 10))
        loop.run_until_complete(support.io_turns(3))
        return seen.result()
    finally:
        loop.close()


async def connect(seen, sock, context, server_side=False, **kwargs):
    """Our side; notes how it went, and waits for the end if there was a start."""
    try:
        await tlskit.wrap(sock, lambda: seen.protocol, context, server_side=server_side, **kwargs)
    except Exception as exc:
        seen.connected = describe(exc)
        sock.close()
    else:
        seen.connected = True


async def against(seen, peer_side, ours, theirs, *, server_side=False, **kwargs):
    """Ours against a Peer which does peer_side(peer); then see the end."""
    a, b = socket.socketpair()
    a.setblocking(False)
    b.setblocking(False)
    peer = tlskit.Peer(b, theirs, server_side=not server_side,
                       server_hostname=tlskit.NAME if server_side else None)

    async def other():
        try:
            await peer_side(peer)
        except (ssl.SSLError, OSError):
            pass

    mine = connect(seen, a, ours, server_side, **kwargs)
    await asyncio.gather(mine, other())
    if seen.connected is True:
        await seen.protocol.saw("lost")
    b.close()


async def shake(peer):
    await peer.handshake()
    await peer.read()


# -- the handshake fails ----------------------------------------------------

@scenario
async def wrong_host(seen):
    await against(seen, shake, tlskit.client_context(), tlskit.server_context(),
                  server_hostname="example.org")


@scenario
async def wrong_address(seen):
    await against(seen, shake, tlskit.client_context(), tlskit.server_context(),
                  server_hostname="127.0.0.9")


@scenario
async def untrusted(seen):
    await against(seen, shake, tlskit.client_context(trust=False), tlskit.server_context())


def missing_client_certificate(version):
    async def client_side(seen):
        await against(seen, shake, tlskit.client_context(version),
                      tlskit.server_context(version, client_ca=True))

    async def server_side(seen):
        await against(seen, shake, tlskit.server_context(version, client_ca=True),
                      tlskit.client_context(version), server_side=True)
    return client_side, server_side


for _version in tlskit.VERSIONS:
    for _side, _function in zip(("client", "server"), missing_client_certificate(_version)):
        SCENARIOS[f"no_client_certificate_{_version.name}_{_side}"] = _function


async def speak_12(seen, server_side):
    old, new = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    if server_side:
        await against(seen, shake, tlskit.server_context(new), tlskit.client_context(old),
                      server_side=True)
    else:
        await against(seen, shake, tlskit.client_context(new), tlskit.server_context(old))


@scenario
async def no_common_version_client(seen):
    await speak_12(seen, False)


@scenario
async def no_common_version_server(seen):
    await speak_12(seen, True)


@scenario
async def no_common_cipher(seen):
    old = ssl.TLSVersion.TLSv1_2
    ours, theirs = tlskit.server_context(old), tlskit.client_context(old)
    ours.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    theirs.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    await against(seen, shake, ours, theirs, server_side=True)


@scenario
async def sni_callback_returns_an_alert(seen):
    ours = tlskit.server_context()
    ours.sni_callback = lambda *args: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    await against(seen, shake, ours, tlskit.client_context(), server_side=True)


@scenario
async def alert_from_the_peers_sni_callback(seen):
    theirs = tlskit.server_context()
    theirs.sni_callback = lambda *args: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    await against(seen, shake, tlskit.client_context(), theirs)


@scenario
async def plain_http_to_a_tls_server(seen):
    async def speak(peer):
        await peer.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await peer.feed()
    await against(seen, speak, tlskit.server_context(), tlskit.client_context(), server_side=True)


def talk(data, server_side):
    async def run(seen):
        async def speak(peer):
            await peer.raw(data)
            peer.sock.shutdown(socket.SHUT_WR)
            await peer.feed()
        if server_side:
            await against(seen, speak, tlskit.server_context(), tlskit.client_context(),
                          server_side=True)
        else:
            await against(seen, speak, tlskit.client_context(), tlskit.server_context())
    return run


for _side in (False, True):
    for _name, _data in {
            "eof_in_handshake": b"",
            "half_a_header": b"\x16\x03\x01",
            "half_a_hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 50,
            "garbage": bytes(range(200, 256)) * 20,
            "wrong_version": b"\x16\x09\x09\x00\x05hello",
            "an_alert": b"\x15\x03\x01\x00\x02\x02\x28",
            "zeros": bytes(1000)}.items():
        SCENARIOS[f"{_name}_{'server' if _side else 'client'}"] = talk(_data, _side)


@scenario
async def reset_in_handshake(seen):
    a, b = support.socketpair("tcp")
    support.reset(b)
    await connect(seen, a, tlskit.client_context())


@scenario
async def handshake_timeout(seen):
    a, b = support.socketpair()
    await connect(seen, a, tlskit.client_context(), ssl_handshake_timeout=0.02)
    b.close()


@scenario
async def bad_timeouts(seen):
    texts = []
    for name in "ssl_handshake_timeout", "ssl_shutdown_timeout":
        for value in (0, -1, -0.5):
            a, b = support.socketpair()     # late in 3.14 a failure closes it
            try:
                await tlskit.wrap(a, lambda: seen.protocol, tlskit.client_context(), **{name: value})
            except ValueError as exc:
                texts.append(str(exc))
            a.close()
            b.close()
    seen.connected = str(texts)


# -- later ------------------------------------------------------------------

def later(version, server_side=False):
    """Register a scenario after the handshake: function(peer)."""
    def register(function):
        async def run(seen):
            async def speak(peer):
                await peer.handshake()
                await function(peer)
                await peer.read_all()
            if server_side:
                await against(seen, speak, tlskit.server_context(version),
                              tlskit.client_context(version), server_side=True)
            else:
                await against(seen, speak, tlskit.client_context(version),
                              tlskit.server_context(version))
        side = "server" if server_side else "client"
        SCENARIOS[f"{function.__name__}_{version.name}_{side}"] = run
        return function
    return register


def everywhere(function):
    for version in tlskit.VERSIONS:
        for server_side in (False, True):
            later(version, server_side)(function)
    return function


def flip(data, at):
    out = bytearray(data)
    out[at] ^= 0x55
    return bytes(out)


@everywhere
async def bad_mac(peer):
    await peer.raw(flip(peer.record(b"hello"), -1))


@everywhere
async def bad_mac_after_good_data(peer):
    await peer.raw(peer.record(b"good"))
    await asyncio.sleep(0.01)
    await peer.raw(flip(peer.record(b"hello"), 8))


@everywhere
async def bad_record_version(peer):
    await peer.raw(flip(peer.record(b"hello"), 1))


@everywhere
async def bad_record_type(peer):
    await peer.raw(flip(peer.record(b"hello"), 0))


@everywhere
async def over_long_record(peer):
    await peer.raw(b"\x17\x03\x03\xff\xff" + b"x" * 1000)


@everywhere
async def empty_records(peer):
    await peer.raw(b"\x17\x03\x03\x00\x00" * 100)
    peer.sock.shutdown(socket.SHUT_WR)


@everywhere
async def nonsense(peer):
    await peer.raw(b"this is no TLS at all")


@everywhere
async def plain_alert(peer):
    await peer.raw(b"\x15\x03\x03\x00\x02\x02\x28")


@everywhere
async def raw_eof(peer):
    peer.sock.shutdown(socket.SHUT_WR)


@everywhere
async def eof_in_a_record(peer):
    await peer.raw(peer.record(b"hello")[:-3])
    peer.sock.shutdown(socket.SHUT_WR)


@everywhere
async def clean_end(peer):
    await peer.raw(peer.record(b"hello") + peer.close_notify())


@everywhere
async def garbage_after_close_notify(peer):
    await peer.raw(peer.record(b"hello") + peer.close_notify() + b"garbage")


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_matrix(name, loop_factory, debug):
    if debug and "_server" in name:
        pytest.skip("debug mode changes what is logged, once is enough")
    function = SCENARIOS[name]
    expected = observe(asyncio.SelectorEventLoop, function, debug)
    found = observe(loop_factory, function, debug)
    assert found == expected
