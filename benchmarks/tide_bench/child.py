"""The process under test: ``python -m tide_bench.child CASE FACTORY OPTIONS``.

Prints one JSON line: where a server listens, or what a process case measured.
"""
import asyncio
import gc
import json
import os
import resource
import socket
import ssl
import subprocess
import sys
import time

from . import build, case, heap, loops, proc


class Env:
    """What a case's body may use."""

    def __init__(self, args, options, factory):
        self.args = args
        self.factory = factory
        self.seconds = options["seconds"]
        self.warm = options["warm"]
        self.batches = options.get("batches", 1)    # at least
        self.cores = options["cores"]
        self.directory = options["directory"]
        self.loop = None
        self.kept = []

    @property
    def load_program(self):
        return str(build.BUILD / "load")

    def beside(self, command, *options, end="KILL"):
        """A process on the load's core, which gets the signal ``end`` when this one ends."""
        pinned = [] if self.cores[1] is None else ["taskset", "-c", self.cores[1]]
        command = ["setpriv", *options, "--pdeathsig", end, *pinned, *command]
        process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, text=True)
        self.kept.append(process)
        return process

    def server_context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*map(str, build.certificate()))
        return context

    async def listen(self, factory):
        """Serve a protocol over TCP, Unix or TLS, as the case says."""
        if self.args.get("over") == "unix":
            path = os.path.join(self.directory, f"{os.getpid()}.sock")
            await self.loop.create_unix_server(factory, path, backlog=1024)
            return {"unix": path}
        context = self.server_context() if self.args.get("over") == "tls" else None
        server = await self.loop.create_server(factory, "127.0.0.1", 0, backlog=1024,
                                               ssl=context)
        return {"port": server.sockets[0].getsockname()[1]}

    def idle_connections(self):
        """As many connections as the case wants, on which nothing happens."""
        async def connect():
            for _ in range(self.args.get("idle", 0)):
                here, there = socket.socketpair()
                self.kept.append(there)
                await self.loop.create_connection(asyncio.Protocol, sock=here)

        self.loop.run_until_complete(connect())

    def measure(self, batch, n, children=False):
        """Run ``await batch(n)`` for the time that is due; counts n each."""
        def cpu():
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            return time.process_time() + (children and used.ru_utime + used.ru_stime)

        async def main():
            began = time.perf_counter()
            await batch(n)
            while time.perf_counter() - began < self.warm:
                await batch(n)
            gc.collect()
            ops, began, spent = 0, time.perf_counter(), cpu()
            while ops < n * self.batches or time.perf_counter() - began < self.seconds:
                await batch(n)
                ops += n
            return {"ops": ops, "cpu": cpu() - spent, "wall": time.perf_counter() - began}

        self.idle_connections()
        return self.loop.run_until_complete(main())


def main(name, factory, options):
    options = json.loads(options)
    this = case.load_all()[name]
    if options["core"] is not None and this.pinned:
        os.sched_setaffinity(0, {options["core"]})
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    env = Env(this.args, options, factory)
    env.loop = loops.make(factory)
    asyncio.set_event_loop(env.loop)
    heap.prepare(options["malloc"])
    said = env.loop.run_until_complete(this.body(env)) if this.server else this.body(env)
    if not this.server:
        said["peak_kib"] = proc.peak_kib()
    print(json.dumps(said), flush=True)
    if this.server:
        env.loop.run_forever()
    os._exit(0)     # what is left open is the kernel's to close


if __name__ == "__main__":
    main(*sys.argv[1:])
