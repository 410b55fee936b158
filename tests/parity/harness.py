"""Run one program on two loops and compare what it saw.

A program is ``async def program(t)``; ``t`` is a Trace.  It notes events under
the name of whoever saw them; ``await t.settle()`` ends a phase.  Two traces
are equal if in each phase every actor saw the same events in the same order,
and the same exceptions, reports, log records and warnings came.

Events of different actors in one phase have no order between them: that is
where the kernel and the poll have a say.  Programs about order use one actor.
"""
import asyncio
import contextlib
import gc
import logging
import re
import socket
import warnings

import support

__all__ = ["Trace", "run", "compare", "describe"]

# asyncio's own defects, which a good loop need not imitate: close() in
# resume_writing() ends its transport twice, write() reaches for a socket
# that it has given up.
STUMBLES = re.compile(r"'NoneType' object has no attribute '\w+'")

# Where our reports name the protocol and the transport, asyncio's the handle.
NAMED = re.compile(r"Exception in callback "
                   r"_(SelectorDatagramTransport|UnixReadPipeTransport)._read_ready\(")


ANY = "any"


class Trace:
    def __init__(self, loop):
        self.loop = loop
        self.phases = [{}]
        self._closing = []
        self.races = ()     # lines of debug mode that come or do not

    # -- noting --

    def note(self, actor, *event):
        events = self.phases[-1].setdefault(actor, [])
        if (event[0] == "data" and events and events[-1][0] == "data"):
            events[-1] = ("data", events[-1][1] + event[1])
        else:
            events.append(event)

    def attempt(self, actor, what, function, *args):
        """Call; note the result, or the exception."""
        try:
            result = function(*args)
        except Exception as exc:
            if not stumbled(exc):
                self.note(actor, what, *described(exc))
        else:
            if result is not None:
                self.note(actor, what, result)
            return result

    async def wait(self, actor, what, awaitable, timeout=5.0):
        """The same for something to wait for."""
        try:
            result = await asyncio.wait_for(awaitable, timeout)
        except asyncio.CancelledError:
            self.note(actor, what, "CancelledError")
        except Exception as exc:
            self.note(actor, what, *described(exc))
        else:
            if isinstance(result, list):
                result = [described(x) if isinstance(x, Exception) else x
                          for x in result]
            if isinstance(result, (bytes, int, str, bool, list)):
                self.note(actor, what, result)
            else:
                self.note(actor, what, type(result).__name__
                          if not isinstance(result, tuple) else "tuple")
            return result

    async def settle(self, polls=3):
        """Let everything come that is under way; begin the next phase."""
        await support.io_turns(polls)
        self.phases.append({})

    # -- things to note about --

    def protocol(self, name, hooks=None, buffered=False, buffer=65536):
        make = Buffered if buffered else Plain
        return make(self, name, hooks or {}, buffer)

    async def connected(self, kind, name="p", hooks=None, **kwargs):
        """A transport, its protocol, and a Peer for the other end."""
        ours, other = support.socketpair(kind)
        peer = Peer(self, other)
        self._closing.append(other)
        protocol = self.protocol(name, hooks, **kwargs)
        transport, _ = await support.connect_sock(ours, lambda: protocol)
        self._closing.append(transport)
        return transport, protocol, peer

    def state(self, actor, transport):
        """What a transport says about itself."""
        size = transport.get_write_buffer_size()
        self.note(actor, "state", transport.is_closing(),
                  transport.is_reading(),
                  # How much the kernel took of a lot is its business.
                  "empty" if not size else "full" if size > 65536 else "some",
                  transport.get_write_buffer_limits(),
                  transport.can_write_eof())

    def end_with(self, thing):
        self._closing.append(thing)
        return thing

    async def finish(self):
        for thing in self._closing:
            with contextlib.suppress(Exception):
                thing.abort() if hasattr(thing, "abort") else thing.close()
        await support.io_turns(3)
        self._closing.clear()


class Plain(asyncio.Protocol):
    def __init__(self, trace, name, hooks, buffer):
        self.trace, self.name, self.hooks = trace, name, hooks
        self.transport = None

    def see(self, event, *args):
        self.trace.note(self.name, event, *args)
        hook = self.hooks.get(event)
        if hook is not None:
            return hook(self)

    def connection_made(self, transport):
        self.transport = transport
        self.see("made")

    def data_received(self, data):
        self.see("data", b"" if "any data" in self.hooks else bytes(data))

    def eof_received(self):
        return self.see("eof")

    def pause_writing(self):
        self.see("pause")

    def resume_writing(self):
        self.see("resume")

    def connection_lost(self, exc):
        self.see("lost", type(exc).__name__)


class Buffered(asyncio.BufferedProtocol):
    def __init__(self, trace, name, hooks, buffer):
        Plain.__init__(self, trace, name, hooks, buffer)
        self.buffer = bytearray(buffer)

    see = Plain.see
    connection_made = Plain.connection_made
    eof_received = Plain.eof_received
    pause_writing = Plain.pause_writing
    resume_writing = Plain.resume_writing
    connection_lost = Plain.connection_lost

    def get_buffer(self, sizehint):
        hook = self.hooks.get("get_buffer")
        if hook is not None:
            hook(self)
        return self.buffer

    def buffer_updated(self, nbytes):
        self.see("data", bytes(self.buffer[:nbytes]))


class Peer:
    """The bare socket at the other end; what it does is noted too."""

    def __init__(self, trace, sock):
        self.trace, self.sock = trace, sock

    def send(self, data):
        self.trace.attempt("peer", "send", self.sock.send, data)

    def read(self):
        """All that has come; the number of bytes is the kernel's business
        while more is under way, so only small amounts are noted."""
        data = support.drain(self.sock) if self.sock.fileno() >= 0 else b""
        if data is None:
            self.trace.note("peer", "reset")
        elif len(data) < 50000:
            self.trace.note("peer", "data", data)
        return data or b""

    async def read_all(self, limit=30_000_000, exact=True):
        """Everything until nothing comes any more.

        exact: the number counts; after abort() it is the kernel's business.
        """
        total = bytearray()
        quiet = 0
        while quiet < 3 and len(total) < limit:
            data = support.drain(self.sock) if self.sock.fileno() >= 0 else b""
            if data is None:
                self.trace.note("peer", "reset")
                break
            total += data
            quiet = 0 if data else quiet + 1
            await asyncio.sleep(0.0005)
        if exact or len(total) < 50000:
            self.trace.note("peer", "total", len(total))
        return bytes(total)

    def at_eof(self):
        """Whether the other side has ended the stream."""
        try:
            self.trace.note("peer", "eof",
                            self.sock.recv(1, socket.MSG_PEEK) == b"")
        except BlockingIOError:
            self.trace.note("peer", "eof", False)
        except OSError as exc:
            self.trace.note("peer", "eof", type(exc).__name__)

    def shutdown(self):
        self.trace.attempt("peer", "shutdown", self.sock.shutdown,
                           socket.SHUT_WR)

    def close(self):
        self.sock.close()

    def reset(self):
        if self.sock.family == socket.AF_UNIX:
            self.sock.close()
        else:
            support.reset(self.sock)


# -- running and comparing --------------------------------------------------

def described(exc):
    """An exception without what differs from run to run."""
    text = str(exc)
    if isinstance(exc, (TypeError, AttributeError)):
        text = ""               # they name functions, and types of ours
    text = re.sub(r"<.*Transport.*>", "<transport>", text)
    text = re.sub(r"0x[0-9a-f]+|fd=\d+|tidewire-[-\d]+|port \d+|, \d{4,5}\)", "#", text)
    return type(exc).__name__, getattr(exc, "errno", None), text


def report(context):
    message = context["message"]
    for prefix in ("Exception in callback ", "Task exception was never",
                   "Error on transport creation"):
        if message.startswith(prefix):
            message = prefix
    keys = {k for k in context
            if k not in ("message", "exception", "source_traceback")}
    if context["message"].startswith("Exception in callback None("):
        keys = {ANY}        # its handle was cancelled: of whom, we cannot know
    if NAMED.match(context["message"]) and keys == {"handle", "protocol", "transport"}:
        keys = {"handle"}   # we name the other two, too: docs/differences.rst
    exception = context.get("exception")
    what = message, *(described(exception) if exception else ())
    return str(what), ", ".join(sorted(keys))


def stumbled(exc):
    return isinstance(exc, AttributeError) and STUMBLES.search(str(exc))


class Logs(logging.Handler):
    """Of a loop in debug mode everything that it says, else warnings."""
    # Slow callbacks; what is said before or after the program.
    skipped = "Executing ", "Using selector", "Close <"

    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        text = record.getMessage().splitlines()[0]
        if not text.startswith(self.skipped):
            self.texts.append(f"{record.levelname} {plain(text)}"
                              + (" with traceback" if record.exc_info else ""))


OBJECT = re.compile(r"<([\w.]*?)(?:_Selector|_Unix)?(\w*Transport|SSLProtocol|Server|\w*Proto"
                    r"|socket)\b[^<>]*(?:<[^<>]*>[^<>]*)*>")


def plain(text):
    """A log line without what differs from run to run, and between our
    classes and asyncio's."""
    while (shorter := OBJECT.sub(r"[\2]", text)) != text:
        text = shorter
    text = text.replace("[_SSLProtocolTransport]", "[SSLTransport]")
    return re.sub(r"0x[0-9a-f]+|\d+(\.\d+)*", "#", text)


@contextlib.contextmanager
def logging_to(logs):
    logger = logging.getLogger("asyncio")
    before = logger.level, logger.propagate, logger.handlers
    logger.handlers = [logs]
    logger.propagate = False
    try:
        yield logger
    finally:
        logger.level, logger.propagate, logger.handlers = before
        logger.manager._clear_cache()


def run(factory, program, *args, timeout=20.0, debug=None):
    """The trace of a program on one loop, as plain data.

    debug: in asyncio's debug mode; None: as the environment says.
    """
    reports, logs = [], Logs()
    with logging_to(logs) as logger:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loop = factory()
            if debug is not None:
                loop.set_debug(debug)
            logger.setLevel(logging.DEBUG if loop.get_debug() else logging.WARNING)
            # asyncio finds errors while it goes on with errors of its own.
            loop.set_exception_handler(
                lambda loop, context: stumbled(context.get("exception"))
                or reports.append(report(context)))
            trace = Trace(loop)

            async def main():
                try:
                    return await program(trace, *args)
                finally:
                    await trace.finish()

            try:
                result = loop.run_until_complete(
                    asyncio.wait_for(main(), timeout))
                ended = "result", result
            except NotImplementedError as exc:
                ended = "missing", str(exc)
            except BaseException as exc:
                ended = "exception", described(exc)
            finally:
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.run_until_complete(loop.shutdown_default_executor())
                loop.close()
            phases, races = trace.phases, trace.races
            del trace, loop
            gc.collect()
    while phases and not phases[-1]:
        phases.pop()
    texts = sorted({(w.category.__name__, str(w.message).split("<")[0])
                    for w in caught})
    return {"phases": phases, "ended": ended, "reports": sorted(
        reports), "warnings": texts, "logs": sorted(set(logs.texts) - set(races))}


def compare(stock, ours):
    """A list of differences, empty if there are none."""
    out = []
    some = {what for what, keys in stock["reports"] if keys == ANY}
    stock, ours = ({**trace, "reports": sorted(
        (what, ANY if what in some else keys) for what, keys in trace["reports"])}
        for trace in (stock, ours))
    for key in ("ended", "reports", "warnings", "logs"):
        if key == "warnings":
            # What asyncio leaves to the collector may be closed here.
            stock = {**stock, key: [w for w in stock[key] if w in ours[key]
                                    or w[0] != "ResourceWarning"]}
        if stock[key] != ours[key]:
            out.append(f"{key}: asyncio {stock[key]!r:.600}\n"
                       f"{' ' * len(key)}  here    {ours[key]!r:.600}")
    count = max(len(stock["phases"]), len(ours["phases"]))
    for i in range(count):
        one = stock["phases"][i] if i < len(stock["phases"]) else {}
        two = ours["phases"][i] if i < len(ours["phases"]) else {}
        for actor in sorted(set(one) | set(two)):
            if one.get(actor) != two.get(actor):
                out.append(f"phase {i}, {actor}:\n"
                           f"    asyncio {describe(one.get(actor))}\n"
                           f"    here    {describe(two.get(actor))}")
    return out


def describe(events):
    return [tuple(f"{len(x)} bytes" if isinstance(x, bytes) and len(x) > 60
                  else x for x in event) for event in events or ()]
