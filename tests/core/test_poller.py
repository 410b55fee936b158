"""What asks the system for ready descriptors: epoll or libuv, with the same behaviour."""
import asyncio
import os
import socket
import textwrap

import pytest

import support
import tidewire
from tidewire import _core

POLLERS = _core.build_info()["pollers"].split(", ")
each_poller = pytest.mark.parametrize("poller", POLLERS)

HELPERS = """
    import resource, subprocess

    def take_all(limit, free):
        "Leave so many descriptors free."
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        taken = []
        try:
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        for fd in taken[:free]:
            os.close(fd)

    def count_free():
        opened = []
        try:
            while True:
                opened.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        for fd in opened:
            os.close(fd)
        return len(opened)

    def in_child(function):
        "What it returned, or the signal that ended the child."
        r, w = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                os.write(w, str(function()).encode())
            finally:
                os._exit(0)
        os.close(w)
        status = os.waitpid(pid, 0)[1]
        with open(r) as file:
            return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else file.read()
"""

FAULTS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/epoll.h>

int why;       /* what the next additions end with ... */
int times;     /* ... so many of them */

int epoll_ctl(int set, int op, int fd, struct epoll_event *event) {
    static int (*real)(int, int, int, struct epoll_event *);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "epoll_ctl");
    if (op == EPOLL_CTL_ADD && times > 0) {
        times--;
        errno = why;
        return -1;
    }
    return real(set, op, fd, event);
}

int no_dup3;   /* the next ones fail, so many of them */

int dup3(int from, int to, int flags) {
    static int (*real)(int, int, int);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "dup3");
    if (no_dup3 > 0) {
        no_dup3--;
        errno = EMFILE;
        return -1;
    }
    return real(from, to, flags);
}
"""

FAULT_HELPERS = """
    import ctypes, errno
    library = ctypes.CDLL(os.environ["FAULTS"])
    why = ctypes.c_int.in_dll(library, "why")
    times = ctypes.c_int.in_dll(library, "times")
    no_dup3 = ctypes.c_int.in_dll(library, "no_dup3")

    def refuse(error, n=1):
        why.value, times.value = getattr(errno, error), n
"""

no_room = pytest.mark.parametrize("error", ["ENOSPC", "ENOMEM"])


@pytest.fixture(scope="session")
def faults(preloaded):
    if support.is_sanitized():
        pytest.skip("a sanitizer is preloaded")
    return preloaded(FAULTS)


@pytest.fixture
def on(script):
    """Run a program on a poller."""
    def on(poller, source, **env):
        return script(textwrap.dedent(HELPERS) + textwrap.dedent(source),
                      env={"TIDEWIRE_POLLER": poller, **env})
    return on


@pytest.fixture
def faulty(on, faults):
    def faulty(poller, source):
        path, env = faults
        return on(poller, textwrap.dedent(FAULT_HELPERS) + textwrap.dedent(source),
                  FAULTS=str(path), **env)
    return faulty


# -- which one -----------------------------------------------------------------

@pytest.mark.tidewire
@each_poller
def test_by_name(poller):
    loop = tidewire.new_event_loop(poller=poller)
    assert loop.stats()["poller"] == poller
    assert loop.run_until_complete(asyncio.sleep(0.001, "slept")) == "slept"
    loop.close()
    assert loop.stats()["poller"] is None


@pytest.mark.tidewire
@each_poller
def test_by_the_environment(monkeypatch, poller):
    monkeypatch.setenv("TIDEWIRE_POLLER", poller)
    loop = tidewire.new_event_loop()
    assert loop.stats()["poller"] == poller
    loop.close()


@pytest.mark.tidewire
def test_the_default(monkeypatch):
    monkeypatch.delenv("TIDEWIRE_POLLER", raising=False)
    loop = tidewire.new_event_loop()
    assert loop.stats()["poller"] == POLLERS[0]
    loop.close()


@pytest.mark.tidewire
def test_unknown_name(monkeypatch):
    with pytest.raises(ValueError, match="this build of tidewire has no poller 'kqueue' \\(it has: "):
        tidewire.new_event_loop(poller="kqueue")
    monkeypatch.setenv("TIDEWIRE_POLLER", "kqueue")
    with pytest.warns(RuntimeWarning, match="TIDEWIRE_POLLER='kqueue' is not known"):
        loop = tidewire.new_event_loop()
    assert loop.stats()["poller"] == POLLERS[0]
    loop.close()


# -- where the system has no room ----------------------------------------------

@each_poller
@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]], ids=str)
def test_standard_descriptors_are_closed(on, poller, closed):
    """As cron starts programs, or `<&-`: libuv ends a process whose loop has number 0, 1 or 2."""
    out = on(poller, f"""
        def program():
            for fd in {closed}:
                os.close(fd)
            loop = new_loop()
            a, b = socket.socketpair()
            loop.add_reader(a, loop.stop)
            b.send(b"x")
            loop.run_forever()
            loop.remove_reader(a)
            loop.close()
            return "closed"

        print(in_child(program))
    """)
    assert out == ["closed"]


@each_poller
def test_the_first_loop_has_too_few_descriptors(on, poller):
    """An OSError, and no descriptor is lost: the next attempt has as many."""
    out = on(poller, """
        def attempt(free):
            take_all(64, free)
            left = []
            for _ in range(5):
                try:
                    new_loop().close()
                    return "made"
                except OSError as exc:
                    error = exc.errno
                gc.collect()
                left.append(count_free())
            # libuv keeps two for good from its first loop on.
            return f"{error}, lost {left[0] - left[-1]}"

        results = [in_child(lambda: attempt(free)) for free in range(2, 14)]
        made = results.index("made")
        print(set(results[:made]), set(results[made:]))
    """)
    assert out == ["{'24, lost 0'} {'made'}"]


@each_poller
@no_room
def test_a_loop_cannot_be_made(faulty, poller, error):
    out = faulty(poller, f"""
        refuse("{error}")
        try:
            new_loop()
        except OSError as exc:
            print(errno.errorcode[exc.errno])
        new_loop().close()
    """)
    assert out == [error]


@each_poller
@no_room
def test_a_forked_child_has_no_room(faulty, poller, error):
    out = faulty(poller, f"""
        loop = new_loop()
        loop.run_until_complete(asyncio.sleep(0))
        refuse("{error}", 10 ** 6)
        print(in_child(lambda: "lives"))
        times.value = 0
        loop.close()
    """)
    assert out == ["lives"]


@pytest.mark.tidewire
@pytest.mark.skipif(support.is_portable(), reason="the portable build has a pipe from the start")
def test_signals_cannot_be_accepted(faulty):
    """A loop of another thread, whose eventfd a pipe cannot replace, still wakes; then it can."""
    out = faulty("epoll", """
        import concurrent.futures

        pool = concurrent.futures.ThreadPoolExecutor(1)
        loop = pool.submit(new_loop).result()

        async def woken():
            future = loop.create_future()
            threading.Timer(0.05, loop.call_soon_threadsafe, (future.set_result, None)).start()
            await asyncio.wait_for(future, 5)
            return "woken"

        no_dup3.value = 1
        try:
            loop._signal_fd()
        except OSError as exc:
            print(errno.errorcode[exc.errno])
        print(pool.submit(loop.run_until_complete, woken()).result())
        print(loop._signal_fd() >= 0, loop.run_until_complete(woken()))
        loop.close()
    """)
    assert out == ["EMFILE", "woken", "True woken"]


@pytest.mark.tidewire
def test_a_renewed_set_refuses_the_wakeup_descriptor(faulty):
    """An entry that nobody can remove makes a new set necessary; the loop can still be woken."""
    out = faulty("epoll", """
        loop = new_loop()
        a, b = socket.socketpair()
        spare = os.dup(a.fileno())

        async def main():
            fd = a.fileno()
            loop.add_reader(fd, print, "never")
            await asyncio.sleep(0)
            os.close(a.detach())
            loop.remove_reader(fd)
            why.value, times.value = errno.EPERM, 1
            b.send(b"x")            # the old entry reports it
            for _ in range(100):
                if times.value:
                    await asyncio.sleep(0.01)
            print(times.value)
            future = loop.create_future()
            threading.Timer(0.05, loop.call_soon_threadsafe, (future.set_result, None)).start()
            await asyncio.wait_for(future, 5)
            return "woken"

        print(loop.run_until_complete(main()))
    """)
    assert out == ["0", "woken"]


@each_poller
@no_room
def test_a_listener_is_refused(faulty, poller, error):
    """create_server() raises it, as asyncio's."""
    out = faulty(poller, f"""
        async def main():
            await asyncio.sleep(0)
            refuse("{error}")
            try:
                await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            except OSError as exc:
                print(errno.errorcode[exc.errno])

        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
    """)
    assert out == [error]


@pytest.mark.tidewire
@pytest.mark.skipif(support.is_portable(), reason="the portable build watches no child")
@each_poller
@no_room
def test_a_child_that_cannot_be_watched(faulty, poller, error):
    """A thread waits for it (asyncio raises, or has a thread in any case)."""
    out = faulty(poller, f"""
        async def main():
            loop.set_exception_handler(lambda loop, context: print(context))
            await asyncio.sleep(0)
            refuse("{error}")
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", "exit(7)")
            print(await process.wait(), times.value)

        loop = new_loop()
        loop.run_until_complete(asyncio.wait_for(main(), 10))
        loop.close()
    """)
    assert out == ["7 0"]


@pytest.mark.tidewire
@each_poller
@no_room
def test_a_connection_that_cannot_be_watched(faulty, poller, error):
    """One report with the true error; it is tried again, also by a loop that waits for nothing else."""
    out = faulty(poller, f"""
        async def main():
            reports = []
            loop.set_exception_handler(lambda loop, context: reports.append(context))
            server, client = socket.socketpair()
            server.setblocking(False)
            client.send(b"hello")
            await asyncio.sleep(0)
            refuse("{error}", 5)
            reader, writer = await asyncio.open_connection(sock=server)
            print(await reader.readexactly(5), times.value)
            print([errno.errorcode[report["exception"].errno] for report in reports])
            writer.close()
            await writer.wait_closed()
            client.close()

        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
    """)
    assert out == ["b'hello' 0", f"['{error}']"]


@pytest.mark.tidewire
@each_poller
def test_names_are_looked_up_whatever_is_refused(faulty, poller):
    """A lookup needs no descriptor of its own."""
    out = faulty(poller, """
        async def main():
            await asyncio.sleep(0)
            refuse("ENOSPC", 100)
            found = await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
            print(len(found) > 0, times.value)

        loop = new_loop()
        loop.run_until_complete(asyncio.wait_for(main(), 10))
        loop.close()
    """)
    assert out == ["True 100"]


# -- descriptors ---------------------------------------------------------------

@pytest.mark.tidewire
@pytest.mark.parametrize("thread", [False, True])
def test_a_loop_has_three_descriptors(script, thread):
    """Two where no signal can be meant: 300 threads with a loop each fit below 1,024."""
    if POLLERS[0] != "epoll":
        pytest.skip("libuv has more")
    out = script(f"""
        def count():
            return len(os.listdir("/proc/self/fd"))

        def work():
            loop = new_loop()
            loop.run_until_complete(loop.getaddrinfo("localhost", 80))
            counts.append(count())
            loop.close()

        counts = [count()]
        if {thread}:
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        else:
            work()
        counts.append(count())
        print(counts[1] - counts[0], counts[2] - counts[0])
    """, env={"TIDEWIRE_POLLER": "epoll"})
    wakeup = 2 if thread and support.is_portable() else 1      # a pipe, an eventfd
    assert out == [f"{1 + wakeup} 0" if thread else "3 0"]


@each_poller
def test_more_than_256_are_ready(on, poller):
    """One turn serves all of them."""
    out = on(poller, """
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (2048, 2048))
        loop = new_loop()
        pairs = [socket.socketpair() for _ in range(600)]
        turns, seen = [0], []
        for one, two in pairs:
            loop.add_reader(one, lambda: seen.append(turns[0]))
            two.send(b"x")

        def turn():
            turns[0] += 1
            if turns[0] < 4:
                loop.call_soon(turn)
            else:
                loop.stop()

        loop.call_soon(turn)
        loop.run_forever()
        print(len(seen[:600]), len(set(seen[:600])))
        for one, two in pairs:
            loop.remove_reader(one)
            one.close()
            two.close()
        loop.close()
    """)
    assert out == ["600 1"]


@pytest.mark.tidewire
@each_poller
def test_the_blocking_mode_is_left_alone(poller):
    loop = tidewire.new_event_loop(poller=poller)
    one, two = socket.socketpair()
    loop.add_reader(one, print)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert os.get_blocking(one.fileno())
    loop.remove_reader(one)
    loop.close()
    one.close()
    two.close()


# -- fork ----------------------------------------------------------------------

@each_poller
def test_numbers_that_belong_to_others_in_a_forked_child(on, poller):
    """A daemon closed everything, files have the loop's numbers: a child's copies stay open."""
    if poller == "libuv":
        pytest.skip("libuv renews its pipe for signals by number, in each child")
    out = on(poller, """
        import tempfile
        loop = new_loop()
        loop.run_until_complete(asyncio.sleep(0))
        os.closerange(3, 256)
        files = [tempfile.TemporaryFile("w") for _ in range(20)]

        def write_all():
            for file in files:
                file.write("x")
                file.flush()
            loop.close()
            for file in files:
                file.write("x")
                file.flush()
            return "written"

        print(in_child(write_all), flush=True)
        os._exit(0)
    """)
    assert out == ["written"]


@each_poller
def test_a_loop_that_never_ran_runs_in_the_grandchild(on, poller):
    """A daemon is made by two forks, often behind the loop."""
    out = on(poller, """
        async def main():
            a, b = await support.pair("tcp")
            a.transport.write(b"hello")
            await b.got(b"hello")
            await support.close(a, b)
            await loop.run_in_executor(None, time.sleep, 0)
            return "ran"

        loop = new_loop()
        print(in_child(lambda: in_child(lambda: loop.run_until_complete(main()))))
        print(loop.run_until_complete(main()))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    """)
    assert out == ["ran", "ran"]


@each_poller
def test_a_loop_that_never_ran_runs_in_a_child_when_the_parent_has_closed_it(on, poller):
    """The set is the same in both: the parent's close() empties it before the child looks."""
    out = on(poller, """
        loop = new_loop()
        closed, say = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                os.read(closed, 1)
                loop.call_soon_threadsafe(int)
                loop.run_until_complete(asyncio.sleep(0.001))
                loop.close()
                print("ran", flush=True)
            finally:
                os._exit(0)
        loop.close()
        os.write(say, b"x")
        os.waitpid(pid, 0)
    """)
    assert out == ["ran"]


# -- other threads -------------------------------------------------------------

@pytest.mark.tidewire
@each_poller
def test_other_threads_change_what_is_watched(on, poller):
    """While the loop waits, and while it does not; asyncio's epoll allows it, too."""
    out = on(poller, """
        sys.setswitchinterval(1e-6)
        loop = new_loop()
        busy = [socket.socketpair() for _ in range(20)]

        def echo(one, two):
            one.recv(1)
            two.send(b"x")

        for one, two in busy:
            loop.add_reader(one, echo, one, two)
            two.send(b"x")

        def work():
            pairs = [socket.socketpair() for _ in range(50)]
            for _ in range(2500):
                for one, two in pairs:
                    loop.add_writer(one, int)
                time.sleep(0)
                for one, two in pairs:
                    loop.remove_writer(one)
            done.append(1)
            if len(done) == 2:
                loop.call_soon_threadsafe(loop.stop)

        done = []
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        loop.run_forever()
        for thread in threads:
            thread.join()
        for one, two in busy:
            loop.remove_reader(one)
        loop.close()
        print(len(done))
    """)
    assert out == ["2"]


@pytest.mark.tidewire
@each_poller
def test_a_forked_child_while_the_loop_waits_in_another_thread(on, poller):
    """What the poller had in hand stays the parent's; the child's copy can be closed."""
    out = on(poller, """
        loop = new_loop()
        waits = threading.Event()
        loop.call_soon(waits.set)
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        waits.wait()

        def child():
            other = new_loop()
            other.run_until_complete(asyncio.sleep(0.001))
            other.close()
            return "lives"

        print({in_child(child) for _ in range(20)})
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    """)
    assert out == ["{'lives'}"]
