"""A forked child: the parent's loop can be closed there, a new one works."""
import sys

import pytest


def test_child_makes_its_own_loop(script):
    out = script("""
        async def main(text):
            await asyncio.sleep(0.001)
            return text

        loop = new_loop()
        loop.run_until_complete(main("x"))
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            try:
                mine = new_loop()
                print(mine.run_until_complete(main("child")), flush=True)
                mine.close()
            finally:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        print(loop.run_until_complete(main("parent")))
        loop.close()
    """)
    assert out == ["child", "parent"]


def test_child_closes_the_parents_loop(script):
    """The parent's watchers are not disturbed by it."""
    out = script("""
        a, b = socket.socketpair()
        loop = new_loop()
        seen = []
        loop.add_reader(b, lambda: (seen.append(b.recv(10)), loop.stop()))
        loop.call_later(0, loop.stop)
        loop.run_forever()
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            try:
                loop.close()
                print("closed", flush=True)
            finally:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        a.send(b"x")
        loop.run_forever()
        loop.remove_reader(b)
        loop.close()
        print(seen)
    """)
    assert out == ["closed", "[b'x']"]


def test_child_without_a_descriptor_to_spare_closes_the_parents_loop(script):
    out = script("""
        import resource

        a, b = socket.socketpair()
        loop = new_loop()
        seen = []
        loop.add_reader(b, lambda: (seen.append(b.recv(10)), loop.stop()))
        loop.call_later(0, loop.stop)
        loop.run_forever()
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
        try:
            while True:
                os.dup(0)
        except OSError:
            pass
        pid = os.fork()
        if not pid:
            try:
                loop.close()
            finally:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        a.send(b"x")
        loop.call_later(5, loop.stop)
        loop.run_forever()
        loop.remove_reader(b)
        loop.close()
        print(seen)
    """)
    assert out == ["[b'x']"]


def test_fork_while_the_loop_runs(script):
    """In the child no loop is running; it can run another."""
    out = script("""
        async def main():
            sys.stdout.flush()
            pid = os.fork()
            if pid:
                assert os.waitpid(pid, 0)[1] == 0
                await asyncio.sleep(0.001)
                return "parent"
            try:
                try:
                    asyncio.get_running_loop()
                    print("still running?", flush=True)
                except RuntimeError:
                    pass
                mine = new_loop()
                print(mine.run_until_complete(asyncio.sleep(0.001, "child")),
                      flush=True)
                mine.close()
            finally:
                os._exit(0)

        loop = new_loop()
        print(loop.run_until_complete(main()))
        loop.close()
    """)
    assert out == ["child", "parent"]


def test_writes_before_a_fork_are_not_sent_twice(script):
    out = script("""
        async def main():
            protocol, other = await support.pair("unix")
            transport = protocol.transport
            transport.write(b"before")
            pid = os.fork()
            if not pid:
                os._exit(0)
            os.waitpid(pid, 0)
            transport.write(b"after")
            transport.write_eof()
            await other.saw("eof")
            print(other.data)
            await support.close(protocol, other)

        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
    """)
    assert out == ["b'beforeafter'"]


def test_writes_leave_before_a_fork(script):
    """Nothing is held back that both processes would send."""
    out = script("""
        async def main():
            protocol, other = await support.pair("unix")
            peer = other.transport.get_extra_info("socket")
            other.transport.pause_reading()
            await asyncio.sleep(0)
            protocol.transport.write(b"before")
            sys.stdout.flush()
            pid = os.fork()
            if not pid:
                print(os.read(peer.fileno(), 100), flush=True)
                os._exit(0)
            os.waitpid(pid, 0)
            await support.close(protocol, other)

        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
    """)
    assert out == ["b'before'"]


@pytest.mark.tidewire
def test_a_loop_from_before_the_fork_does_not_run(script):
    out = script("""
        loop = new_loop()
        loop.run_until_complete(asyncio.sleep(0))
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            try:
                loop.run_forever()
            except RuntimeError as exc:
                print(exc, flush=True)
            loop.close()
            os._exit(0)
        os.waitpid(pid, 0)
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    """)
    assert len(out) == 1 and "before a fork" in out[0]


def test_multiprocessing_fork_and_threads(script):
    out = script("""
        import multiprocessing, warnings
        warnings.simplefilter("ignore")

        def child(queue):
            loop = new_loop()
            queue.put(loop.run_until_complete(asyncio.sleep(0.001, "child")))
            loop.close()

        async def main():
            context = multiprocessing.get_context("fork")
            queue = context.Queue()
            process = context.Process(target=child, args=(queue,))
            process.start()
            loop = asyncio.get_running_loop()
            print(await loop.run_in_executor(None, queue.get))
            await loop.run_in_executor(None, process.join)
            print(process.exitcode)

        loop = new_loop()
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    """)
    assert out == ["child", "0"]


def test_exit_with_a_loop_left_open(script):
    """At the end of the interpreter nothing crashes."""
    out = script("""
        warnings.simplefilter("ignore")
        loop = new_loop()
        async def main():
            return await support.pair("tcp")
        keep = loop.run_until_complete(main())
        loop.call_later(1000, print)
        loop.call_soon(print, "never")
        print("end")
    """)
    assert out == ["end"]


def test_exit_inside_the_loop(script):
    done = script("""
        async def main():
            keep = await support.pair("tcp")
            sys.exit(7)
        loop = new_loop()
        loop.run_until_complete(main())
    """, check=False)
    assert done.returncode == 7, done.stderr


def test_daemon_thread_with_a_running_loop_at_exit(script):
    done = script("""
        def work():
            loop = new_loop()
            def chain():
                loop.call_later(0.0001, chain)
            chain()
            ready.set()
            loop.run_forever()

        ready = threading.Event()
        threading.Thread(target=work, daemon=True).start()
        ready.wait()
        print("end")
    """, check=False)
    assert done.returncode == 0 or sys.version_info < (3, 12), done.stderr
    assert done.returncode >= 0, done.stderr
    assert done.stdout == "end\n"


@pytest.mark.skipif(sys.version_info >= (3, 14),
                    reason="a task of 3.14 refuses: its loop is not running in the child")
def test_a_running_loop_goes_on_in_the_child(script):
    """As asyncio's; but the parent's poller does not hear of what the child does."""
    out = script("""
        async def main():
            a, b = socket.socketpair()
            sys.stdout.flush()
            pid = os.fork()
            if not pid:
                loop.add_reader(b, lambda: (b.recv(10), loop.remove_reader(b)))
                later = loop.create_future()    # none is "running" for asyncio.sleep()
                loop.call_later(0.001, later.set_result, None)
                await later
                loop.remove_reader(b)
                os._exit(7)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            got = loop.create_future()
            loop.add_reader(b, lambda: got.done() or got.set_result(b.recv(10)))
            a.send(b"x")
            print(await got)
            loop.remove_reader(b)
            a.close()
            b.close()

        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
    """)
    assert out == ["7", "b'x'"]


def test_a_signal_of_a_child_is_not_the_parents(script):
    """It has the parent's wakeup descriptor only until the fork."""
    out = script("""
        async def main():
            loop = asyncio.get_running_loop()
            seen = []
            loop.add_signal_handler(signal.SIGTERM, seen.append, "SIGTERM")
            r, w = os.pipe()
            child = os.fork()
            if not child:
                os.write(w, b"x")
                while True:
                    time.sleep(0.01)
            os.read(r, 1)
            os.kill(child, signal.SIGTERM)
            await asyncio.sleep(0.1)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            print(seen)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.01)
            print(seen)

        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
    """)
    assert out == ["[]", "['SIGTERM']"]


def test_loops_are_made_in_threads_during_a_fork(script):
    """The hooks look at all loops, while others come and go."""
    out = script("""
        def work():
            while not stop:
                new_loop().close()

        warnings.simplefilter("ignore")
        sys.setswitchinterval(1e-6)
        stop = []
        unraisable = []
        sys.unraisablehook = unraisable.append
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(100):
            pid = os.fork()
            if not pid:
                os._exit(0)
            os.waitpid(pid, 0)
        stop.append(True)
        for thread in threads:
            thread.join()
        print([str(one.exc_value) for one in unraisable])
    """)
    assert out == ["[]"]
