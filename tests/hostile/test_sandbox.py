"""Sandboxes and emulators that refuse system calls: seccomp, gVisor, old kernels.

They answer ENOSYS or EPERM where the stock loop asks nothing, as it does without the call.  The
loop must then do without it, too, with the same result.
"""
import platform
import sys

import pytest

# The numbers of the calls, by machine.
CALLS = {
    "accept4": {"x86_64": 288, "aarch64": 242},
    "pidfd_open": {"x86_64": 434, "aarch64": 434},
    "recvmmsg": {"x86_64": 299, "aarch64": 243},
    "sendfile": {"x86_64": 40, "aarch64": 71},
    "sendmmsg": {"x86_64": 307, "aarch64": 269},
    "waitid": {"x86_64": 247, "aarch64": 95},
}
EPOLL_CTL = {"x86_64": 233, "aarch64": 21}
MACHINE = platform.machine()

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or MACHINE not in CALLS["waitid"], reason="no numbers of system calls")

HELPERS = """
    import ctypes, errno, struct

    def forbid(numbers, error):
        "From now on this process gets `error` for these system calls."
        code = [struct.pack("HBBI", 0x20, 0, 0, 0)]         # the call's number
        for number in numbers:
            code += [struct.pack("HBBI", 0x15, 0, 1, number),   # another one: skip
                     struct.pack("HBBI", 0x06, 0, 0, 0x50000 | error)]
        code.append(struct.pack("HBBI", 0x06, 0, 0, 0x7fff0000))
        blob = ctypes.create_string_buffer(b"".join(code))
        program = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(blob))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.c_char_p(program), 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")

    class Dgrams(asyncio.DatagramProtocol):
        "Answers each datagram with several."

        def __init__(self, expected=0, answers=()):
            self.got, self.expected, self.answers = [], expected, answers
            self.done = asyncio.get_running_loop().create_future()

        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, addr):
            self.got.append(data)
            for answer in self.answers:
                self.transport.sendto(answer, addr)
            if len(self.got) == self.expected:
                self.done.set_result(None)

        def error_received(self, exc):
            print("error", exc)

    async def dgrams():
        loop = asyncio.get_running_loop()
        answers = [b"%d" % n for n in range(5)]
        server, _ = await loop.create_datagram_endpoint(
            lambda: Dgrams(answers=answers), local_addr=("127.0.0.1", 0))
        client, protocol = await loop.create_datagram_endpoint(
            lambda: Dgrams(200), remote_addr=server.get_extra_info("sockname"))
        for n in range(40):
            client.sendto(b"%d" % n)
        await asyncio.wait_for(protocol.done, 10 * support.SLOWER)
        server.close()
        client.close()
        await asyncio.sleep(0)
        return sorted(protocol.got) == sorted(40 * answers)

    async def accepts():
        async def serve(reader, writer):
            writer.write(await reader.read())
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        said = []
        for n in range(3):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"%d" % n)
            writer.write_eof()
            said.append(await reader.read())
            writer.close()
            await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return said

    async def sock_accepts():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            with socket.create_connection(listener.getsockname()) as client:
                conn, addr = await loop.sock_accept(listener)
                with conn:
                    return (conn.getblocking(), os.get_inheritable(conn.fileno()),
                            addr == client.getsockname())

    async def children():
        codes = []
        for command in ("exit 3", "kill -9 $$"):
            process = await asyncio.create_subprocess_exec("/bin/sh", "-c", command)
            codes.append(await asyncio.wait_for(process.wait(), 10 * support.SLOWER))
            try:
                os.waitpid(-1, os.WNOHANG)
                codes.append("a zombie")
            except ChildProcessError:
                pass
        return codes

    async def sends_a_file():
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()
        here.setblocking(False)
        there.setblocking(False)
        with here, there, open(os.__file__, "rb") as file:
            whole = os.fstat(file.fileno()).st_size
            sent = asyncio.create_task(loop.sock_sendfile(here, file))
            got = 0
            while got < whole:
                got += len(await loop.sock_recv(there, 1 << 16))
            return await sent == whole == file.tell()

    async def everything():
        return [await f() for f in (dgrams, accepts, sock_accepts, children, sends_a_file)]
"""

EXPECTED = str([True, [b"0", b"1", b"2"], (False, False, True), [3, -9], True])


def program(names, error):
    return f"""{HELPERS}
    numbers = {[CALLS[name][MACHINE] for name in names]}
    loop = new_loop()
    loop.set_exception_handler(lambda loop, context: print(context))
    forbid(numbers, errno.{error})
    print(loop.run_until_complete(everything()))
    loop.close()
    """


@pytest.mark.parametrize("name", sorted(CALLS))
def test_one_call_is_unknown(script, name):
    assert script(program([name], "ENOSYS")) == [EXPECTED]


@pytest.mark.tidewire        # CPython's socket.accept() takes EPERM for a firewall's word
@pytest.mark.parametrize("error", ["ENOSYS", "EPERM", "EOPNOTSUPP"])
def test_all_calls_are_refused(script, error):
    assert script(program(CALLS, error)) == [EXPECTED]


def test_the_sandbox_comes_behind_a_child(script):
    """A child is watched already when waiting for it by descriptor is forbidden."""
    out = script(f"""{HELPERS}
    async def main():
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", "read line; exit 3", stdin=asyncio.subprocess.PIPE)
        forbid([{CALLS["waitid"][MACHINE]}], errno.EPERM)
        process.stdin.close()
        return await asyncio.wait_for(process.wait(), 10 * support.SLOWER)

    print(new_loop().run_until_complete(main()))
    """)
    assert out == ["3"]


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS", "ENOMEM"])
def test_no_watch_can_be_changed_when_a_loop_is_closed(script, error):
    """It closes its descriptors all the same."""
    out = script(f"""{HELPERS}
    def descriptors():
        return sorted(os.listdir("/proc/self/fd"))

    loop = new_loop()
    loop.close()        # what is made once in a process is there
    before = descriptors()
    loop = new_loop()
    loop.run_until_complete(asyncio.sleep(0))
    forbid([{EPOLL_CTL[MACHINE]}], errno.{error})
    loop.close()
    print(descriptors() == before)
    """)
    assert out == ["True"]
