"""Which engine is in use, why, and what it must be immune to."""
import os
import pathlib
import re
import shutil
import ssl
import subprocess
import sysconfig

import pytest
import support

pytestmark = pytest.mark.tidewire

SHARED = """
    import ssl, sys
    sys.path[:0] = {path!r}
    import tlskit
    from support import Recorder
    async def exchange(client=None, server=None, data=b"x" * 50000):
        one, two = await tlskit.tls_pair(client=client, server=server)
        one.transport.write(data)
        await two.got(data)
        two.transport.write(data)
        await one.got(data)
        await support.close(one, two)
        return one
    def run(coro):
        loop = new_loop()
        try:
            return loop.run_until_complete(asyncio.wait_for(coro, 10))
        finally:
            loop.close()
"""


not_sanitized = pytest.mark.skipif(
    support.is_sanitized(), reason="the sanitizers preload and keep memory")


@pytest.fixture
def program(script, engine):
    """script() with the kit at hand, on the engine of the test."""
    import textwrap
    shared = textwrap.dedent(SHARED).format(path=[os.path.dirname(__file__)])

    def program(source, **kwargs):
        return script(shared + textwrap.dedent(source), **kwargs)
    return program


def test_backend_says_which_and_why(engine):
    from tidewire import _core
    kind, detail = _core.tls_backend()
    if engine == "memorybio":
        assert (kind, detail) == ("memorybio", "TIDEWIRE_TLS=memorybio")
    else:
        assert kind == "direct" and re.search(r"libssl|_ssl|python", detail)


def test_engines_can_change_between_connections(program):
    program("""
        for engine in "direct", "memorybio", "direct":
            os.environ["TIDEWIRE_TLS"] = engine
            run(exchange())
    """)


def test_another_libssl_in_the_process(program, tmp_path):
    """A second copy of libssl, loaded first and globally, is not taken for the right one."""
    program("""
        import ctypes, shutil, glob
        paths = glob.glob("/lib/*/libssl.so.3") + glob.glob("/usr/lib64/libssl.so.3")
        if paths:
            copy = shutil.copy(paths[0], sys.argv[1])
            ctypes.CDLL(copy, ctypes.RTLD_GLOBAL)
        run(exchange())
        from tidewire import _core
        kind, path = _core.tls_backend()
        assert kind == "memorybio" or not path.startswith(sys.argv[1]), path
    """, args=[str(tmp_path)])


def test_an_ssl_module_of_another_libssl_is_refused(program):
    """The probe: a file that is not the ssl module's, though it has all the symbols."""
    program("""
        from tidewire import _core, _tls
        import ctypes, select
        # A C function that lies in another file than the ssl module's.
        _tls.SSL_LIBRARY = (len, *_tls.SSL_LIBRARY[1:])
        kind, why = _core.tls_backend()
        run(exchange())
        if os.environ["TIDEWIRE_TLS"] == "direct" and "linux" in sys.platform:
            assert kind in ("memorybio", "direct"), (kind, why)
            print(kind, why)
    """)


@pytest.mark.parametrize(("version", "number", "why"), [
    ("OpenSSL 1.1.1 (compatible; AWS-LC 1.28.0)", (1, 1, 1, 0, 0), "the ssl module uses AWS-LC, not"),
    ("BoringSSL", (1, 1, 1, 0, 0), "the ssl module uses BoringSSL, not"),
    ("LibreSSL 3.9.2", (2, 0, 0, 0, 0), "the ssl module uses LibreSSL, not"),
    ("OpenSSL 1.1.1 (compatible; SomethingSSL 1.0)", (1, 1, 1, 0, 0), "does not use OpenSSL"),
    ("wolfSSL 5.7", (3, 0, 0, 0, 0), "does not use OpenSSL"),
    ("OpenSSL 1.1.0l  10 Sep 2019", (1, 1, 0, 12, 15), "is not known"),
    ("OpenSSL 5.0.0 1 Jan 2030", (5, 0, 0, 0, 0), "is not known"),
])
def test_a_library_that_is_not_openssl(program, engine, version, number, why):
    """By what the ssl module says of it, before a function of it is called."""
    if engine != "direct":
        pytest.skip("it is not asked for")
    program(f"""
        import importlib, ssl
        from tidewire import _core, _tls
        ssl.OPENSSL_VERSION, ssl.OPENSSL_VERSION_INFO = {version!r}, {number!r}
        importlib.reload(_tls)
        kind, reason = _core.tls_backend()
        assert kind == "memorybio" and {why!r} in reason and {version!r} in reason, (kind, reason)
        run(exchange())
    """)


def test_versions_of_openssl_that_are_known():
    from tidewire import _tls
    for version, number in (("OpenSSL 1.1.1w  11 Sep 2023", (1, 1, 1, 23, 15)),
                            ("OpenSSL 3.0.2 15 Mar 2022", (3, 0, 0, 2, 0)),
                            ("OpenSSL 3.5.4 30 Sep 2025", (3, 5, 0, 4, 0)),
                            ("OpenSSL 4.0.0 1 Apr 2026", (4, 0, 0, 0, 0))):
        assert _tls.why_not(version, number) is None


FORK = """
#include <Python.h>
#define X(name) void name(void) { abort(); }
%s
%s
static PyObject *f(PyObject *self, PyObject *unused) { Py_RETURN_NONE; }
static PyMethodDef methods[] = {{"f", f, METH_NOARGS, NULL}, {NULL}};
static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, "fork", NULL, 0, methods};
PyMODINIT_FUNC PyInit_fork(void) { return PyModule_Create(&def); }
"""


@not_sanitized
@pytest.mark.parametrize(("extra", "why"), [
    ("const char *OpenSSL_version(int t) { return SAYS; } X(awslc_version_string)", "a fork"),
    ("const char *OpenSSL_version(int t) { return SAYS; } X(BORINGSSL_self_test)", "a fork"),
    ('const char *OpenSSL_version(int t) { return "OpenSSL 3.9"; }', "another OpenSSL"),
])
def test_a_fork_by_its_symbols(program, engine, tmp_path, extra, why):
    """A file with all the functions, each of which ends the process when it is called."""
    if engine != "direct":
        pytest.skip("it is not asked for")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here")
    header = pathlib.Path(__file__).parents[2] / "csrc/tls/libssl.h"
    names = [n for n in re.findall(r"^    X\((\w+)\)", header.read_text(), re.MULTILINE)
             if n != "OpenSSL_version"]
    source = tmp_path / "fork.c"
    source.write_text(FORK % ("".join(f"X({n})\n" for n in names), extra))
    done = subprocess.run(
        [compiler, "-shared", "-fPIC", f"-I{sysconfig.get_path('include')}",
         f'-DSAYS="{ssl.OPENSSL_VERSION}"', source, "-o", tmp_path / "fork.so"],
        capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot compile: {done.stderr[:200]}")
    program(f"""
        sys.path.insert(0, {str(tmp_path)!r})
        import fork
        from tidewire import _core, _tls
        _tls.SSL_LIBRARY = (fork.f, *_tls.SSL_LIBRARY[1:])
        kind, reason = _core.tls_backend()
        assert kind == "memorybio" and {why!r} in reason, (kind, reason)
        run(exchange())
    """)


@not_sanitized
def test_preloaded_libssl(program):
    import glob
    paths = glob.glob("/lib/*/libssl.so.3") + glob.glob("/usr/lib64/libssl.so.3")
    if not paths:
        pytest.skip("no libssl.so.3 here")
    program("run(exchange())", env={"LD_PRELOAD": paths[0]})


def test_a_stale_error_queue(program, engine):
    """Errors that somebody else left in OpenSSL's queue are not ours."""
    if engine != "direct":
        pytest.skip("the ssl module's own methods look at the queue")
    program("""
        import ctypes
        from tidewire import _core
        lib = ctypes.CDLL(_core.tls_backend()[1])
        put = lib.ERR_put_error if hasattr(lib, "ERR_put_error") else None

        def litter():
            if put is not None:
                put(20, 0, 193, b"nowhere.c", 1)
            else:
                lib.ERR_new()
                lib.ERR_set_error(20, 193, None)

        async def main():
            one, peer = await tlskit.with_peer()
            for i in range(20):
                await peer.write(b"x" * 5000)
                litter()
                await one.got(5000 * (i + 1))
                litter()
                one.transport.write(b"y" * 5000)
                lib.ERR_clear_error()
                assert len(await peer.read_exactly(5000)) == 5000
            # Half a record: the read that waits for more.
            record = peer.record(b"z" * 1000)
            await peer.raw(record[:500])
            await support.io_turns(3)
            litter()
            await peer.raw(record[500:])
            await one.got(101000)
            lib.ERR_clear_error()
            end = peer.close_notify()
            litter()
            await peer.raw(end)
            await one.saw("lost")
            assert one.lost is None, one.lost
            peer.close()
        run(main())
    """)


def test_fork(program):
    program("""
        run(exchange())
        pid = os.fork()
        if pid == 0:
            try:
                run(exchange())
            except BaseException:
                os._exit(1)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        run(exchange())
    """, python=("-X", "faulthandler", "-W", "ignore::DeprecationWarning"))


def test_threads_share_a_context(program):
    program("""
        client, server = tlskit.client_context(), tlskit.server_context()
        failed = []

        def work():
            try:
                for _ in range(8):
                    run(exchange(client, server))
            except BaseException as exc:
                failed.append(exc)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed, failed
    """, timeout=60)


def test_two_loops_in_turns(program):
    program("""
        loops = [new_loop(), new_loop()]
        made = [loop.run_until_complete(tlskit.with_peer()) for loop in loops]
        for round in range(5):
            for loop, (one, peer) in zip(loops, made):
                async def go():
                    await peer.write(b"x" * 100000)
                    await one.got(100000 * (round + 1))
                loop.run_until_complete(go())
        for loop, (one, peer) in zip(loops, made):
            loop.run_until_complete(tlskit.finish(one, peer))
            loop.close()
    """)


@not_sanitized
def test_connections_do_not_grow_the_process(program):
    """Memory stays flat over thousands of connections."""
    out = program("""
        import resource
        client, server = tlskit.client_context(), tlskit.server_context()
        server.num_tickets = 0

        def rss():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * resource.getpagesize()

        async def main():
            for _ in range(150):
                await exchange(client, server, b"x" * 3000)
            gc.collect()
            before = rss()
            for _ in range(600):
                await exchange(client, server, b"x" * 3000)
            gc.collect()
            print((rss() - before) // 1024)

        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
    """, timeout=100)
    assert int(out[-1]) < 1500, out


@not_sanitized
def test_idle_connections_hold_no_buffers(program):
    out = program("""
        import resource

        def rss():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * resource.getpagesize()

        async def main():
            client, server = tlskit.client_context(), tlskit.server_context()
            async def one():
                left, right = await tlskit.tls_pair(client=client, server=server)
                left.transport.write(b"x" * 300000)
                while len(right.data) < 300000:
                    await support.io_turns(1)
                right.events.clear()
                return left, right
            warm = [await one() for _ in range(20)]
            gc.collect()
            before = rss()
            more = [await one() for _ in range(100)]
            gc.collect()
            print((rss() - before) // 100 // 1024)
            for left, right in warm + more:
                await support.close(left, right)

        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
    """, timeout=100)
    assert int(out[-1]) < 220, out      # KiB for a pair: OpenSSL's own, mostly


def test_no_libssl_is_linked():
    from tidewire import _core
    if shutil.which("readelf") is None:
        pytest.skip("no readelf here")
    needed = subprocess.check_output(["readelf", "-d", _core.__file__], text=True)
    assert "libssl" not in needed and "libcrypto" not in needed


def test_an_interpreter_without_tls(program):
    """No ssl module: everything but TLS works, and TLS says what asyncio says."""
    program("""
        import subprocess, textwrap
        source = '''
            import sys
            sys.modules["_ssl"] = None
            import asyncio, tidewire
            from tidewire import _core
            assert _core.tls_backend() == ("memorybio", "there is no ssl module"), _core.tls_backend()
            async def main():
                loop = asyncio.get_running_loop()
                try:
                    await loop.start_tls(None, None, None)
                except RuntimeError as exc:
                    assert str(exc) == "Python ssl module is not available"
                else:
                    raise AssertionError
                await asyncio.sleep(0)
            loop = tidewire.new_event_loop()
            loop.run_until_complete(main())
            loop.close()
        '''
        if "tidewire" in new_loop.__module__:
            env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
                   "TIDEWIRE_TLS": ""}
            subprocess.run([sys.executable, "-c", textwrap.dedent(source)], check=True, env=env)
    """)


@pytest.mark.tidewire
@pytest.mark.skipif(support.is_sanitized(), reason="greenlet copies stacks, which a sanitizer refuses")
def test_a_greenlet_waits_inside_wrap_bio(script):
    """Other connections are made meanwhile: each still finds its own object of OpenSSL's."""
    pytest.importorskip("greenlet")
    out = script("""
        import ssl
        from greenlet import greenlet

        class Context(ssl.SSLContext):
            def wrap_bio(self, *args, **kwargs):
                made = super().wrap_bio(*args, **kwargs)
                main.switch()
                return made

        def connect(context):
            one, two = socket.socketpair()
            one.setblocking(False)
            kept.append(two)
            return loop._make_ssl_transport(one, asyncio.Protocol(), context, None,
                                            server_hostname="localhost")

        def deep(n):
            kept.append([plain.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO()) for _ in range(5)])
            if n:
                deep(n - 1)
            kept.pop()

        async def run():
            own = Context(ssl.PROTOCOL_TLS_CLIENT)
            waiting = [greenlet(lambda: made.append(connect(own))) for _ in range(3)]
            for each in waiting:
                each.switch()
            deep(100)
            made.extend(connect(plain) for _ in range(3))
            for each in waiting:        # not in the order of a stack
                each.switch()
            made.extend(connect(plain) for _ in range(3))
            for transport in made:
                transport.abort()
            await asyncio.sleep(0.01)

        plain = ssl.create_default_context()
        kept, made = [], []
        main = greenlet.getcurrent()
        loop = new_loop()
        loop.run_until_complete(run())
        loop.close()
        print(len(made))
    """)
    assert out == ["9"]
