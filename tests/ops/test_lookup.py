"""Lookups in flight, on a C library that takes its time."""
import textwrap

import pytest

# In debug mode asyncio asks in an executor, by a function of its own.
pytestmark = pytest.mark.usefixtures("ordinary_mode")

LIBRARY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int Ask(const char *, const char *, const struct addrinfo *,
                struct addrinfo **);

int
getaddrinfo(const char *host, const char *service,
            const struct addrinfo *hints, struct addrinfo **found)
{
    Ask *ask = (Ask *)dlsym(RTLD_NEXT, "getaddrinfo");
    const char *gate = getenv("LOOKUP_GATE");
    int error, fd;

    if (host == NULL || strncmp(host, "test-", 5) != 0) {
        return ask(host, service, hints, found);
    }
    fd = open(getenv("LOOKUP_LOG"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (write(fd, "x", 1) != 1 || close(fd) != 0) {
        _exit(77);
    }
    if (strcmp(host, "test-system") == 0) {
        errno = ENFILE;
        return EAI_SYSTEM;
    }
    if (strncmp(host, "test-slow", 9) == 0) {
        for (int i = 0; i < 4000 && access(gate, F_OK) != 0; i++) {
            usleep(2000);
        }
    }
    error = ask("127.0.0.1", service, hints, found);
    if (strcmp(host, "test-kinds") == 0) {
        (*found)->ai_socktype = 5;
        (*found)->ai_next->ai_socktype = 77;
        (*found)->ai_next->ai_next->ai_family = 1;
    }
    if (strcmp(host, "test-families") == 0) {
        (*found)->ai_family = 77;
        (*found)->ai_next->ai_addr->sa_family = 77;
    }
    return error;
}
"""

SLOW = """
gate, log = os.environ["LOOKUP_GATE"], os.environ["LOOKUP_LOG"]

def open_gate():
    open(gate, "w").close()

def begun():
    return os.path.exists(log) and os.path.getsize(log)

async def until_begun(n=1):
    while begun() < n:
        await asyncio.sleep(0.001)

def ask(loop, host="test-slow", **kwargs):
    return loop.getaddrinfo(host, 80, type=socket.SOCK_STREAM, **kwargs)

"""


@pytest.fixture(scope="session")
def library(preloaded):
    return preloaded(LIBRARY)


@pytest.fixture
def slow(script, library, tmp_path):
    """script() on a C library that answers test-slow when the gate opens."""
    def slow(source, **kwargs):
        env = {**library[1], "LOOKUP_GATE": str(tmp_path / "gate"),
               "LOOKUP_LOG": str(tmp_path / "log")}
        return script(SLOW + textwrap.dedent(source), env=env, **kwargs)
    return slow


def test_what_else_the_library_may_say(slow):
    out = slow("""
        loop = new_loop()

        def outcome(function, *args, **kwargs):
            try:
                return repr(function(*args, **kwargs))
            except Exception as exc:
                return type(exc), str(exc), getattr(exc, "errno", None)

        for host in "test-kinds", "test-families", "test-system":
            want = outcome(socket.getaddrinfo, host, 80)
            got = outcome(loop.run_until_complete, loop.getaddrinfo(host, 80))
            assert got == want, (got, want)
            print(got)
        loop.close()
    """)
    assert "SOCK_SEQPACKET" in out[0] and "77" in out[1] and "23" in out[2]


def test_the_loop_goes_on_meanwhile(slow):
    out = slow("""
        async def main():
            task = asyncio.ensure_future(ask(loop))
            await until_begun()
            # The others are not held up.
            print((await ask(loop, "test-quick"))[0][4], task.done())
            await asyncio.sleep(0.01)
            open_gate()
            print((await task)[0][4])

        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
    """)
    assert out == ["('127.0.0.1', 80) False", "('127.0.0.1', 80)"]


def test_cancelled_in_flight(slow):
    out = slow("""
        async def main():
            task = asyncio.ensure_future(ask(loop))
            await until_begun()
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                print("cancelled")
            try:
                await asyncio.wait_for(ask(loop), 0.01)
            except asyncio.TimeoutError:
                print("timeout")
            coro = ask(loop)
            coro.send(None)
            coro.close()
            open_gate()
            await asyncio.sleep(0.05)
            print((await ask(loop))[0][4])

        loop = new_loop()
        loop.set_exception_handler(print)
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    """)
    assert out == ["cancelled", "timeout", "('127.0.0.1', 80)"]


def test_what_has_not_begun_is_never_done(slow):
    """... when it is cancelled; the threads are as many as the executor's."""
    out = slow("""
        async def main():
            tasks = [asyncio.ensure_future(ask(loop)) for _ in range(100)]
            await until_begun()
            await asyncio.sleep(0.1)
            at_once = begun()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            last = asyncio.ensure_future(ask(loop, "test-quick"))
            await asyncio.sleep(0.1)
            print(last.done())
            open_gate()
            await last
            print(begun() - at_once, all(t.cancelled() for t in tasks))
            print(at_once == min(32, os.cpu_count() + 4))

        loop = new_loop()
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    """)
    assert out == ["False", "1 True", "True"]


@pytest.mark.parametrize("way", ["close", "collect"])
def test_closed_in_flight(slow, way):
    """The loop waits for nobody; what was queued is not begun any more."""
    out = slow("""
        way = sys.argv[1]

        async def main(loop):
            tasks = [asyncio.ensure_future(ask(loop)) for _ in range(100)]
            await until_begun()
            await asyncio.sleep(0.1)
            for task in tasks:
                task._log_destroy_pending = False

        def run():
            loop = new_loop()
            loop.run_until_complete(main(loop))
            start = time.monotonic()
            if way == "close":
                loop.close()
            else:
                warnings.simplefilter("ignore")
            del loop
            gc.collect()
            return time.monotonic() - start

        print(run() < 2)
        before = begun()
        open_gate()
        time.sleep(0.1)
        gc.collect()
        loop = new_loop()
        print(loop.run_until_complete(ask(loop, "test-quick"))[0][4])
        loop.close()
        if support.SLOWER == 1 and way == "close":
            # The stock executor goes on with what was queued.
            assert begun() - before == (1 if "tidewire" in sys.modules else 95)
    """, args=[way])
    assert out == ["True", "('127.0.0.1', 80)"]


@pytest.mark.tidewire
def test_the_end_of_the_program_does_not_wait(slow):
    out = slow("""
        async def main():
            task = asyncio.ensure_future(ask(asyncio.get_running_loop()))
            await until_begun()

        start = time.monotonic()
        import tidewire
        tidewire.run(main())
        print(time.monotonic() - start < 5 * support.SLOWER)
        sys.stdout.flush()
    """, timeout=6)
    assert out == ["True"]


def test_a_fork_in_flight(slow):
    out = slow("""
        async def main():
            task = asyncio.ensure_future(ask(loop))
            await until_begun()
            queued = [asyncio.ensure_future(ask(loop)) for _ in range(60)]
            await asyncio.sleep(0.05)
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                asyncio.events._set_running_loop(None)
                child()
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            open_gate()
            print("parent", (await task)[0][4])
            await asyncio.wait(queued)

        def child():
            mine = new_loop()
            print("child", mine.run_until_complete(
                ask(mine, "test-quick"))[0][4], flush=True)
            mine.close()

        loop = new_loop()
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    """)
    assert out == ["child ('127.0.0.1', 80)", "parent ('127.0.0.1', 80)"]


@pytest.mark.tidewire
def test_closing_the_parents_loop_in_a_child(slow):
    out = slow("""
        async def main():
            global task
            task = asyncio.ensure_future(ask(loop))
            await until_begun()
            queued = [asyncio.ensure_future(ask(loop)) for _ in range(60)]
            for task in queued:
                task._log_destroy_pending = False
            await asyncio.sleep(0.05)

        loop = new_loop()
        loop.run_until_complete(main())
        pid = os.fork()
        if pid == 0:
            loop.close()
            mine = new_loop()
            print("child", mine.run_until_complete(
                ask(mine, "test-quick"))[0][4], flush=True)
            mine.close()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        open_gate()
        print("parent", loop.run_until_complete(task)[0][4])
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    """)
    assert out == ["child ('127.0.0.1', 80)", "parent ('127.0.0.1', 80)"]


@pytest.mark.tidewire
def test_a_child_that_goes_on_leaves_the_parents_answers(slow):
    """It has the descriptor that tells of them, too."""
    out = slow("""
        def fork():
            global pid
            pid = os.fork()

        async def main():
            task = asyncio.ensure_future(asyncio.wait_for(ask(loop), 8))
            await until_begun()
            loop.call_soon(fork)
            await asyncio.sleep(0.01)
            if pid:
                open_gate()
                time.sleep(0.2)         # the child is the first to hear of it
                try:
                    return "parent", (await task)[0][4]
                finally:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
            await loop.create_future()

        loop = new_loop()
        print(*loop.run_until_complete(main()))
        loop.close()
    """)
    assert out == ["parent ('127.0.0.1', 80)"]


def test_an_interrupt_in_flight(slow):
    """The answer waits until the loop runs again."""
    out = slow("""
        async def main():
            return await ask(loop)

        loop = new_loop()
        task = loop.create_task(main())

        def interrupt():
            raise KeyboardInterrupt

        loop.run_until_complete(until_begun())
        loop.call_soon(interrupt)
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted")
        open_gate()
        time.sleep(0.05)
        print(loop.run_until_complete(task)[0][4])
        loop.close()
    """)
    assert out == ["interrupted", "('127.0.0.1', 80)"]


def test_a_signal_in_flight_reaches_the_main_thread(slow):
    out = slow("""
        def handler(signum, frame):
            raise ZeroDivisionError

        loop = new_loop()
        task = loop.create_task(ask(loop))
        loop.run_until_complete(until_begun())
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        start = time.monotonic()
        try:
            time.sleep(5)
        except ZeroDivisionError:
            print(time.monotonic() - start < 3)
        open_gate()
        loop.run_until_complete(task)
        loop.close()
    """)
    assert out == ["True"]
