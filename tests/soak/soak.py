"""An hour of everything: does memory, descriptors or threads grow?

    python tests/soak/soak.py [--seconds 3600] [--loop tidewire]

One process serves and uses, on one loop: plain, Unix and TLS connections that churn (a third of them
is aborted at a random moment), datagrams, child processes, names, timers, garbage collections, forks.
Bare sockets connect as well, fifty at a time, a million of them in an hour.  Peers in processes of
their own, and children, are ended by SIGKILL.  Each second memory, descriptors and threads are
measured; at the end the last quarter is compared with the second.  Another process is interrupted by
KeyboardInterrupt at random, a thousand times, and has to go on.  The exit status is 1 if something
grew or failed.
"""
import argparse
import asyncio
import collections
import contextlib
import gc
import json
import os
import pathlib
import random
import signal
import socket
import statistics
import struct
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import support  # noqa: E402
from parity import certificates  # noqa: E402

# Connections to one address leave its ports in TIME_WAIT: there are several.
ADDRESSES = [f"127.0.0.{n}" for n in range(1, 21)]
DATA = os.urandom(60000)
# Bare sockets: so many at a time, so many in a second; close() resets, so no port stays in TIME_WAIT.
BURST, PER_SECOND = 50, 300
LINGER = struct.pack("ii", 1, 0)
# What may be more in the last quarter than in the second.
ALLOWED = {"KiB resident": 1536, "descriptors": 8, "threads": 1}
# Refusals of the system and ends of the other side: what the programs expect.
EXPECTED = (OSError, EOFError, asyncio.TimeoutError)


class Corrupt(Exception):
    pass


class Figures:
    def __init__(self):
        self.counts = collections.Counter()
        self.failures = []
        self.is_over = False
        self.start = time.monotonic()

    def fail(self, what):
        self.counts["failures"] += 1
        if len(self.failures) < 20:
            self.failures.append(what)
            print("FAILED", what, flush=True)


class Echo(asyncio.Protocol):
    made = lost = 0

    def connection_made(self, transport):
        Echo.made += 1
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def connection_lost(self, exc):
        Echo.lost += 1


class EchoDatagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)


class Client(asyncio.Protocol):
    """Wants its bytes back; aborts after `patience` of them if that is set."""

    def __init__(self, data, patience=None):
        self.data, self.patience, self.got = data, patience, 0
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        transport.write(self.data)
        if self.patience == 0:
            transport.abort()

    def data_received(self, data):
        if self.data[self.got:self.got + len(data)] != data:
            self.lost.done() or self.lost.set_exception(Corrupt("other bytes"))
            self.transport.abort()
            return
        self.got += len(data)
        if self.patience is not None and self.got >= self.patience:
            self.transport.abort()
        elif self.got == len(self.data):
            self.transport.close()

    def connection_lost(self, exc):
        self.lost.done() or self.lost.set_result(exc)


# -- the work -------------------------------------------------------------------------

def some_data(rng):
    return DATA[:rng.choice((1, 100, 100, 2000, 2000, 20000, 60000))]


async def connection(connect, rng, figures, kind):
    """One connection; a third is aborted: at once, after some bytes, or while it is made."""
    data = some_data(rng)
    abort = rng.random() < 1 / 3
    how = rng.randrange(3) if abort else None
    patience = {None: None, 0: 0, 1: max(1, len(data) // 2), 2: None}[how]
    making = asyncio.ensure_future(connect(lambda: Client(data, patience)))
    if how == 2:
        await asyncio.sleep(rng.random() * 0.002)
        making.cancel()
    try:
        transport, client = await making
    except asyncio.CancelledError:
        if not making.cancelled():
            raise
        figures.counts[f"{kind} connections cancelled"] += 1
        return
    if how == 2:
        transport.abort()
    await client.lost
    figures.counts[f"{kind} connections"] += 1
    figures.counts["aborted"] += abort
    if not abort and client.got != len(data):
        figures.fail(f"{kind}: {client.got} of {len(data)} bytes, {client.lost.result()!r}")


async def forever(work, rng, figures, name):
    while not figures.is_over:
        try:
            await work(rng, figures)
        except EXPECTED as exc:
            figures.counts[f"{name}: {type(exc).__name__}"] += 1
            await asyncio.sleep(0.01)
        except Exception as exc:
            figures.fail(f"{name}: {exc!r}")
            await asyncio.sleep(0.1)


class Services:
    """The servers, and the addresses by which they are reached."""

    async def start(self, folder):
        loop = asyncio.get_running_loop()
        self.server_ssl, self.client_ssl = certificates.contexts()
        self.path = folder + "/s"
        self.servers = [
            await loop.create_server(Echo, "0.0.0.0", 0, backlog=1000),
            await loop.create_server(Echo, "0.0.0.0", 0, backlog=1000, ssl=self.server_ssl),
            await loop.create_unix_server(Echo, self.path, backlog=1000),
        ]
        self.port, self.tls_port = (s.sockets[0].getsockname()[1] for s in self.servers[:2])
        self.datagrams, _ = await loop.create_datagram_endpoint(
            EchoDatagrams, local_addr=("127.0.0.1", 0))

    async def plain(self, rng, figures):
        loop = asyncio.get_running_loop()
        address = rng.choice(ADDRESSES), self.port
        await connection(lambda made: loop.create_connection(made, *address), rng, figures, "plain")

    async def unix(self, rng, figures):
        loop = asyncio.get_running_loop()
        await connection(
            lambda made: loop.create_unix_connection(made, self.path), rng, figures, "Unix")

    async def tls(self, rng, figures):
        loop = asyncio.get_running_loop()
        address = rng.choice(ADDRESSES), self.tls_port
        await connection(
            lambda made: loop.create_connection(
                made, *address, ssl=self.client_ssl, server_hostname="localhost"),
            rng, figures, "TLS")

    async def bare(self, rng, figures):
        """BURST sockets connect: a third is reset before it is accepted, a third after it wrote."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            address, data, answered = (rng.choice(ADDRESSES), self.port), some_data(rng)[:2000], []
            for _ in range(BURST):
                sock = stack.enter_context(socket.socket())
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
                sock.connect(address)       # into the backlog
                how = rng.randrange(3)
                if how:
                    sock.send(data)
                    answered.append(sock)
                if how < 2:
                    sock.close()
            figures.counts["bare connections"] += BURST
            figures.counts["aborted"] += BURST - len(answered)
            for sock in answered:
                if sock.fileno() < 0:
                    figures.counts["aborted"] += 1
                    continue
                sock.setblocking(False)
                got = b""
                while len(got) < len(data):
                    got += (more := await asyncio.wait_for(loop.sock_recv(sock, 4000), 30))
                    if not more or not data.startswith(got):
                        raise Corrupt(f"{len(got)} of {len(data)} bytes, or others")
        # As many as the time that has passed asks for.
        ahead = figures.counts["bare connections"] / PER_SECOND - (time.monotonic() - figures.start)
        await asyncio.sleep(max(0, ahead))

    async def udp(self, rng, figures):
        loop = asyncio.get_running_loop()
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(self.datagrams.get_extra_info("sockname"))
            for n in range(20):
                data = b"%d" % n * rng.randrange(1, 100)
                await loop.sock_sendall(sock, data)
                if await asyncio.wait_for(loop.sock_recv(sock, 1000), 5) != data:
                    raise Corrupt("a datagram is another")
                figures.counts["datagrams"] += 1
        await asyncio.sleep(0.01)


async def children(rng, figures):
    """One that answers, and one that is killed."""
    data = some_data(rng)
    process = await asyncio.create_subprocess_exec("/bin/cat", stdin=-1, stdout=-1)
    out, _ = await process.communicate(data)
    if out != data or process.returncode:
        raise Corrupt(f"a child said {len(out)} of {len(data)} bytes, {process.returncode}")
    process = await asyncio.create_subprocess_exec("/bin/sleep", "100", stdout=-1)
    process.kill()
    await process.wait()
    if process.returncode != -9:
        raise Corrupt(f"a killed child returned {process.returncode}")
    figures.counts["children"] += 2
    figures.counts["killed by SIGKILL"] += 1
    await asyncio.sleep(0.2)


async def names(rng, figures):
    loop = asyncio.get_running_loop()
    await loop.getaddrinfo("localhost", rng.randrange(1, 60000), type=socket.SOCK_STREAM)
    await loop.run_in_executor(None, len, DATA)
    figures.counts["names"] += 1
    await asyncio.sleep(0.01)


async def timers(rng, figures):
    loop = asyncio.get_running_loop()
    handles = [loop.call_later(rng.random() * 2, int) for _ in range(200)]
    await asyncio.sleep(rng.random() * 0.1)
    for handle in handles[::2]:
        handle.cancel()
    figures.counts["timers"] += len(handles)


async def collections_of_garbage(rng, figures):
    await asyncio.sleep(1)
    gc.collect()
    figures.counts["garbage collections"] += 1


def child_of_a_fork(new_loop):
    code = 1
    try:
        asyncio._set_running_loop(None)
        loop = new_loop()
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()
        code = 0
    finally:
        os._exit(code)


def forks(new_loop):
    async def work(rng, figures):
        pid = os.fork()
        if not pid:
            child_of_a_fork(new_loop)
        while not (got := os.waitpid(pid, os.WNOHANG))[0]:
            await asyncio.sleep(0.01)
        if got[1]:
            figures.fail(f"a forked child ended with {got[1]}")
        figures.counts["forks"] += 1
        await asyncio.sleep(1)
    return work


def peers(services, loop_name):
    async def work(rng, figures):
        """A process full of connections to us, killed after a moment."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, "--peer", str(services.port), "--loop", loop_name, stdout=-1)
        await process.stdout.readline()         # it is connected
        await asyncio.sleep(rng.random())
        process.kill()
        await process.wait()
        process._transport.close()
        figures.counts["killed by SIGKILL"] += 1
        figures.counts["connections of killed peers"] += 50
        await asyncio.sleep(2)
    return work


async def peer(port):
    loop = asyncio.get_running_loop()
    readers = [await loop.create_connection(lambda: Client(DATA * 20), ADDRESSES[0], port)
               for _ in range(50)]
    print("connected", flush=True)
    await asyncio.sleep(100)
    del readers


# -- measuring ------------------------------------------------------------------------

def measured():
    with open("/proc/self/status") as file:
        status = dict(line.split(":", 1) for line in file)
    return {"KiB resident": int(status["VmRSS"].split()[0]),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "threads": int(status["Threads"])}


async def measure(seconds, samples, figures):
    start = time.monotonic()
    said = 0.0
    while (passed := time.monotonic() - start) < seconds:
        await asyncio.sleep(1)
        samples.append(measured())
        if passed - said > 60:
            said = passed
            print(f"{passed:.0f} s", samples[-1], dict(figures.counts), flush=True)


def compared(samples, figures):
    """The means of the second and the last quarter."""
    quarter = len(samples) // 4
    for what, allowed in ALLOWED.items():
        second = statistics.mean(s[what] for s in samples[quarter:2 * quarter])
        last = statistics.mean(s[what] for s in samples[3 * quarter:])
        print(f"{what}: {second:.1f} in the second quarter, {last:.1f} in the last")
        if last - second > allowed:
            figures.fail(f"{what} grew by {last - second:.1f}")


async def soak(seconds, loop_name, figures, samples):
    new_loop = support.factory(loop_name)
    rng = random.Random(1)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: figures.fail(
        f"reported: {context.get('message')} {context.get('exception')!r}"))
    services = Services()
    with tempfile.TemporaryDirectory() as folder:
        await services.start(folder)
        works = [(services.plain, 24), (services.unix, 6), (services.tls, 6), (services.udp, 2),
                 (services.bare, 4), (children, 1), (names, 2), (timers, 2),
                 (collections_of_garbage, 1), (forks(new_loop), 1), (peers(services, loop_name), 1)]
        tasks = [
            loop.create_task(forever(work, random.Random(rng.random()), figures, work.__qualname__))
            for work, n in works for _ in range(n)]
        await measure(seconds, samples, figures)
        figures.is_over = True
        _, pending = await asyncio.wait(tasks, timeout=120)
        if pending:
            figures.fail(f"they never end: {pending}")
        for server in services.servers:
            server.close()
        services.datagrams.close()
    for _ in range(600):
        if Echo.made == Echo.lost:
            break
        await asyncio.sleep(0.1)
    figures.counts["connections accepted"] = Echo.made
    if Echo.made != Echo.lost:
        figures.fail(f"{Echo.made} connections were made, {Echo.lost} were lost")


# -- interrupts -----------------------------------------------------------------------

async def interrupted_work(rng, figures, services):
    works = [asyncio.ensure_future(work(rng, figures))
             for work in (services.plain, services.unix, services.tls, services.udp, names)]
    for work in works:
        with contextlib.suppress(*EXPECTED):
            await work


def settled(loop):
    """End what is left.  Whoever awaits a task that was interrupted is interrupted, too."""
    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=10))
        for _ in range(3):
            loop.run_until_complete(asyncio.sleep(0))
    except KeyboardInterrupt:
        return False
    except RuntimeError as exc:
        # The stop() of a run that was interrupted right at its end; so with the stock loop.
        if "stopped before" not in str(exc):
            raise
        return False
    return True


def interrupts(loop_name, number):
    """KeyboardInterrupt at `number` random moments; the loop has to go on each time."""
    rng, figures = random.Random(2), Figures()
    loop = support.factory(loop_name)()
    loop.set_exception_handler(lambda loop, context: None)

    def interrupt(signum, frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    services, done, ends = Services(), 0, []
    with tempfile.TemporaryDirectory() as folder:
        loop.run_until_complete(services.start(folder))
        while done < number:
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.random() * 0.02 + 1e-5)
                loop.run_until_complete(interrupted_work(rng, figures, services))
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                done += 1
            except RuntimeError as exc:     # see settled()
                if "stopped before" not in str(exc):
                    raise
            signal.setitimer(signal.ITIMER_REAL, 0)
            while not settled(loop):
                pass
            if done >= len(ends) * number // 20:
                gc.collect()
                ends.append(measured())
        # It works still.
        before = figures.counts["plain connections"]
        for _ in range(100):
            loop.run_until_complete(services.plain(rng, figures))
        is_whole = figures.counts["plain connections"] > before
    loop.close()
    return {"interrupts": done, "works afterwards": is_whole, "failures": figures.failures,
            **{what: [end[what] for end in ends] for what in ("descriptors", "KiB resident")}}


def interrupted_child(loop_name, number, figures):
    """In a process of its own, since it breaks off whatever it was about to do."""
    import subprocess
    done = subprocess.run([sys.executable, __file__, "--interrupts", str(number), "--loop", loop_name],
                          capture_output=True, text=True)
    if done.returncode:
        figures.fail(f"interrupts: exit status {done.returncode} {done.stderr[-2000:]}")
        return
    result = json.loads(done.stdout.splitlines()[-1])
    print(result)
    if not result["works afterwards"] or result["failures"]:
        figures.fail(f"interrupts: {result}")
    middle, last = (result["descriptors"][len(result["descriptors"]) // 2], result["descriptors"][-1])
    if last > middle + 8:
        figures.fail(f"interrupts: descriptors {middle} -> {last}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loop", default="tidewire")
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("SECONDS") or 3600))
    parser.add_argument("--interrupts", type=int, default=0, help="only so many interrupts")
    parser.add_argument("--interrupted", type=int, default=1000)
    parser.add_argument("--peer", type=int, default=0, help="be a peer of this port")
    options = parser.parse_args()
    new_loop = support.factory(options.loop)
    if options.peer:
        new_loop().run_until_complete(peer(options.peer))
        return 0
    if options.interrupts:
        print(json.dumps(interrupts(options.loop, options.interrupts)))
        return 0
    figures, samples = Figures(), []
    before = len(os.listdir("/proc/self/fd"))
    start = time.monotonic()
    loop = new_loop()
    loop.run_until_complete(soak(options.seconds, options.loop, figures, samples))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    gc.collect()
    after = len(os.listdir("/proc/self/fd"))
    if after > before:
        figures.fail(f"{after - before} descriptors were left behind")
    print(f"\n{options.loop}: {time.monotonic() - start:.0f} s")
    for what, n in sorted(figures.counts.items()):
        print(f"{n:10} {what}")
    compared(samples, figures)
    interrupted_child(options.loop, options.interrupted, figures)
    print(f"{len(figures.failures)} failures")
    return 1 if figures.failures else 0


if __name__ == "__main__":
    sys.exit(main())
