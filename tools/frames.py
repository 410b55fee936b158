#!/usr/bin/env python3
"""Counts our C frames from the loop's turn to data_received(), by gdb, on a live TCP echo:
``tools/frames.py [FOLDER]``, where FOLDER has the package (pkg, if none is named).

gdb stops the server inside data_received(). The frames of tidewire._core that are then on the
stack are printed and counted: from the method that runs the turns to the call of the protocol.
A release build has fewer than the source, because the compiler inlines functions; a debug build
(``TIDEWIRE_DEBUG=1``) has them all.
"""
import asyncio
import signal
import subprocess
import sys
from pathlib import Path

try:
    import gdb
except ImportError:     # outside of gdb
    gdb = None

ROOT = Path(__file__).resolve().parents[1]
MARK = "frames of tidewire._core, the outermost first:"


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        signal.raise_signal(signal.SIGTRAP)
        self.transport.write(data)


async def echo():
    """One message there and back."""
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"x" * 1024)
    await reader.readexactly(1024)
    writer.close()
    server.close()


def stop_and_count():
    """In gdb: run the echo to its signal."""
    gdb.execute("run", to_string=True)
    frame, ours = gdb.newest_frame(), []
    while frame is not None:
        if frame.type() != gdb.INLINE_FRAME and "_core" in (gdb.solib_name(frame.pc()) or ""):
            ours.append(frame.name() or "?")
        frame = frame.older()
    print(MARK)
    for number, name in enumerate(reversed(ours), 1):
        print(f"{number:2}  {name}")
    print(f"{len(ours)} frames")


def main():
    if sys.argv[1:2] == ["--echo"]:
        sys.path.insert(0, sys.argv[2])
        import tidewire
        tidewire.run(echo())
        return 0
    folder = sys.argv[1] if len(sys.argv) > 1 else ROOT / "pkg"
    command = ["gdb", "-nx", "-batch", "-x", __file__,
               "--args", sys.executable, __file__, "--echo", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        sys.exit("frames.py: there is no gdb here (Debian's package: gdb)")
    counted = done.stdout.partition(MARK)[2].partition(" frames")
    if not counted[1]:
        sys.exit(f"frames.py: gdb failed\n{done.stdout}{done.stderr}")
    print(MARK + counted[0] + counted[1])
    return 0


if gdb is not None:
    stop_and_count()
elif __name__ == "__main__":
    sys.exit(main())
