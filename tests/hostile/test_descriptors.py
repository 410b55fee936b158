"""Descriptors that are closed or reused while the loop watches them.

libuv ends the process when epoll_ctl fails; asyncio goes on.  So each of
these is a program of its own.
"""
import pytest

HELPERS = """
    async def turns(n=5):
        for _ in range(n):
            await asyncio.sleep(0.001)

    def reuse(number, what):
        "Open something that gets this descriptor's number."
        if what == "nothing":
            return []
        if what == "file":
            import tempfile
            made = tempfile.TemporaryFile()
        elif what == "socket":
            made = socket.socketpair()[0]
        elif what == "pipe":
            r, w = os.pipe()
            os.write(w, b"x")
            made = open(r, "rb", buffering=0)
            keep.append(w)
        elif what == "listener":
            made = socket.socket()
            made.bind(("127.0.0.1", 0))
            made.listen()
        if made.fileno() != number:
            os.dup2(made.fileno(), number)
            keep.append(made)
            return []
        return [made]

    keep = []
    reports = []
    warnings.simplefilter("ignore")
    loop = new_loop()
    loop.set_exception_handler(lambda l, c: reports.append(c))

    async def works():
        "The loop is in good health: a new connection carries data."
        one, two = await support.pair("tcp")
        one.transport.write(b"fine")
        await two.got(b"fine")
        await support.close(one, two)
        a, b = support.socketpair()
        done = loop.create_future()
        loop.add_reader(b, lambda: done.done() or done.set_result(b.recv(10)))
        a.send(b"x")
        assert await asyncio.wait_for(done, 5) == b"x"
        loop.remove_reader(b)
        a.close(); b.close()
        return "works"
"""

reused = pytest.mark.parametrize(
    "what", ["nothing", "file", "socket", "pipe", "listener"])


@pytest.fixture
def hostile(script):
    import textwrap

    def hostile(body, **kwargs):
        text = textwrap.dedent(HELPERS) + textwrap.dedent(body)
        out = script(text + "\nloop.close()\n", **kwargs)
        assert out[-1] == "works"
        return out[:-1]
    return hostile


@reused
@pytest.mark.parametrize("how", ["os.close", "socket.close"])
def test_reader(hostile, what, how):
    hostile(f"""
        async def main():
            a, b = support.socketpair()
            loop.add_reader(b.fileno(), lambda: None)
            await turns(2)
            number = b.fileno()
            if {how!r} == "os.close":
                os.close(b.detach())
            else:
                b.close()
            made = reuse(number, {what!r})
            await turns()
            a.close()
            await turns()
            loop.remove_reader(number)
            await turns(2)
            print(await works())
        loop.run_until_complete(main())
    """)


@reused
def test_reader_that_is_changed_afterwards(hostile, what):
    """add_writer on the same number, after it became something else."""
    hostile(f"""
        async def main():
            a, b = support.socketpair()
            number = b.fileno()
            loop.add_reader(number, lambda: None)
            await turns(2)
            os.close(b.detach())
            made = reuse(number, {what!r})
            try:
                loop.add_writer(number, lambda: loop.remove_writer(number))
            except OSError as exc:
                pass
            await turns()
            loop.remove_reader(number)
            loop.remove_writer(number)
            await turns(2)
            a.close()
            print(await works())
        loop.run_until_complete(main())
    """)


@reused
def test_writer(hostile, what):
    hostile(f"""
        async def main():
            a, b = support.socketpair()
            number = b.fileno()
            try:
                while True:
                    b.send(b"x" * 65536)
            except BlockingIOError:
                pass
            loop.add_writer(number, lambda: None)
            await turns(2)
            os.close(b.detach())
            made = reuse(number, {what!r})
            await turns()
            loop.remove_writer(number)
            await turns(2)
            a.close()
            print(await works())
        loop.run_until_complete(main())
    """)


@reused
def test_removed_after_it_was_closed(hostile, what):
    hostile(f"""
        async def main():
            a, b = support.socketpair()
            number = b.fileno()
            loop.add_reader(number, lambda: None)
            await turns(2)
            os.close(b.detach())
            made = reuse(number, {what!r})
            assert loop.remove_reader(number) is True
            assert loop.remove_reader(number) is False
            await turns()
            a.close()
            print(await works())
        loop.run_until_complete(main())
    """)


def test_added_and_closed_without_a_poll_between(hostile):
    hostile("""
        async def main():
            a, b = support.socketpair()
            number = b.fileno()
            loop.add_reader(number, lambda: None)
            os.close(b.detach())
            await turns()
            loop.remove_reader(number)
            await turns(2)
            a.close()
            print(await works())
        loop.run_until_complete(main())
    """)


def test_added_closed_and_reused_by_a_file_without_a_poll(hostile):
    hostile("""
        async def main():
            a, b = support.socketpair()
            number = b.fileno()
            loop.add_reader(number, lambda: None)
            os.close(b.detach())
            made = reuse(number, "file")
            await turns()
            loop.remove_reader(number)
            await turns(2)
            a.close()
            print(await works())
        loop.run_until_complete(main())
    """)


@reused
@pytest.mark.parametrize("state", ["reading", "paused", "blocked writer",
                                   "paused blocked writer"])
def test_under_a_transport(hostile, what, state):
    """Somebody closes the transport's descriptor behind its back."""
    hostile(f"""
        async def main():
            transport, protocol, peer = await support.connected("tcp")
            state = {state!r}
            if "paused" in state:
                transport.pause_reading()
            if "blocked" in state:
                support.fill(transport)
            await turns(2)
            number = transport.get_extra_info("socket").fileno()
            os.close(number)
            made = reuse(number, {what!r})
            await turns()
            failed = False
            for call in (lambda: "paused" in state
                                 and transport.resume_reading(),
                         lambda: transport.write(b"more"),
                         lambda: transport.write(b"x" * 100000),
                         lambda: transport.abort()):
                try:
                    call()
                except OSError:
                    failed = True       # asyncio's selector says so
                await turns()
            for _ in range(100):
                if "lost" in protocol.names:
                    break
                await asyncio.sleep(0.001)
            assert protocol.names.count("lost") == 1 or failed, protocol.names
            peer.close()
            await turns(2)
            print(await works())
        loop.run_until_complete(main())
        loop.close()
        os._exit(0) if not sys.stdout.flush() else None
    """)


@reused
def test_under_a_server(hostile, what):
    hostile(f"""
        async def main():
            server = await loop.create_server(support.Recorder,
                                              "127.0.0.1", 0)
            await turns(2)
            number = server.sockets[0].fileno()
            os.close(number)
            made = reuse(number, {what!r})
            await turns()
            try:
                server.close()
            except OSError:
                pass
            await turns()
            print(await works())
        loop.run_until_complete(main())
        loop.close()
        os._exit(0) if not sys.stdout.flush() else None
    """)


@reused
@pytest.mark.parametrize("operation", ["recv", "sendall", "accept"])
def test_under_a_socket_operation(hostile, what, operation):
    hostile(f"""
        async def main():
            a, b = support.socketpair()
            if {operation!r} == "recv":
                task = asyncio.ensure_future(loop.sock_recv(b, 10))
            elif {operation!r} == "sendall":
                task = asyncio.ensure_future(
                    loop.sock_sendall(b, b"x" * 10_000_000))
            else:
                b.close()
                b = socket.socket()
                b.bind(("127.0.0.1", 0))
                b.listen()
                b.setblocking(False)
                task = asyncio.ensure_future(loop.sock_accept(b))
            await turns(2)
            number = b.fileno()
            b.close()
            made = reuse(number, {what!r})
            await turns()
            task.cancel()
            try:
                await task
            except (asyncio.CancelledError, OSError, ValueError):
                pass
            await turns(2)
            a.close()
            print(await works())
        loop.run_until_complete(main())
    """)


def test_loop_closed_over_closed_descriptors(hostile):
    hostile("""
        async def main():
            transport, protocol, peer = await support.connected("tcp")
            other, _, other_peer = await support.connected("tcp")
            support.fill(other)
            a, b = support.socketpair()
            loop.add_reader(b, print)
            await turns(2)
            for number in (transport.get_extra_info("socket").fileno(),
                           other.get_extra_info("socket").fileno(),
                           b.fileno()):
                os.close(number)
            keep.extend([transport, other, a, b, peer, other_peer])
        loop.run_until_complete(main())
        loop.close()
        loop = new_loop()
        print(loop.run_until_complete(works()))
        loop.close()
        sys.stdout.flush()
        os._exit(0)
    """)


def test_the_loops_own_descriptor_closed(script):
    """No promise but one: it ends with an error, it does not spin."""
    done = script("""
        loop = new_loop()
        before = set(os.listdir("/proc/self/fd"))
        fds = [int(f) for f in before]
        epolls = [fd for fd in fds if os.path.exists(f"/proc/self/fd/{fd}")
                  and "eventpoll" in os.readlink(f"/proc/self/fd/{fd}")]
        os.close(epolls[-1])
        try:
            loop.run_until_complete(asyncio.sleep(0.01))
        except OSError as exc:
            print("OSError", exc.errno)
        sys.stdout.flush()
        os._exit(0)
    """, check=False)
    assert done.returncode in (0, -6), done.stderr


def test_the_loops_own_descriptors_closed_and_nothing_else_to_do(script):
    """The loop would wait for ever; it must not spin for ever either."""
    out = script("""
        import resource
        resource.setrlimit(resource.RLIMIT_CPU, (10, 10))

        async def main():
            os.closerange(3, 100)
            await loop.create_future()

        loop = new_loop()
        try:
            loop.run_until_complete(main())
        except OSError as exc:
            print("OSError", exc.errno)
        sys.stdout.flush()
        os._exit(0)
    """)
    assert out == ["OSError 9"]


@pytest.mark.tidewire
def test_the_loops_own_descriptors_watched(script):
    """They are refused, and the loop is woken as before."""
    out = script("""
        def epolls():
            for name in os.listdir("/proc/self/fd"):
                path = f"/proc/self/fd/{name}"
                if os.path.lexists(path) and "eventpoll" in os.readlink(path):
                    yield int(name)

        async def main():
            own = list(epolls())
            assert own
            for fd in own:
                try:
                    loop.add_reader(fd, print, "ready?")
                except OSError as exc:
                    print(exc)
                await asyncio.sleep(0.001)
                loop.remove_reader(fd)
                await asyncio.sleep(0.001)
            woken = loop.create_future()
            start = time.monotonic()
            threading.Timer(0.1, loop.call_soon_threadsafe, (woken.set_result, None)).start()
            late = loop.call_later(15, print, "late")
            await woken
            late.cancel()
            print(time.monotonic() - start < 10)

        loop = new_loop()
        reports = []
        loop.set_exception_handler(lambda l, c: reports.append(c["exception"]))
        loop.run_until_complete(main())
        loop.close()
        print(len(reports), {type(exc) for exc in reports})
    """)
    refused = "[Errno 22] Invalid argument"
    assert set(out[:-2]) == {refused}
    assert out[-2:] == ["True", "0 set()"]


def test_blocking_mode_changed_by_a_child(hostile):
    """The descriptor is shared with a child that makes it blocking."""
    hostile("""
        async def main():
            transport, protocol, peer = await support.connected("unix")
            number = transport.get_extra_info("socket").fileno()
            os.set_blocking(number, True)
            peer.send(b"x")
            await protocol.got(b"x")
            transport.write(b"y")
            assert await support.recv_exactly(peer, 1) == b"y"
            await support.close(protocol)
            peer.close()
            print(await works())
        loop.run_until_complete(main())
    """)


def test_hundreds_of_reuses(hostile):
    """Numbers go round and round between files, sockets and readers."""
    hostile("""
        import random, tempfile
        rng = random.Random(5)

        async def main():
            seen = []
            for i in range(300):
                a, b = support.socketpair()
                number = b.fileno()
                loop.add_reader(b, lambda b=b: seen.append(b.recv(10)))
                if rng.random() < .5:
                    a.send(b"x")
                if rng.random() < .5:
                    await turns(1)
                if rng.random() < .5:
                    loop.remove_reader(number)
                os.close(b.detach())
                a.close()
                if rng.random() < .3:
                    with tempfile.TemporaryFile():
                        await turns(1)
                if rng.random() < .3:
                    await turns(1)
                loop.remove_reader(number)
            await turns()
            print(await works())
        loop.run_until_complete(main())
    """)


def test_listener_closed_behind_the_server(script, is_stock):
    """Its number goes to a connection, which must not be refused."""
    if is_stock:
        pytest.skip("asyncio's selector takes the number for the listener")
    out = script(HELPERS + """
    async def main():
        server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        listener = server._sockets[0]
        number = listener.fileno()
        listener.close()
        (made,) = reuse(number, "socket")
        made.setblocking(False)
        transport, _ = await loop.create_unix_connection(
            support.Recorder, sock=made)
        assert made.fileno() == number
        await turns()
        assert [str(r["exception"]) for r in reports] == [
            "[Errno 9] Bad file descriptor"]
        transport.abort()
        server.close()
        await turns()
        return await works()
    print(loop.run_until_complete(main()))
    """)
    assert out == ["works"]


def test_fileno_that_drops_the_transport(script):
    """The loop asks a transport's socket for its number; it answers, and
    the transport is gone."""
    out = script(HELPERS + """
    class Sock(socket.socket):
        def fileno(self):
            number = super().fileno()
            held.clear()
            gc.collect()
            return number

    held = []

    async def main():
        for ask in loop.add_reader, loop.add_writer, loop.remove_reader:
            a, b = socket.socketpair()
            sock = Sock(fileno=a.detach())
            sock.setblocking(False)
            transport, _ = await loop.create_unix_connection(
                asyncio.Protocol, sock=sock)
            await turns()
            transport.pause_reading()
            await turns()
            number, sock = socket.socket.fileno(sock), None
            held.append(transport)
            transport = _ = None
            try:
                ask(number, *[print][:ask != loop.remove_reader])
            except (OSError, RuntimeError):
                pass
            while held:
                held.pop().abort()
            await turns()
            b.close()
        return await works()
    print(loop.run_until_complete(main()))
    """, env={"PYTHONMALLOC": "debug"})
    assert out == ["works"]


@pytest.mark.tidewire    # asyncio's selector takes any number at first
@pytest.mark.parametrize("number", [12345, 2 ** 30, 2 ** 31 - 1])
def test_numbers_that_mocks_make_up(script, number):
    """A small one is as good as with asyncio; a huge one needs no table of its size."""
    assert script(f"""
    import asyncio
    from unittest import mock
    loop = new_loop()
    sock = mock.Mock()
    sock.fileno = mock.Mock(return_value={number})
    try:
        transport = loop._make_socket_transport(sock, asyncio.Protocol())
        transport.abort()
        loop.run_until_complete(asyncio.sleep(0))
        print("taken")
    except OSError as exc:
        print(exc.errno)
    loop.close()
    """) == ["taken" if number == 12345 else "9"]
