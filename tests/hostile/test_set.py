"""The loop's set, when the system refuses to take a descriptor into a new one.

A watched descriptor that was closed while a duplicate keeps its file open stays in the set, and
only another set is rid of it.  What the kernel refuses there must not be forgotten silently.
"""
import textwrap

import pytest

LIBRARY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/epoll.h>

int refused = -1;
int why = ENOSPC;
int calls;

int epoll_ctl(int set, int op, int fd, struct epoll_event *event) {
    static int (*real)(int, int, int, struct epoll_event *);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "epoll_ctl");
    if (op == EPOLL_CTL_ADD && fd == refused) {
        calls++;
        errno = why;
        return -1;
    }
    return real(set, op, fd, event);
}
"""

HELPERS = """
    import ctypes
    library = ctypes.CDLL(os.environ["SET_LIBRARY"])
    refused = ctypes.c_int.in_dll(library, "refused")
    why = ctypes.c_int.in_dll(library, "why")
    calls = ctypes.c_int.in_dll(library, "calls")
    warnings.simplefilter("ignore")
    reports = []
    loop = new_loop()
    loop.set_exception_handler(lambda loop, context: reports.append(context))

    async def leave_a_ghost():
        "The set has an entry that no call can name, and it is ready."
        ours, peer = support.socketpair()
        loop.add_reader(ours.fileno(), print)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        copy = os.dup(ours.fileno())
        number = ours.detach()
        os.close(number)
        loop.remove_reader(number)
        peer.send(b"x")
        return copy, peer
"""


@pytest.fixture(scope="session")
def library(preloaded):
    return preloaded(LIBRARY)


@pytest.fixture
def refusing(script, library):
    def refusing(source):
        path, env = library
        return script(textwrap.dedent(HELPERS) + textwrap.dedent(source),
                      env={**env, "SET_LIBRARY": str(path)})
    return refusing


def test_a_transport_that_is_refused_is_lost(refusing):
    out = refusing("""
        async def main():
            one, two = await support.pair("tcp")
            why.value = errno.EPERM
            refused.value = one.transport.get_extra_info("socket").fileno()
            copy, peer = await leave_a_ghost()
            while not one.transport.is_closing():
                await asyncio.sleep(0.001)
            await one.saw("lost")
            print("refused", calls.value > 0, repr(one.lost))
            refused.value = -1
            os.close(copy)
            peer.close()
            await support.close(two)

        import errno
        loop.run_until_complete(asyncio.wait_for(main(), 10))
        loop.close()
    """)
    assert out == ["refused True PermissionError(1, 'Operation not permitted')"]


@pytest.mark.parametrize("error", ["ENOSPC", "ENOMEM"])
def test_a_transport_for_which_there_is_no_room_waits(refusing, error):
    """The true error is reported once, and the transport goes on when there is room again."""
    out = refusing(f"""
        async def main():
            one, two = await support.pair("tcp")
            why.value = errno.{error}
            refused.value = one.transport.get_extra_info("socket").fileno()
            copy, peer = await leave_a_ghost()
            two.transport.write(b"while there is none")
            while calls.value < 3:
                await asyncio.sleep(0.001)
            print(one.data, one.transport.is_closing())
            print([errno.errorcode[report["exception"].errno] for report in reports])
            refused.value = -1
            await one.got(b"while there is none")
            print(one.data)
            os.close(copy)
            peer.close()
            await support.close(one, two)

        import errno
        loop.run_until_complete(asyncio.wait_for(main(), 10))
        loop.close()
    """)
    assert out == ["b'' False", f"['{error}']", "b'while there is none'"]


def test_the_wakeup_descriptor_is_refused(refusing):
    """Then too it is tried again, without anything else that would wake the loop."""
    out = refusing("""
        async def main():
            refused.value = loop._csock.fileno() - 1
            copy, peer = await leave_a_ghost()
            while calls.value == 0:
                await asyncio.sleep(0.001)
            done = loop.create_future()
            threading.Timer(0.05, loop.call_soon_threadsafe, (done.set_result, "woken")).start()
            threading.Timer(0.01, setattr, (refused, "value", -1)).start()
            print(await done)
            os.close(copy)
            peer.close()

        loop.run_until_complete(main())     # without a timer that would wake it
        loop.close()
    """)
    assert out == ["woken"]


def test_no_number_is_free_for_another_set(script):
    """The limit was lowered: dup3() refuses the set's own number, and the old one stays."""
    out = script("""
        import resource

        async def main():
            a, b = support.socketpair()
            c, d = support.socketpair()
            done = loop.create_future()
            loop.add_reader(a, lambda: done.done() or done.set_result(a.recv(10)))
            loop.add_reader(c, print)
            await asyncio.sleep(0.001)
            resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
            copy, number = os.dup(c.fileno()), c.detach()
            os.close(number)
            loop.remove_reader(number)
            d.send(b"x")
            await asyncio.sleep(0.001)
            await asyncio.sleep(0.001)
            b.send(b"hello")
            print((await done).decode(), reports)
            loop.remove_reader(a)
            os.close(copy)
            for sock in a, b, d:
                sock.close()

        reports = []
        taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(300)]
        loop = new_loop()
        for fd in taken:
            os.close(fd)
        loop.set_exception_handler(lambda loop, context: reports.append(context))
        loop.run_until_complete(asyncio.wait_for(main(), 10))
        loop.close()
    """)
    assert out == ["hello []"]
