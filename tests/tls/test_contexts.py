"""SSLContext in full: callbacks, sessions, key logs, PSK, post-handshake authentication..."""
import asyncio
import ssl

import pytest
import support
import tlskit
from support import Recorder

V12, V13 = tlskit.VERSIONS


async def exchange(one, two, data=b"ping"):
    one.transport.write(data)
    await two.until(lambda: two.data.endswith(data))
    two.transport.write(data)
    await one.until(lambda: one.data.endswith(data))


@pytest.mark.parametrize("version", tlskit.VERSIONS, ids=lambda v: v.name)
def test_client_certificates(run, version):
    async def main():
        one, two = await tlskit.tls_pair(
            client=tlskit.client_context(version, cert=True),
            server=tlskit.server_context(version, client_ca=True))
        cert = two.transport.get_extra_info("peercert")
        assert ("email", "client@example.org") in cert["subjectAltName"]
        await exchange(one, two)
        await support.close(one, two)
    run(main())


def test_alpn(run):
    async def main():
        client, server = tlskit.client_context(), tlskit.server_context()
        client.set_alpn_protocols(["h2", "http/1.1"])
        server.set_alpn_protocols(["http/1.1"])
        one, two = await tlskit.tls_pair(client=client, server=server)
        for protocol in one, two:
            obj = protocol.transport.get_extra_info("ssl_object")
            assert obj.selected_alpn_protocol() == "http/1.1"
        await support.close(one, two)
    run(main())


# -- SNI --------------------------------------------------------------------

def test_sni_callback_swaps_the_context(run):
    async def main():
        other = tlskit.server_context()
        seen = []

        def choose(obj, name, context):
            seen.append((type(obj), name, context))
            obj.context = other

        server = tlskit.server_context(names=("wrong.example",))
        server.sni_callback = choose
        one, two = await tlskit.tls_pair(server=server)
        assert seen == [(ssl.SSLObject, "localhost", server)]
        assert two.transport.get_extra_info("ssl_object").context is other
        await exchange(one, two)
        await support.close(one, two)
    run(main())


def test_sni_callback_raises(run, unraisable):
    async def main():
        def fail(*args):
            raise ZeroDivisionError

        server = tlskit.server_context()
        server.sni_callback = fail
        a, b = support.socketpair()
        results = await asyncio.gather(
            tlskit.wrap(a, Recorder, tlskit.client_context()),
            tlskit.wrap(b, Recorder, server, server_side=True), return_exceptions=True)
        assert isinstance(results[0], (ssl.SSLError, ConnectionResetError))
        assert results[1].reason == "CALLBACK_FAILED"
        (text,) = unraisable.take()
        assert "ZeroDivisionError" in text
    run(main())


def test_abort_in_the_sni_callback(run):
    async def main():
        transports = []
        server = tlskit.server_context()
        server.sni_callback = lambda *args: transports[0].abort()
        two = Recorder()
        loop = asyncio.get_running_loop()
        _, two, sock = await support.connected("unix")
        upgraded = asyncio.ensure_future(
            loop.start_tls(two.transport, two, server, server_side=True))
        await support.turns(2)
        transports.append(two.transport)
        peer = tlskit.Peer(sock, tlskit.client_context(), server_hostname="localhost")
        with pytest.raises((ssl.SSLError, OSError)):
            await peer.handshake()
        await asyncio.wait([upgraded])
        assert upgraded.exception() is None or isinstance(upgraded.exception(), Exception)
        await support.turns(4)
        if not upgraded.exception() and upgraded.result():
            upgraded.result().abort()
        peer.close()
    run(main())


# -- sessions ---------------------------------------------------------------

@pytest.mark.parametrize("version", tlskit.VERSIONS, ids=lambda v: v.name)
def test_sessions(run, version):
    async def main():
        client, server = tlskit.client_context(version), tlskit.server_context(version)
        session, reused = None, []
        for _ in range(3):
            kept = session

            class Context(ssl.SSLContext):
                def wrap_bio(self, *args, **kwargs):
                    return super().wrap_bio(*args, session=kept, **kwargs)

            client.__class__ = Context
            one, two = await tlskit.tls_pair(client=client, server=server)
            await exchange(one, two)
            obj = one.transport.get_extra_info("ssl_object")
            reused.append(obj.session_reused)
            session = obj.session
            assert isinstance(session, ssl.SSLSession)
            one.transport.close()
            await one.saw("lost")
            await two.saw("lost")
        assert reused == [False, True, True]
    run(main())


# -- callbacks and logs -----------------------------------------------------

def test_keylog(run, tmp_path):
    async def main():
        client = tlskit.client_context()
        client.keylog_filename = str(tmp_path / "keys")
        one, two = await tlskit.tls_pair(client=client)
        await exchange(one, two)
        await support.close(one, two)

    run(main())
    assert "CLIENT_TRAFFIC_SECRET_0" in (tmp_path / "keys").read_text()


def test_message_callback(run):
    async def main():
        seen = []
        client = tlskit.client_context()
        client._msg_callback = lambda conn, direction, version, kind, message, data: seen.append(
            (type(conn), direction))
        one, two = await tlskit.tls_pair(client=client)
        await exchange(one, two)
        assert {direction for _, direction in seen} == {"read", "write"}
        assert {kind for kind, _ in seen} == {ssl.SSLObject}
        await support.close(one, two)
    run(main())


def test_message_callback_raises(run, errors):
    async def main():
        armed = []

        def fail(*args):
            if armed:
                raise ZeroDivisionError

        client = tlskit.client_context()
        client._msg_callback = fail
        one, peer = await tlskit.with_peer(client=client)
        armed.append(True)
        await peer.write(b"hello")
        await one.saw("lost")
        assert isinstance(one.lost, ZeroDivisionError)
        assert errors.take()
        peer.close()
    run(main())


@pytest.mark.skipif(not hasattr(ssl.SSLContext, "set_psk_client_callback"), reason="3.13 and later")
def test_psk(run):
    async def main():
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for context in client, server:
            context.maximum_version = V12
            context.set_ciphers("PSK")
        client.set_psk_client_callback(lambda hint: ("me", b"secret key"))
        server.set_psk_server_callback(lambda identity: b"secret key", "who?")
        one, two = await tlskit.tls_pair(client=client, server=server)
        assert "PSK" in one.transport.get_extra_info("cipher")[0]
        await exchange(one, two)
        await support.close(one, two)
    run(main())


@pytest.mark.skipif(not ssl.HAS_TLSv1_3, reason="TLS 1.3")
def test_post_handshake_authentication(run):
    async def main():
        client, server = tlskit.client_context(V13, cert=True), tlskit.server_context(V13)
        tlskit.authority().configure_trust(server)
        client.post_handshake_auth = server.post_handshake_auth = True
        server.verify_mode = ssl.CERT_REQUIRED
        one, two = await tlskit.tls_pair(client=client, server=server)
        await exchange(one, two)
        obj = two.transport.get_extra_info("ssl_object")
        assert obj.getpeercert() is None
        obj.verify_client_post_handshake()
        two.transport.write(b"who are you?")        # the request leaves with it
        await one.until(lambda: one.data.endswith(b"you?"))
        one.transport.write(b"me")
        await two.until(lambda: two.data.endswith(b"me"))
        assert obj.getpeercert()["subjectAltName"]
        await support.close(one, two)
    run(main())


# -- other people's contexts and objects ------------------------------------

def test_a_subclass_of_the_object(run):
    """Its own read() and write() are called, with each engine."""
    class Object(ssl.SSLObject):
        reads = writes = handshakes = 0

        def read(self, *args):
            Object.reads += 1
            return super().read(*args)

        def write(self, data):
            Object.writes += 1
            return super().write(data)

        def do_handshake(self):
            Object.handshakes += 1
            return super().do_handshake()

    async def main():
        client = tlskit.client_context()
        client.sslobject_class = Object
        one, two = await tlskit.tls_pair(client=client)
        assert type(one.transport.get_extra_info("ssl_object")) is Object
        await exchange(one, two, b"x" * 100000)
        assert Object.reads and Object.writes and Object.handshakes
        await support.close(one, two)
    run(main())


def test_a_subclass_that_makes_more_objects(run):
    class Object(ssl.SSLObject):
        @classmethod
        def _create(cls, *args, **kwargs):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            cls.others = [context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="x")
                          for _ in range(3)]
            del cls.others[0]
            return super()._create(*args, **kwargs)

    async def main():
        client = tlskit.client_context()
        client.sslobject_class = Object
        one, two = await tlskit.tls_pair(client=client)
        await exchange(one, two, b"x" * 100000)
        await support.close(one, two)
    run(main())


def test_overridden_handshake_rejects(run):
    class Object(ssl.SSLObject):
        def do_handshake(self):
            super().do_handshake()
            raise ssl.SSLCertVerificationError("not with you")

    async def main():
        client = tlskit.client_context()
        client.sslobject_class = Object
        a, b = support.socketpair()
        results = await asyncio.gather(
            tlskit.wrap(a, Recorder, client),
            tlskit.wrap(b, Recorder, tlskit.server_context(), server_side=True),
            return_exceptions=True)
        assert isinstance(results[0], ssl.SSLCertVerificationError)
        assert "not with you" in str(results[0])
        if isinstance(results[1], tuple):
            results[1][0].abort()
            await results[1][1].saw("lost")
        await support.io_turns(2)
    run(main())


def test_truststore(run):
    truststore = pytest.importorskip("truststore")

    async def main(trusted):
        client = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if trusted:
            tlskit.authority().configure_trust(client)
        a, b = support.socketpair()
        return await asyncio.gather(
            tlskit.wrap(a, Recorder, client),
            tlskit.wrap(b, Recorder, tlskit.server_context(), server_side=True),
            return_exceptions=True)

    async def good():
        (_, one), (_, two) = await main(True)
        await exchange(one, two)
        await support.close(one, two)

    async def bad():
        one, two = await main(False)
        assert isinstance(one, ssl.SSLCertVerificationError)
        if isinstance(two, tuple):
            await two[1].saw("lost")

    run(good())
    run(bad())


def test_ssl_true(run):
    async def main():
        a, b = support.socketpair("tcp")
        peer = tlskit.Peer(b, tlskit.server_context(), server_side=True)
        loop = asyncio.get_running_loop()
        shaken = asyncio.ensure_future(peer.handshake())
        with pytest.raises(ssl.SSLCertVerificationError):
            await loop.create_connection(Recorder, sock=a, ssl=True, server_hostname="localhost")
        with pytest.raises((ssl.SSLError, OSError)):
            await shaken
        peer.close()
    run(main())


# -- the contextvars context ------------------------------------------------

def test_contextvars(run):
    import contextvars
    var = contextvars.ContextVar("var", default="outside")

    async def main():
        seen = []

        def note(protocol, *args):
            seen.append(var.get())
            var.set("changed")

        var.set("maker")
        one, peer = await tlskit.with_peer(
            lambda: Recorder({"made": note, "data": note, "eof": note, "lost": note}))
        var.set("later")
        await peer.write(b"x")
        await one.saw("data")
        await peer.unwrap()
        await one.saw("lost")
        assert var.get() == "later"
        assert seen[0] == "maker"
        peer.close()
    run(main())
    assert var.get() == "outside"


