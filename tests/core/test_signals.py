"""add_signal_handler, Ctrl-C, and what is left behind after close()."""
import asyncio
import os
import signal
import threading

import pytest


@pytest.fixture(autouse=True)
def handlers_are_restored():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2,
               signal.SIGHUP, signal.SIGCHLD)
    before = {n: signal.getsignal(n) for n in numbers}
    yield
    after = {n: signal.getsignal(n) for n in numbers}
    fd = signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == before
    assert fd == -1


def test_handler_runs_in_the_loop(loop):
    seen = []

    def handler(*args):
        seen.append((args, asyncio.get_running_loop() is loop))
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, handler, 1, 2)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    assert seen == [((1, 2), True)]
    assert loop.remove_signal_handler(signal.SIGUSR1) is True


def test_handler_wakes_a_blocked_loop(loop, script):
    """The signal comes from outside, with nothing else to do."""
    out = script("""
        loop = new_loop()
        loop.add_signal_handler(signal.SIGTERM, loop.stop)
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        start = time.monotonic()
        loop.run_forever()
        assert time.monotonic() - start < 5
        timer.join()
        loop.close()
        print("ended")
    """)
    assert out == ["ended"]


def test_remove_returns_whether_there_was_one(loop):
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    loop.add_signal_handler(signal.SIGUSR1, lambda: None)
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False


def test_remove_restores_the_default(loop):
    loop.add_signal_handler(signal.SIGUSR1, lambda: None)
    loop.remove_signal_handler(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_remove_of_sigint_restores_the_interrupt(loop):
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    loop.remove_signal_handler(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_close_removes_handlers(make_loop):
    loop = make_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: None)
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_second_handler_replaces_the_first(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "first")
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "second")
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert seen == ["second"]
    loop.remove_signal_handler(signal.SIGUSR1)


@pytest.mark.parametrize("number, kind", [
    (0, ValueError), (-1, ValueError), (1000, ValueError),
    ("SIGINT", TypeError), (1.5, TypeError), (None, TypeError)])
def test_wrong_numbers(loop, number, kind):
    with pytest.raises(kind):
        loop.add_signal_handler(number, lambda: None)
    with pytest.raises(kind):
        loop.remove_signal_handler(number)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_signals_that_cannot_be_caught(loop, number):
    with pytest.raises(RuntimeError, match="cannot be caught"):
        loop.add_signal_handler(number, lambda: None)


def test_coroutines_are_refused(loop):
    async def handler():
        pass

    with pytest.raises(TypeError, match="[Cc]oroutine"):
        loop.add_signal_handler(signal.SIGUSR1, handler)
    coro = handler()
    with pytest.raises(TypeError, match="[Cc]oroutine"):
        loop.add_signal_handler(signal.SIGUSR1, coro)
    coro.close()


def test_not_in_another_thread(loop):
    seen = []

    def other():
        try:
            loop.add_signal_handler(signal.SIGUSR1, lambda: None)
        except (RuntimeError, ValueError) as exc:
            seen.append(type(exc))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [RuntimeError]


def test_closed_loop(make_loop):
    loop = make_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.add_signal_handler(signal.SIGUSR1, lambda: None)
    assert loop.remove_signal_handler(signal.SIGUSR1) is False


def test_signal_while_the_loop_is_stopped_is_kept(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert seen == []
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert seen == [1]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_signal_between_two_runs_is_kept(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
    loop.call_soon(loop.stop)
    loop.run_forever()
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert seen == [1]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_many_signals(loop):
    seen = []
    numbers = signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP

    def handler(number):
        seen.append(number)
        if len(seen) == 300:
            loop.stop()

    for number in numbers:
        loop.add_signal_handler(number, handler, number)

    def send(left):
        for number in numbers:
            os.kill(os.getpid(), number)
        if left > 1:
            loop.call_soon(send, left - 1)

    loop.call_soon(send, 100)
    loop.call_later(5, loop.stop)
    loop.run_forever()
    assert sorted(seen) == sorted(numbers * 100)
    for number in numbers:
        loop.remove_signal_handler(number)


@pytest.mark.parametrize("how", [
    "python", "removed",
    pytest.param("loop", marks=pytest.mark.asyncio_defect("a line on stderr for each signal"))])
def test_signals_of_a_profiler(loop, run, how):
    """More of them during one callback than the wakeup descriptor takes bytes: no report of it."""
    seen = []
    signal.signal(signal.SIGUSR2, lambda *args: seen.append("python"))

    async def main():
        if how != "python":
            loop.add_signal_handler(signal.SIGUSR1, seen.append, "loop")
        if how == "removed":
            loop.remove_signal_handler(signal.SIGUSR1)
        for _ in range(1500):
            signal.raise_signal(signal.SIGUSR2)
        if how == "loop":
            await asyncio.sleep(0.001)
            signal.raise_signal(signal.SIGUSR1)
            while "loop" not in seen:
                await asyncio.sleep(0.001)

    run(main())
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    if how == "loop":
        loop.remove_signal_handler(signal.SIGUSR1)
    assert seen.count("python") == 1500


def test_handler_that_raises(loop, errors):
    def handler():
        raise ZeroDivisionError

    loop.add_signal_handler(signal.SIGUSR1, handler)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    (context,) = errors.take()
    assert isinstance(context["exception"], ZeroDivisionError)
    loop.remove_signal_handler(signal.SIGUSR1)


def test_report_in_debug_mode_shows_where_the_handler_was_added(loop, errors):
    loop.set_debug(True)

    def add():
        loop.add_signal_handler(signal.SIGUSR1, lambda: 1 / 0)

    add()
    loop.call_soon(signal.raise_signal, signal.SIGUSR1)
    loop.call_later(0.001, loop.stop)
    while not (seen := errors.take()):
        loop.run_forever()
        loop.call_soon(loop.stop)
    loop.remove_signal_handler(signal.SIGUSR1)
    names = [frame.name for frame in seen[0]["source_traceback"]]
    assert "add" in names and names[-1] == "add_signal_handler"


def test_handler_that_interrupts(loop):
    def handler():
        raise KeyboardInterrupt

    loop.add_signal_handler(signal.SIGUSR1, handler)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.call_later(5, loop.stop)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.remove_signal_handler(signal.SIGUSR1)


def test_handler_that_removes_itself(loop):
    seen = []

    def handler():
        seen.append(loop.remove_signal_handler(signal.SIGUSR1))
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, handler)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    assert seen == [True]


def test_python_handler_runs_while_the_loop_blocks(loop):
    """signal.signal() handlers are not delayed by a loop with no work."""
    seen = []
    old = signal.signal(signal.SIGALRM,
                        lambda *a: (seen.append(1),
                                    loop.call_soon_threadsafe(loop.stop)))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        start = loop.time()
        timer = loop.call_later(10, loop.stop)
        loop.run_forever()
        assert loop.time() - start < 5
        timer.cancel()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert seen == [1]


def test_exception_of_a_python_handler_comes_out(loop, script):
    out = script("""
        class Mine(Exception): pass
        def handler(*args): raise Mine
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        loop = new_loop()
        loop.call_later(10, loop.stop)
        start = time.monotonic()
        try:
            loop.run_forever()
        except Mine:
            print("mine", time.monotonic() - start < 5)
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    """)
    assert out == ["mine True"]


def test_ctrl_c_ends_a_blocked_loop(script):
    out = script("""
        loop = new_loop()
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        start = time.monotonic()
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted", time.monotonic() - start < 5)
        timer.join()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
    """)
    assert out == ["interrupted True"]


def test_ctrl_c_under_a_busy_loop(script):
    out = script("""
        loop = new_loop()
        def chain():
            loop.call_soon(chain)
        chain()
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted")
        timer.join()
        loop.close()
    """)
    assert out == ["interrupted"]


def test_ctrl_c_under_a_runner_cancels_the_task(script):
    out = script("""
        async def main():
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                print("cancelled")
                raise
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        try:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(main())
        except KeyboardInterrupt:
            print("interrupted")
        timer.join()
    """)
    assert out == ["cancelled", "interrupted"]


def test_wakeup_fd_of_the_program_comes_back(script):
    """A loop that has run puts back what it found."""
    out = script("""
        a, b = socket.socketpair()
        a.setblocking(False)
        b.setblocking(False)
        signal.set_wakeup_fd(b.fileno(), warn_on_full_buffer=False)
        loop = new_loop()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
        print(signal.set_wakeup_fd(-1) == b.fileno())
    """)
    assert out == ["True"]


@pytest.mark.parametrize("inside", [False, True])
def test_wakeup_fd_of_the_program_is_told(script, inside):
    """While the loop runs, too: Twisted learns of its children so."""
    out = script(f"""
        a, b = socket.socketpair()
        a.setblocking(False)
        b.setblocking(False)
        signal.signal(signal.SIGUSR1, lambda *args: None)

        async def main():
            if {inside}:
                signal.set_wakeup_fd(b.fileno())
            os.kill(os.getpid(), signal.SIGUSR1)
            return await loop.sock_recv(a, 10)

        if not {inside}:
            signal.set_wakeup_fd(b.fileno())
        loop = new_loop()
        print(loop.run_until_complete(main()) == bytes([signal.SIGUSR1]))
        loop.close()
        print(signal.set_wakeup_fd(-1) == b.fileno())
    """)
    assert out == ["True", "True"]


def test_loop_in_a_thread_leaves_signals_alone(script):
    out = script("""
        def work():
            loop = new_loop()
            loop.run_until_complete(asyncio.sleep(0.3))
            loop.close()
            print("thread done", flush=True)
        thread = threading.Thread(target=work)
        thread.start()
        seen = []
        signal.signal(signal.SIGUSR1, lambda *a: seen.append(1))
        os.kill(os.getpid(), signal.SIGUSR1)
        thread.join()
        print(seen)
    """)
    assert out == ["thread done", "[1]"]


def test_system_calls_are_restarted(loop):
    """siginterrupt(False), as asyncio sets it."""
    loop.add_signal_handler(signal.SIGUSR1, lambda: None)
    import select
    import time
    r, w = os.pipe()
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    start = time.monotonic()
    select.select([r], [], [], 0.1)
    assert time.monotonic() - start >= 0.09
    os.close(r)
    os.close(w)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    loop.remove_signal_handler(signal.SIGUSR1)


@pytest.mark.parametrize("kind", ["none", "handler"])
def test_wakeup_fd_that_is_taken_inside_comes_back(script, kind):
    """What set_wakeup_fd() returned in the loop can be set again, there and behind the loop."""
    out = script(f"""
        a, b = socket.socketpair()
        a.setblocking(False)
        b.setblocking(False)
        signal.signal(signal.SIGALRM, lambda *args: print("alarm"))

        async def main():
            loop = asyncio.get_running_loop()
            seen = asyncio.Queue()
            if {kind!r} == "handler":
                loop.add_signal_handler(signal.SIGUSR1, seen.put_nowait, "handler")
            before = signal.set_wakeup_fd(b.fileno(), warn_on_full_buffer=False)
            os.kill(os.getpid(), signal.SIGALRM)
            print(await loop.sock_recv(a, 10) == bytes([signal.SIGALRM]))
            print(signal.set_wakeup_fd(before) == b.fileno())
            if {kind!r} == "handler":
                os.kill(os.getpid(), signal.SIGUSR1)
                print(await seen.get(), seen.qsize())
                loop.remove_signal_handler(signal.SIGUSR1)
            return before

        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
        print(signal.set_wakeup_fd(-1) == -1)
    """)
    handler = ["handler 0"] if kind == "handler" else []
    assert out == ["alarm", "True", "True", *handler, "True"]


@pytest.mark.parametrize("how", ["taken", "disabled"])
def test_wakeup_fd_that_is_taken_inside_comes_back_behind_close(script, how):
    """The number is no stranger's by then, and a signal harms nobody."""
    out = script(f"""
        a, b = socket.socketpair()
        b.setblocking(False)
        signal.signal(signal.SIGALRM, lambda *args: print("alarm"))

        async def main():
            return signal.set_wakeup_fd(b.fileno() if {how!r} == "taken" else -1)

        loop = new_loop()
        before = loop.run_until_complete(main())
        loop.close()
        files = [socket.socketpair() for _ in range(5)]
        print(signal.set_wakeup_fd(before) == (b.fileno() if {how!r} == "taken" else -1))
        os.kill(os.getpid(), signal.SIGALRM)
        for pair in files:
            for file in pair:
                file.setblocking(False)
                try:
                    print(file.recv(10))
                except BlockingIOError:
                    pass
        print(signal.set_wakeup_fd(-1) == before)
    """)
    assert out == ["True", "alarm", "True"]


def test_wakeup_descriptors_are_closed_with_the_loops(make_loop):
    """Whatever was done with signals, unless the program took the number."""
    def use(*uses):
        loop = make_loop()
        if "add" in uses:
            loop.add_signal_handler(signal.SIGUSR1, int)
        if "remove" in uses:
            loop.remove_signal_handler(signal.SIGUSR1)
        if "run" in uses:
            loop.run_until_complete(asyncio.sleep(0))
        if "remove inside" in uses:
            loop.call_soon(loop.remove_signal_handler, signal.SIGUSR1)
        if "taken and put back" in uses:
            loop.call_soon(lambda: signal.set_wakeup_fd(signal.set_wakeup_fd(-1)))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    use()
    before = os.listdir("/proc/self/fd")
    for uses in [["add"], ["add", "remove"], ["run"], ["add", "remove inside", "run"],
                 ["taken and put back"], ["add", "taken and put back"]]:
        use(*uses)
        assert os.listdir("/proc/self/fd") == before, uses


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("run", [(), (0,), (1,), (0, 1)])
def test_wakeup_descriptors_of_two_loops_with_handlers(make_loop, order, run):
    """Each loop displaces the other's. The program gets neither number."""
    def use():
        loops = make_loop(), make_loop()
        for loop in loops:
            loop.add_signal_handler(signal.SIGUSR1, int)
        for i in run:
            loops[i].run_until_complete(asyncio.sleep(0))
        for i in order:
            loops[i].close()
        signal.set_wakeup_fd(-1)

    use()
    before = os.listdir("/proc/self/fd")
    use()
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.asyncio_defect("the signal is lost")
@pytest.mark.parametrize("count", [1, 3])
def test_signal_behind_a_full_wakeup_descriptor(loop, run, count):
    """Its byte finds no room: the handler is called all the same."""
    seen = []
    signal.signal(signal.SIGUSR2, lambda *args: None)
    numbers = [signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP][:count]

    async def main():
        for number in numbers:
            loop.add_signal_handler(number, seen.append, number)
        for _ in range(70000):
            signal.raise_signal(signal.SIGUSR2)
        for number in numbers:
            signal.raise_signal(number)
        for _ in range(10):
            await asyncio.sleep(0)
        assert sorted(seen) == sorted(numbers)
        seen.clear()
        for number in numbers:      # and each that has room once
            signal.raise_signal(number)
        for _ in range(10):
            await asyncio.sleep(0)
        assert sorted(seen) == sorted(numbers)

    run(main())
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    for number in numbers:
        loop.remove_signal_handler(number)


def test_signals_to_a_taken_wakeup_descriptor_are_not_handled_later(loop, run):
    seen = []
    r, w = os.pipe()
    os.set_blocking(w, False)

    async def main():
        loop.add_signal_handler(signal.SIGUSR1, seen.append, "first")
        before = signal.set_wakeup_fd(w)
        signal.raise_signal(signal.SIGUSR1)
        await asyncio.sleep(0)
        signal.set_wakeup_fd(before)
        loop.call_soon_threadsafe(int)
        loop.add_signal_handler(signal.SIGUSR2, seen.append, "second")
        signal.raise_signal(signal.SIGUSR2)
        while not seen:
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)

    run(main())
    os.close(r)
    os.close(w)
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGUSR2)
    assert seen == ["second"]


@pytest.mark.tidewire
def test_wakeup_descriptor_that_is_refused(make_loop, monkeypatch):
    """It was never the program's, and is closed with the loop."""
    def refuse(*args, **kwargs):
        monkeypatch.undo()
        raise OSError("refused")

    make_loop().close()
    before = os.listdir("/proc/self/fd")
    loop = make_loop()
    monkeypatch.setattr(signal, "set_wakeup_fd", refuse)
    with pytest.raises(OSError, match="refused"):
        loop.run_forever()
    loop.close()
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.tidewire
def test_a_loop_of_another_thread_gets_signals(script):
    """Its eventfd is replaced by a pipe; what a thread wrote to the eventfd before is not lost."""
    out = script("""
        def counts():
            for name in os.listdir("/proc/self/fdinfo"):
                try:
                    with open(f"/proc/self/fdinfo/{name}") as file:
                        text = file.read()
                except FileNotFoundError:
                    continue
                if "eventfd-count:" in text:
                    yield int(text.partition("eventfd-count:")[2].split()[0], 16)

        def run():
            global loop, lookup
            loop = new_loop()
            lookup = loop.create_task(loop.getaddrinfo("localhost", 80))
            loop.call_soon(loop.stop)
            loop.run_forever()      # one turn, which begins the lookup

        async def main():
            await asyncio.wait_for(lookup, 5)
            heard = asyncio.Event()
            loop.add_signal_handler(signal.SIGUSR1, heard.set)
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.wait_for(heard.wait(), 5)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        while list(counts()) and not any(counts()):     # the portable build has none
            pass
        loop.run_until_complete(main())
        loop.close()
        print("heard")
    """)
    assert out == ["heard"]
