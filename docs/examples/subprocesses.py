"""Subprocesses: by protocol, by streams, and one that is killed."""

import asyncio
import signal
import sys


class Collect(asyncio.SubprocessProtocol):
    def __init__(self):
        self.output = {1: bytearray(), 2: bytearray()}
        self.done = asyncio.get_running_loop().create_future()

    def pipe_data_received(self, fd, data):
        self.output[fd] += data

    def connection_lost(self, exc):     # after process_exited() and the end of every pipe
        self.done.set_result(None)


async def main():
    loop = asyncio.get_running_loop()

    program = "import sys; print('to stdout'); print('to stderr', file=sys.stderr); sys.exit(3)"
    transport, protocol = await loop.subprocess_exec(Collect, sys.executable, "-c", program)
    await protocol.done
    print(f"exit status {transport.get_returncode()}:",
          *(bytes(text).decode().strip() for text in protocol.output.values()))
    assert transport.get_returncode() == 3
    transport.close()
    assert protocol.output == {1: b"to stdout\n", 2: b"to stderr\n"}

    words = b"".join(b"%d\n" % n for n in range(100_000, 0, -1))
    process = await asyncio.create_subprocess_exec(
        "sort", "-n", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate(words)
    assert output.split() == sorted(words.split(), key=int)
    print(f"sort put {len(output.split())} lines in order")

    process = await asyncio.create_subprocess_shell("exec sleep 1000")
    process.terminate()
    assert await process.wait() == -signal.SIGTERM
    print("sleep was ended by", signal.Signals(-process.returncode).name)


asyncio.run(main())
