"""call_soon, call_later, call_at: order, time, arguments, errors."""
import asyncio
import decimal
import fractions
import math
import sys
import threading
import time

import pytest


def noop(*args):
    pass


def test_call_soon_is_first_in_first_out(loop, run):
    seen = []
    for i in range(100):
        loop.call_soon(seen.append, i)
    run(asyncio.sleep(0))
    assert seen == list(range(100))


def test_what_a_callback_schedules_runs_in_the_next_turn(loop):
    seen = []

    def first():
        seen.append("first")
        loop.call_soon(third)

    def second():
        seen.append("second")

    def third():
        seen.append("third")
        loop.stop()

    loop.call_soon(first)
    loop.call_soon(second)
    loop.run_forever()
    assert seen == ["first", "second", "third"]


def test_stop_ends_with_the_generation(loop):
    """What stood in the queue with stop() runs, what came later does not."""
    seen = []
    loop.call_soon(loop.stop)
    loop.call_soon(seen.append, "same")
    loop.call_soon(lambda: loop.call_soon(seen.append, "next"))
    loop.run_forever()
    assert seen == ["same"]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == ["same", "next"]


def test_deep_chain(loop):
    left = 20000

    def step():
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            loop.stop()

    loop.call_soon(step)
    loop.run_forever()
    assert left == 0


def test_timers_in_order_of_time(loop):
    seen = []
    now = loop.time()
    for delay in 0.03, 0.01, 0.02, 0.0:
        loop.call_at(now + delay, seen.append, delay)
    loop.call_at(now + 0.04, loop.stop)
    loop.run_forever()
    assert seen == [0.0, 0.01, 0.02, 0.03]


@pytest.mark.parametrize("count", [2, 3, 10, 200])
def test_timers_of_the_same_time_all_run(loop, count):
    seen = []
    when = loop.time() + 0.005
    for i in range(count):
        loop.call_at(when, seen.append, i)
    loop.call_at(when + 0.001, loop.stop)
    loop.run_forever()
    assert sorted(seen) == list(range(count))


def test_random_heap(loop):
    import random
    rng = random.Random(4)
    seen, timers = [], []
    base = loop.time() + 0.001
    for i in range(1000):
        when = base + rng.random() * 0.01
        timers.append((when, loop.call_at(when, lambda w=when: seen.append(w))))
    gone = set()
    for when, timer in rng.sample(timers, 600):
        timer.cancel()
        gone.add(when)
    loop.call_at(base + 0.02, loop.stop)
    loop.run_forever()
    expected = sorted(when for when, _ in timers if when not in gone)
    assert sorted(seen) == expected
    # Exactly in order, except within the clock's resolution.
    assert seen == expected


@pytest.mark.parametrize("kept", range(121, 131))
def test_heap_of_which_most_was_cancelled(loop, kept):
    """Numbers of timers of all kinds: the last one of the heap has a sister, or has none."""
    import random
    rng = random.Random(kept)
    base, seen = loop.time() - 1, []
    whens = [base + n / 1000 for n in range(3 * kept)]
    rng.shuffle(whens)
    timers = {when: loop.call_at(when, seen.append, when) for when in whens}
    expected = sorted(whens)[2 * kept:]
    for when in set(whens) - set(expected):
        timers[when].cancel()
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    loop.run_until_complete(asyncio.sleep(0))
    assert seen == expected


def test_never_early(loop):
    """Within the resolution of the clock, as asyncio has it."""
    resolution = time.get_clock_info("monotonic").resolution
    late = []

    def check(when):
        late.append(loop.time() - when)

    for i in range(1, 40):
        when = loop.time() + i * 0.00037
        loop.call_at(when, check, when)
    loop.call_later(0.03, loop.stop)
    loop.run_forever()
    assert len(late) == 39
    assert min(late) >= -resolution


def test_call_later_zero_keeps_its_order(loop, run):
    seen = []
    loop.call_later(0, seen.append, "later")
    loop.call_soon(seen.append, "soon")
    run(asyncio.sleep(0.001))
    assert seen == ["soon", "later"]


def test_two_call_later_zero(loop, run):
    seen = []
    for i in range(5):
        loop.call_later(0, seen.append, i)
    run(asyncio.sleep(0.002))
    assert seen == list(range(5))


@pytest.mark.parametrize("delay", [-1, -0.001, -1e9])
def test_negative_delay_is_due_at_once(loop, run, delay):
    seen = []
    loop.call_later(delay, seen.append, 1)
    run(asyncio.sleep(0.001))
    assert seen == [1]


def test_call_at_in_the_past(loop, run):
    seen = []
    loop.call_at(0, seen.append, 1)
    loop.call_at(-5.5, seen.append, 0)
    run(asyncio.sleep(0.001))
    assert seen == [0, 1]


def test_a_timer_of_the_past_set_by_a_timer(loop):
    """It does not run in the same generation, so nothing spins for ever."""
    seen = []

    def again():
        seen.append(1)
        if len(seen) < 5:
            loop.call_later(-1, again)
        else:
            loop.stop()

    loop.call_later(0, again)
    loop.run_forever()
    assert seen == [1] * 5


def test_far_future(loop, run):
    timers = [loop.call_later(1e9, noop), loop.call_later(1e15, noop),
              loop.call_at(float("inf"), noop)]
    run(asyncio.sleep(0.001))
    for timer in timers:
        timer.cancel()
    run(asyncio.sleep(0.001))


def test_integer_and_odd_delays(loop, run):
    import fractions
    seen = []
    loop.call_later(True, noop).cancel()
    loop.call_later(fractions.Fraction(1, 1000), seen.append, 1)
    run(asyncio.sleep(0.005))
    assert seen == [1]


def test_call_later_none(loop):
    with pytest.raises(TypeError):
        loop.call_later(None, noop)
    with pytest.raises(TypeError):
        loop.call_at(None, noop)


def test_call_later_string(loop):
    with pytest.raises(TypeError):
        loop.call_later("1", noop)


def test_keyword_arguments(loop, run):
    seen = []
    loop.call_soon(callback=lambda: seen.append("soon"))
    loop.call_later(delay=0, callback=lambda: seen.append("later"))
    loop.call_at(when=0, callback=lambda: seen.append("at"))
    loop.call_soon_threadsafe(callback=lambda: seen.append("threadsafe"))
    run(asyncio.sleep(0.001))
    assert sorted(seen) == ["at", "later", "soon", "threadsafe"]


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
def test_wrong_arguments(loop, method):
    with pytest.raises(TypeError):
        getattr(loop, method)()
    with pytest.raises(TypeError):
        getattr(loop, method)(noop, nonsense=1)
    with pytest.raises(TypeError):
        loop.call_later(1)
    with pytest.raises(TypeError):
        loop.call_at()


def test_closed_loop(make_loop):
    loop = make_loop()
    loop.close()
    for call in (lambda: loop.call_soon(noop),
                 lambda: loop.call_later(1, noop),
                 lambda: loop.call_at(1, noop),
                 lambda: loop.call_soon_threadsafe(noop),
                 lambda: loop.run_forever()):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            call()


def test_time_is_monotonic_time(loop):
    before = time.monotonic()
    now = loop.time()
    assert before <= now <= time.monotonic()
    assert isinstance(now, float)


def test_time_moves_within_a_turn(loop, run):
    async def main():
        first = loop.time()
        while loop.time() == first:
            pass
        return loop.time() - first
    assert run(main()) > 0


def test_an_exception_does_not_stop_the_others(loop, run, errors):
    loop.set_debug(False)
    seen = []

    def fail():
        raise ZeroDivisionError("on purpose")

    loop.call_soon(seen.append, 1)
    loop.call_soon(fail)
    loop.call_later(0, fail)
    loop.call_soon(seen.append, 2)
    run(asyncio.sleep(0.001))
    assert seen == [1, 2]
    first, second = errors.take()
    assert isinstance(first["exception"], ZeroDivisionError)
    assert first["message"].startswith("Exception in callback ")
    assert "fail" in first["message"]
    assert isinstance(first["handle"], asyncio.Handle)
    assert isinstance(second["handle"], asyncio.TimerHandle)
    assert "source_traceback" not in first


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("method", ["call_soon", "call_later"])
def test_interrupts_come_out(loop, run, kind, method):
    seen = []

    def fail():
        raise kind(3)

    if method == "call_soon":
        loop.call_soon(fail)
    else:
        loop.call_later(0, fail)
    for i in range(3):
        loop.call_later(0.001, seen.append, i)
    with pytest.raises(kind):
        loop.run_forever()
    assert not loop.is_running()
    run(asyncio.sleep(0.01))
    assert seen == [0, 1, 2]


def test_interrupt_keeps_the_rest_of_the_queue(loop, run):
    seen = []

    def fail():
        raise KeyboardInterrupt

    loop.call_soon(seen.append, 0)
    loop.call_soon(fail)
    loop.call_soon(seen.append, 1)
    loop.call_soon(seen.append, 2)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert seen == [0]
    run(asyncio.sleep(0))
    assert seen == [0, 1, 2]


def test_base_exception_that_is_no_interrupt(loop, run, errors):
    class Odd(BaseException):
        pass

    def fail():
        raise Odd

    loop.call_soon(fail)
    run(asyncio.sleep(0))
    (context,) = errors.take()
    assert isinstance(context["exception"], Odd)


def test_callback_that_is_not_callable(loop, run, errors):
    """asyncio notices it when it runs, unless in debug mode."""
    loop.set_debug(False)
    loop.call_soon(17)
    run(asyncio.sleep(0))
    (context,) = errors.take()
    assert isinstance(context["exception"], TypeError)


def test_sleep_zero_lets_io_through(loop, run):
    """An endless chain of sleep(0) does not starve descriptors or timers."""
    import socket
    a, b = socket.socketpair()
    seen = []

    async def main():
        loop.add_reader(b, lambda: seen.append(b.recv(10)))
        timer = loop.call_later(0.001, seen.append, "timer")
        a.send(b"x")
        deadline = loop.time() + 5
        while len(seen) < 2 and loop.time() < deadline:
            await asyncio.sleep(0)
        loop.remove_reader(b)
        timer.cancel()

    run(main())
    a.close()
    b.close()
    assert set(seen) == {b"x", "timer"}


def test_timer_under_a_chain_of_call_soon(loop):
    """A due timer enters although the ready queue is never empty."""
    seen = []
    start = loop.time()

    def chain():
        if loop.time() - start > 5 or seen:
            loop.stop()
        else:
            loop.call_soon(chain)

    loop.call_later(0.002, seen.append, 1)
    loop.call_soon(chain)
    loop.run_forever()
    assert seen == [1]


@pytest.mark.asyncio_defect("a NaN that is not the first in the heap waits, or makes others wait")
@pytest.mark.parametrize("at", [False, True], ids=["call_later", "call_at"])
@pytest.mark.parametrize("others", [0, 1, 7])
def test_nan(loop, at, others):
    """A time that is no number is due at once, and no other timer suffers."""
    seen = []
    for _ in range(others):
        loop.call_later(3600, seen.append, "an hour").cancel()
        loop.call_later(0, seen.append, "now")
    timer = (loop.call_at if at else loop.call_later)(math.nan, seen.append, "nan")
    loop.call_later(0.001, seen.append, "later")
    loop.call_later(0.002, loop.stop)
    loop.run_forever()
    assert math.isnan(timer.when())
    assert seen.count("nan") == 1
    assert seen.count("now") == others
    assert seen[-1] == "later"


@pytest.mark.asyncio_defect("a NaN that is not the first in the heap waits, or makes others wait")
def test_nan_is_before_every_number(loop):
    """Not only in an empty heap: whatever is pushed before and behind it."""
    seen = []
    times = [3600, math.inf, 1e300, math.nan, -math.inf, 7200, -1e300, math.nan, 0, math.inf]
    timers = [loop.call_later(delay, seen.append, delay) for delay in times]
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert len(seen) == 5
    assert {repr(delay) for delay in seen} == {"nan", "-inf", "-1e+300", "0"}
    for timer in timers:
        timer.cancel()


@pytest.mark.tidewire
def test_nan_leaves_the_poll_its_wait(loop, run):
    """The loop sleeps behind a timer of NaN, and does not turn and turn."""
    async def main():
        loop.call_later(math.nan, noop).cancel()
        loop.call_later(math.nan, noop)
        before = loop.stats()["turns"]
        await asyncio.sleep(0.2)
        return loop.stats()["turns"] - before

    assert run(main()) < 10


@pytest.mark.asyncio_defect("a NaN that is not the first in the heap waits, or makes others wait")
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="sleep(nan) is a ValueError")
def test_sleep_nan(run):
    run(asyncio.wait_for(asyncio.sleep(math.nan), 10))


@pytest.mark.asyncio_defect("a NaN that is not the first in the heap waits, or makes others wait")
def test_timeout_nan(run):
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(math.nan):
                await asyncio.sleep(10)

    run(main())


def test_clock_that_says_nan(loop_factory):
    """Every timer is due then."""
    first = loop_factory()
    first.close()

    class Loop(type(first)):
        nan = False

        def time(self):
            return math.nan if self.nan else super().time()

    loop = Loop()
    seen = []
    timer = loop.call_later(3600, seen.append, "an hour")
    loop.call_later(math.inf, seen.append, "never")
    loop.nan = True
    loop.call_soon(loop.stop)
    try:
        loop.run_forever()
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()
    assert seen == ["an hour", "never"]
    assert timer.when() > 3600


@pytest.mark.parametrize("delay, error", [
    (10 ** 400, OverflowError), ("1", TypeError), (decimal.Decimal(1), TypeError),
    (object(), TypeError)])
def test_delay_that_is_no_float(loop, delay, error):
    with pytest.raises(error):
        loop.call_later(delay, noop)


@pytest.mark.parametrize("delay", [fractions.Fraction(1, 1000), True, -5, -10 ** 300, 0])
def test_delay_of_another_kind(loop, delay):
    loop.call_later(delay, loop.stop)
    loop.run_forever()


def test_timers_compare_by_their_time(loop):
    early, late, nan = (loop.call_at(when, noop) for when in (1, 2, math.nan))
    assert early < late and early <= late and late > early and late >= early
    assert not nan < early and not early < nan and nan != early
    assert sorted([late, early]) == [early, late]
    assert hash(early) == hash(1.0)
    for timer in early, late, nan:
        timer.cancel()


def test_short_waits_end(loop):
    """A timer that falls due between two looks at the clock."""
    done = threading.Event()

    def hungry():
        while not done.is_set():
            time.sleep(0)           # gives the GIL away and wants it back

    async def main():
        for i in range(3000):
            await asyncio.sleep(0.0001 + i % 7 * 0.0001)

    alarm = threading.Timer(20, loop.call_soon_threadsafe, (loop.stop,))
    alarm.start()
    thread = threading.Thread(target=hungry)
    thread.start()
    try:
        loop.run_until_complete(main())     # RuntimeError: it hung
    finally:
        done.set()
        thread.join()
        alarm.cancel()
        alarm.join()


def test_timers_of_a_clock_coarser_than_its_resolution(loop_factory):
    """Where a float's step is more than the clock's a timer is due by the float's, from 3.15 on."""
    first = loop_factory()
    first.close()

    class Loop(type(first)):
        def time(self):
            return float(2 ** 25)

    async def main():
        loop.call_at(loop.time(), seen.append, "now")
        loop.call_at(math.nextafter(loop.time(), math.inf), seen.append, "next")
        for _ in range(5):
            await asyncio.sleep(0)

    seen, loop = [], Loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    assert seen == (["now"] if sys.version_info >= (3, 15) else [])
