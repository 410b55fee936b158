"""Runs one program in a forked child, with one fault, and says what is wrong."""
import asyncio
import errno
import faulthandler
import gc
import json
import logging
import os
import random
import resource
import select
import signal
import socket
import sys
import threading
import time
import traceback
import warnings

import support
from fault import plan, programs, protocols
from fault.shim import Shim

SHIM = Shim()
# What may come out of a loop to which the system says no.
SENSIBLE = (OSError, MemoryError, asyncio.IncompleteReadError, asyncio.TimeoutError, EOFError)
# How long a program may take before it counts as stalled, in seconds.
LIMIT = 1.5
LIMITS = {"accept": 3.5, "accept_emfile": 3.5}
LATE = 0.03


def descriptors():
    """The open descriptors and what they are, without those in quarantine."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            where = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue        # that of listdir()
        if not SHIM.is_quarantined(int(name)):
            found[int(name)] = where
    return found


def name_of(exc):
    number = getattr(exc, "errno", None)
    if isinstance(exc, OSError) and number:
        return f"OSError({errno.errorcode.get(number, number)})"
    return type(exc).__name__


# -- arming ---------------------------------------------------------------------------

def arm_limit(free):
    """So many descriptors are free, and no more."""
    highest = max(descriptors()) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(highest, 60), 4096))
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        pass
    for fd in taken[:free]:
        os.close(fd)

    def undo():
        for fd in taken[free:]:
            os.close(fd)
    return undo


def arm_signals(seed):
    """A timer's signal comes every half millisecond; its handler sometimes raises."""
    rng = random.Random(seed)

    def handler(signum, frame):
        if seed > 1 and rng.random() < 0.01:
            raise OSError(errno.EINTR, "from a signal handler")

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    return lambda: signal.setitimer(signal.ITIMER_REAL, 0)


def arm_nomem(nth):
    import _testcapi
    _testcapi.set_nomemory(nth, nth + 1)
    return _testcapi.remove_mem_hooks


def arm(case, target):
    """Arm the fault of this case; what is returned disarms it."""
    who = plan.who_calls(case.call, target)
    call = plan.STOCK_CALLS.get(case.call, case.call) if target == "stock" else case.call
    if case.kind == "once":
        SHIM.arm(call, case.nth, case.nth, error=case.value, who=who)
    elif case.kind == "always":
        SHIM.arm(call, case.nth, sys.maxsize, error=case.value, who=who)
    elif case.kind == "cut":
        SHIM.arm(call, case.nth, case.nth, cut=case.value, who=who)
    elif case.kind == "late":
        SHIM.arm(call, case.nth, case.nth, wait=LATE, who=who)
    elif case.kind == "short":
        SHIM.short(case.value, who)
    elif case.kind == "chance":
        SHIM.chance(case.nth, 30, plan.BY_CHANCE, who)
        if case.nth % 3 == 0:
            SHIM.short(1 + case.nth % 100, who)
    elif case.kind == "malloc":
        SHIM.memory.nomalloc_arm(case.nth, case.nth)
    elif case.kind == "limit":
        return arm_limit(case.value)
    elif case.kind == "signals":
        return arm_signals(case.nth)
    elif case.kind == "nomem":
        return arm_nomem(case.nth)
    return lambda: None


# -- in the child ---------------------------------------------------------------------

async def works(loop):
    """A loop that was refused something still does all this."""
    await asyncio.sleep(0.0001)
    a, b = socket.socketpair()
    with a, b:
        a.setblocking(False)
        b.setblocking(False)
        got = loop.create_task(loop.sock_recv(b, 10))
        await asyncio.sleep(0)
        await loop.sock_sendall(a, b"fine")
        assert await asyncio.wait_for(got, 2 * support.SLOWER) == b"fine"
    done = loop.create_future()
    loop.call_soon_threadsafe(done.set_result, 1)
    await asyncio.wait_for(done, 2 * support.SLOWER)


class Trial:
    """One program on one loop; `result` says what came of it."""

    def __init__(self, case, target, patience):
        self.case, self.target, self.patience = case, target, patience
        self.new_loop = support.factory(target)
        self.bad = []
        self.result = {"outcome": "", "bad": self.bad, "reports": [], "counts": {}}
        self.unraisable = []
        self.undo = lambda: None
        self.is_disarmed = False

    def disarm(self):
        if not self.is_disarmed:
            self.is_disarmed = True
            self.undo()         # first: there may be no memory
            SHIM.disarm()

    # -- what is reported ---------------------------------------------------

    def on_unraisable(self, u):
        self.unraisable.append(f"{type(u.exc_value).__name__}: {u.exc_value} ({u.err_msg})")

    def on_report(self, loop, context):
        exc = context.get("exception")
        message = context.get("message")
        if len(self.result["reports"]) < 30:
            self.result["reports"].append(f"{message}: {name_of(exc) if exc else None}")
        if isinstance(exc, (protocols.Corrupt, protocols.Broken)):
            self.bad.append(f"{type(exc).__name__.lower()}: {exc}")
        elif exc is not None and not isinstance(exc, SENSIBLE):
            self.bad.append(f"reported {type(exc).__name__}: {exc} [{message}] "
                            + "".join(traceback.format_exception(exc))[-600:])

    # -- the program --------------------------------------------------------

    def stalled(self):
        self.disarm()
        wall = time.monotonic() - self.started[0]
        cpu = time.process_time() - self.started[1]
        stacks = [f"{os.path.basename(f.f_code.co_filename)}:{f.f_lineno} {f.f_code.co_name}"
                  for t in asyncio.all_tasks(self.loop) for f in t.get_stack(limit=3)]
        self.result["stall"] = "it spins" if cpu / wall > 0.6 else "it waits"
        self.result["stacks"] = stacks
        self.result["threads"] = [
            [f"{os.path.basename(f.filename)}:{f.lineno} {f.name}"
             for f in traceback.extract_stack(frame)[-4:]]
            for ident, frame in sys._current_frames().items() if ident != threading.get_ident()]
        self.task.cancel()
        self.loop.call_later(support.SLOWER, self.stuck)

    def stuck(self):
        self.result["outcome"] = "stuck"
        self.loop.stop()

    def run_program(self):
        """What it returned or raised."""
        limit = LIMITS.get(self.case.program, LIMIT) * self.patience
        timer = self.loop.call_later(limit, self.stalled)
        self.task = self.loop.create_task(
            programs.PROGRAMS[self.case.program](programs.Context(self.new_loop)))
        self.started = time.monotonic(), time.process_time()
        try:
            self.undo = arm(self.case, self.target) or self.undo
            self.loop.run_until_complete(self.task)
            return "ok"
        except (protocols.Corrupt, protocols.Broken) as exc:
            self.bad.append(f"{type(exc).__name__.lower()}: {exc}")
            return type(exc).__name__.lower()
        except SENSIBLE as exc:
            self.disarm()
            self.result["text"] = str(exc)[:200]
            self.result["where"] = [f"{os.path.basename(f.filename)}:{f.lineno} {f.name}"
                                    for f in traceback.extract_tb(exc.__traceback__)[-3:]]
            return "raised " + name_of(exc)
        except asyncio.CancelledError:
            return "stalled" if "stall" in self.result else "cancelled"
        except BaseException as exc:
            self.disarm()
            if self.result["outcome"] == "stuck":
                return "stuck"
            self.result["text"] = str(exc)[:300] + traceback.format_exc()[-1200:]
            return "odd " + name_of(exc)
        finally:
            self.disarm()
            timer.cancel()
            self.task.cancel()      # it did not even begin, if the loop could not run

    def count(self, counted):
        """How often each call was made, by whom."""
        for call in counted:
            self.result["counts"][call] = {who: SHIM.count(call, who) for who in (1, 2, 4)}

    # -- afterwards ---------------------------------------------------------

    def check_loop(self):
        asyncio._set_running_loop(None)
        try:
            for _ in range(3):
                self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.run_until_complete(works(self.loop))
        except BaseException as exc:
            self.bad.append(f"the loop is broken afterwards: {exc!r} {traceback.format_exc()[-500:]}")

    def check_protocols(self):
        """Whoever was connected is lost now, once."""
        left = [p for p in protocols.MADE if p.state in ("open", "eof")]
        for protocol in left:
            try:
                close = getattr(protocol.transport, "abort", protocol.transport.close)
                close()
            except BaseException as exc:
                self.bad.append(f"abort(): {exc!r}")
        for _ in range(5):
            self.loop.run_until_complete(asyncio.sleep(0.0001))
        self.bad += [f"connection_lost() of {p.name} was not called" for p in left if p.state != "lost"]
        protocols.MADE.clear()

    def close(self):
        try:
            left = asyncio.all_tasks(self.loop)
            for task in left:
                task.cancel()
            if left:
                self.loop.run_until_complete(asyncio.wait(left, timeout=support.SLOWER))
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
        except BaseException as exc:
            self.bad.append(f"the end: {exc!r}")
        finally:
            self.loop.close()
            self.loop = self.task = None

    def check_descriptors(self, before):
        gc.collect()
        gc.collect()
        after = descriptors()
        leaked = sorted(what.split(":")[0] for fd, what in after.items() if fd not in before)
        gone = [before[fd] for fd in before if fd not in after]
        if leaked:
            self.bad.append("leaked " + ", ".join(leaked))
        if gone:
            self.bad.append(f"closed what is not its own: {gone}")

    def run(self, counted=()):
        sys.unraisablehook = self.on_unraisable
        before = descriptors()
        self.loop = self.new_loop()
        self.loop.set_exception_handler(self.on_report)
        asyncio.set_event_loop(None)
        outcome = self.run_program()
        self.result["outcome"] = outcome
        self.result["fired"] = SHIM.fired()
        self.count(counted)
        self.check_loop()
        self.check_protocols()
        self.close()
        self.check_descriptors(before)
        self.bad += SHIM.notes()
        self.bad += [f"unraisable {u}" for u in self.unraisable
                     if u.startswith(("SystemError", "AssertionError", "Broken", "Corrupt"))]


class Making(Trial):
    """The fault comes while the loop itself is made, run once, and closed."""

    def run(self, counted=()):
        sys.unraisablehook = self.on_unraisable
        before = descriptors()
        self.loop = None
        try:
            self.undo = arm(self.case, self.target) or self.undo
            self.loop = self.new_loop()
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()
            self.result["outcome"] = "ok"
        except SENSIBLE as exc:
            self.disarm()
            self.result["outcome"] = "raised " + name_of(exc)
            if self.loop is not None:
                self.loop.close()
        self.disarm()
        self.result["fired"] = SHIM.fired()
        self.count(counted)
        self.loop = None
        self.check_descriptors(before)
        self.loop = self.new_loop()
        self.check_loop()
        self.close()
        self.check_descriptors(before)
        self.bad += SHIM.notes()


def sort_out(case, result):
    """Add what is wrong about the outcome itself."""
    outcome, bad = result["outcome"], result["bad"]
    if case.kind in ("nomem", "malloc"):
        # A task or a protocol of the program that lacked memory is no stall of the loop.
        result["bad"] = [line for line in bad if "SystemError" in line
                         or not line.startswith(("reported", "broken", "connection_lost", "the end"))]
        if result.get("stall") == "it spins":
            result["bad"].append("stalled: it spins")
        if "SystemError" in outcome:
            result["bad"].append(f"{outcome} {result.get('text')}")
        return
    if outcome.startswith(("stalled", "stuck", "odd")):
        where = "" if outcome.startswith("odd") else (
            f": {result.get('stall')} {result.get('stacks')}")
        bad.append(f"{outcome}{where} {result.get('text', '')}".strip())


# -- the child, and its parent --------------------------------------------------------

def child(case, target, counted, noise, out, patience):
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(noise.fileno(), 2)
    os.close(null)
    noise.truncate(0)
    faulthandler.enable(noise)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    SHIM.reset()
    if case.kind != "limit":
        SHIM.start_quarantine()
    trial = (Making if case.program == "making" else Trial)(case, target, patience * support.SLOWER)
    try:
        trial.run(counted)
    except BaseException:
        trial.disarm()
        trial.bad.append("the judge: " + traceback.format_exc()[-800:])
    sort_out(case, trial.result)
    os.write(out, json.dumps(trial.result).encode())


def read_answer(fd, pid, seconds):
    """What the child wrote; None if it hangs."""
    answer, deadline = b"", time.monotonic() + seconds
    while True:
        ready, _, _ = select.select([fd], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            return None
        piece = os.read(fd, 65536)
        if not piece:
            return answer
        answer += piece


def run(case, target, noise, counted=(), patience=1):
    """One case, in a child: a dict with "outcome" and "bad", a list of what is wrong."""
    r, w = os.pipe()
    pid = os.fork()
    if not pid:
        code = 0
        try:
            os.close(r)
            child(case, target, counted, noise, w, patience)
        except BaseException:
            traceback.print_exc()
            code = 9
        finally:
            os._exit(code)
    os.close(w)
    seconds = LIMITS.get(case.program, LIMIT) + (30 if case.kind == "short" else 6)
    answer = read_answer(r, pid, seconds * patience * support.SLOWER)
    os.close(r)
    if answer is None:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if answer is None:
        return {"outcome": "hang", "bad": ["hang"]}
    if status or not answer:
        noise.seek(0)
        how = (f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status)
               else f"exit status {os.waitstatus_to_exitcode(status)}")
        return {"outcome": "crash", "bad": [f"crash: {how}"], "text": noise.read()[-2500:]}
    return json.loads(answer)
