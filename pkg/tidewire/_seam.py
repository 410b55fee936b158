"""The private names of the standard library that tidewire uses.

All of them are in this file, and the C code gets them from here, so that a new
Python version can be checked by reading one page.  C calls the functions below
for work that is rare and easier in Python.
"""
import _socket
import asyncio
import concurrent.futures
import contextlib
import errno
import io
import os
import select
import socket
import sys
import threading
import types
import weakref
from asyncio import (
    base_events,
    constants,
    events,
    exceptions,
    format_helpers,
    futures,
    selector_events,
    streams,
    tasks,
    trsock,
    unix_events,
)
from asyncio.log import logger

PY = sys.version_info[:2]

#: Suspends a coroutine for one turn of the loop.  Not sleep(0): tests replace that.
give_way = tasks.__sleep0

#: Used as they are: they run seldom, and fit the running Python.
create_unix_connection = unix_events._UnixSelectorEventLoop.create_unix_connection
create_unix_server = unix_events._UnixSelectorEventLoop.create_unix_server
add_signal_handler = unix_events._UnixSelectorEventLoop.add_signal_handler
remove_signal_handler = unix_events._UnixSelectorEventLoop.remove_signal_handler
_handle_signal = unix_events._UnixSelectorEventLoop._handle_signal
_check_signal = unix_events._UnixSelectorEventLoop._check_signal


def take_stop_serving(cls):
    """Give cls asyncio's _stop_serving(), which unlinks a Unix server's path (3.13+).

    Its super() starts from cls.  It is the function itself, since blockbuster
    knows by its name and file that it may block.
    """
    ours = vars(unix_events._UnixSelectorEventLoop).get('_stop_serving')
    if ours is not None:
        cls._stop_serving = types.FunctionType(
            ours.__code__, ours.__globals__, ours.__name__,
            closure=(types.CellType(cls),))


#: The steps of create_connection() that _conn.py skips, or calls.
ensure_resolved = base_events.BaseEventLoop._ensure_resolved
connect_sock = base_events.BaseEventLoop._connect_sock


def ipaddr_info(host, port, family, type, proto):
    return base_events._ipaddr_info(host, port, family, type, proto)


#: asyncio's own loop, even where _default.py has replaced the name.
SelectorEventLoop = unix_events._UnixSelectorEventLoop

#: Policies: private from 3.14 on, where the public names warn, and gone in 3.16; also used are a
#: policy's _loop_factory, _local and _Local (_policy.py, _default.py), and
#: runpy._run_module_as_main (_program.py).
if sys.version_info < (3, 16):
    DefaultEventLoopPolicy = unix_events._UnixDefaultEventLoopPolicy
    set_event_loop_policy = getattr(events, '_set_event_loop_policy',
                                    events.set_event_loop_policy)
else:
    DefaultEventLoopPolicy = None

#: Builtins: C calls them so that no signal handler runs in between.
set_running_loop = events._set_running_loop
set_asyncgen_hooks = sys.set_asyncgen_hooks
set_origin_tracking = sys.set_coroutine_origin_tracking_depth

#: Server._attach(transport) and _detach(transport): from 3.13 on.
server_takes_transport = (
    base_events.Server._attach.__code__.co_argcount == 2)

#: sendfile() sets the file's position also when it sent nothing: late in 3.14.
sendfile_always_moves = (
    unix_events._UnixSelectorEventLoop._sock_sendfile_update_filepos
    .__code__.co_argcount == 3)

#: A server accepts a connection more than its backlog in a turn: late in 3.13.
accepts_one_more = PY >= (3, 15) or any(
    type(const) is int for const in
    selector_events.BaseSelectorEventLoop._accept_connection.__code__.co_consts)


def is_nest_patched():
    """Has nest_asyncio, or nest_asyncio2, patched asyncio?"""
    return hasattr(asyncio, '_nest_patched')


@contextlib.contextmanager
def set_aside(loop):
    """Set the running loop; returns the loop and the task that ran on this thread."""
    outer = events._get_running_loop()
    task = None if outer is None else tasks.current_task(outer)
    try:
        if task is not None:
            tasks._leave_task(outer, task)
        events._set_running_loop(loop)
        yield
    finally:
        events._set_running_loop(outer)
        if task is not None and tasks.current_task(outer) is None:
            tasks._enter_task(outer, task)


# -- streams -----------------------------------------------------------------

def _original(cls, name):
    """A function of asyncio, or None if it was replaced."""
    function = vars(cls).get(name)
    code = getattr(getattr(function, 'fget', function), '__code__', None)
    if (getattr(code, 'co_qualname', None) != f'{cls.__qualname__}.{name}'
            or code.co_filename != streams.StreamWriter.drain.__code__.co_filename):
        raise LookupError(name)
    return function


def _find_stream_parts():
    """The classes and functions that net/feeder.c replaces; None if this Python's may differ."""
    if PY > (3, 15):
        return None
    protocol, reader = streams.StreamReaderProtocol, streams.StreamReader
    try:
        return (protocol, reader, _original(protocol, 'data_received'),
                _original(protocol, '_stream_reader'), _original(reader, 'feed_data'),
                _original(reader, '_wakeup_waiter'))
    except LookupError:
        return None


stream_parts = _find_stream_parts()


# -- other people's greenlets --------------------------------------------------

def is_select_patched():
    """Has gevent, eventlet or the like replaced select()?"""
    return type(select.select) is types.FunctionType


def wait_patched(fd, timeout):
    """Wait for the loop's set by that function: other greenlets run meanwhile."""
    select.select([fd], [], [], timeout)


# -- handles -----------------------------------------------------------------

def extract_stack():
    """The stack of the code that makes a handle (debug mode).

    A thread of a native library may have no frame but this one, which is then shown.
    """
    return format_helpers.extract_stack(sys._getframe().f_back)


# call_soon(), add_reader() and the like with keyword arguments: bound here and passed on as
# positional ones, to C's method and not to a subclass's.

def _own(loop, name, *args, **kwargs):
    from . import _core
    return getattr(_core.Loop, name)(loop, *args, **kwargs)


def call_soon(loop, callback, *args, context=None):
    return _own(loop, 'call_soon', callback, *args, context=context)


def call_soon_threadsafe(loop, callback, *args, context=None):
    return _own(loop, 'call_soon_threadsafe', callback, *args,
                context=context)


def call_later(loop, delay, callback, *args, context=None):
    return _own(loop, 'call_later', delay, callback, *args, context=context)


#: For a subclass that has a call_at() of its own.
call_later_by_call_at = base_events.BaseEventLoop.call_later


def call_at(loop, when, callback, *args, context=None):
    return _own(loop, 'call_at', when, callback, *args, context=context)


def add_reader(loop, fd, callback, *args):
    return _own(loop, 'add_reader', fd, callback, *args)


def add_writer(loop, fd, callback, *args):
    return _own(loop, 'add_writer', fd, callback, *args)


def do_nothing():
    """Python's own checks run in any call: see turn_poll.c."""


def check_call(loop, callback, method, thread):
    """Debug mode's checks of call_soon() and the like."""
    if thread:
        loop._check_thread()
    loop._check_callback(callback, method)


#: Other modes leave them out: 3.13+, and late in 3.12.
_shows_arguments_in_debug_mode = 'debug' in (
    format_helpers._format_callback_source.__kwdefaults__ or ())


def report_handle(handle, callback, args, exc, **more):
    """A callback raised: do what asyncio's Handle._run() does."""
    show = {'debug': handle._loop.get_debug()} if _shows_arguments_in_debug_mode else {}
    source = format_helpers._format_callback_source(callback, args, **show)
    context = {
        'message': f'Exception in callback {source}',
        'exception': exc,
        'handle': handle,
        **more,
    }
    if handle._source_traceback:
        context['source_traceback'] = handle._source_traceback
    handle._loop.call_exception_handler(context)


def event_for_run(handle):
    """An event for which other threads can wait."""
    if handle._loop._thread_id == threading.get_ident():
        return None
    return threading.Event()


def wait_event(event):
    event.wait()


def set_event(event):
    event.set()


def format_handle(handle):
    """As debug mode shows it: a task's step by the task."""
    return base_events._format_handle(handle)


def note_duration(loop, handle, seconds):
    """Debug mode: warn of a slow callback."""
    if seconds >= loop.slow_callback_duration:
        logger.warning('Executing %s took %.3f seconds',
                       base_events._format_handle(handle), seconds)


#: asyncio's type for each type of ours, by its name.
asyncio_class = {
    'SocketTransport': selector_events._SelectorSocketTransport,
    'DatagramTransport': selector_events._SelectorDatagramTransport,
    'ReadPipeTransport': unix_events._UnixReadPipeTransport,
    'WritePipeTransport': unix_events._UnixWritePipeTransport,
    '_Accept': selector_events.BaseSelectorEventLoop,
}

#: Its method for a writable descriptor.
writing_method = {
    'SocketTransport': ('_write_sendmsg' if hasattr(
        selector_events._SelectorSocketTransport, '_write_sendmsg') else '_write_ready'),
    'DatagramTransport': '_sendto_ready',
    'ReadPipeTransport': '_read_ready',
    'WritePipeTransport': '_write_ready',
}


def make_handle(loop, owner, name, *args, context=None):
    """The Handle that asyncio would have for a step in C: owner.<name>(*args)."""
    method = getattr(asyncio_class.get(type(owner).__name__), name, None)
    callback = getattr(owner, name, name) if method is None else types.MethodType(method, owner)
    handle = events.Handle(callback, args, loop, context)
    stack = handle._source_traceback
    while stack and stack[-1].filename == __file__:
        stack.pop()
    return handle


def note_ready(loop, owner, writes, seconds):
    """Debug mode: warn if a transport's reading or writing was slow."""
    writing = writing_method.get(type(owner).__name__)
    if seconds >= loop.slow_callback_duration and writing is not None:
        handle = make_handle(loop, owner, writing if writes else '_read_ready')
        note_duration(loop, handle, seconds)


def note_step(loop, call, seconds):
    """The same for connection_made() and its like: see TwStepOps.call."""
    if seconds >= loop.slow_callback_duration:
        note_duration(loop, make_handle(loop, *call), seconds)


def report_step(loop, owner, name, args, exc, context):
    """A protocol's method raised: as a handle of its own, by the name that asyncio's has.

    Owner is the protocol, and the transport for connection_lost(). Only over TLS asyncio calls
    that method by a handle of its own.
    """
    if name == 'connection_lost':
        if type(owner).__name__ in asyncio_class:
            name = '_call_connection_lost'
        else:
            owner = owner.get_protocol()
    handle = make_handle(loop, owner, name, *args, context=context)
    report_handle(handle, handle._callback, args, exc)


def report_call(loop, transport, protocol, name, exc):
    """A protocol's method raised in what is transport.<name>() in asyncio."""
    handle = make_handle(loop, transport, name)
    report_handle(handle, handle._callback, (), exc, protocol=protocol, transport=transport)


# -- executors ---------------------------------------------------------------

#: A result set in the loop's thread is passed on at once: from 3.14 on, and late in 3.13.
chain_at_once = any('_get_running_loop' in getattr(code, 'co_names', ())
                    for code in futures._chain_future.__code__.co_consts)
_ThreadFuture = concurrent.futures.Future
_Future = futures.Future


def wrap_future(source, loop):
    """asyncio.wrap_future() of the result of an executor's submit().

    The same callbacks in the same order, with one lock taken where asyncio takes six.
    """
    if type(source) is not _ThreadFuture:
        return futures.wrap_future(source, loop=loop)
    destination = loop.create_future()
    if type(destination) is not _Future:
        futures._chain_future(source, destination)
        return destination

    def check_cancel(destination):
        if destination.cancelled():
            source.cancel()

    def tell(source):
        if loop.is_closed():
            return
        if chain_at_once and events._get_running_loop() is loop:
            copy_state(destination, source)
        else:
            loop.call_soon_threadsafe(copy_state, destination, source)

    destination.add_done_callback(check_cancel)
    source.add_done_callback(tell)
    return destination


def copy_state(destination, source):
    """asyncio's _copy_future_state(), for a source that is done and stays as it is."""
    if destination.cancelled():
        return
    assert not destination.done()
    if source._state != 'FINISHED':
        destination.cancel()
    elif source._exception is not None:
        destination.set_exception(futures._convert_future_exc(source._exception))
    else:
        destination.set_result(source._result)


# -- names and addresses -----------------------------------------------------

def address_family(number):
    """The enum member of an address family that C does not know."""
    return socket._intenum_converter(number, socket.AddressFamily)


def socket_kind(number):
    """The same for a socket's type."""
    return socket._intenum_converter(number, socket.SocketKind)


# -- transports --------------------------------------------------------------

def log_fatal(transport, message, exc):
    """Debug mode: an OSError that closed a transport."""
    logger.debug('%r: %s', transport, message, exc_info=exc)


def log(level, message, *args):
    """logger.debug() and its like."""
    getattr(logger, level)(message, *args)


def log_accepted(server, addr, fd):
    """Debug mode: a server has a new connection, so far only a descriptor."""
    conn = socket.socket(fileno=fd)
    try:
        logger.debug('%r got a new connection from %r: %r', server, addr, conn)
    finally:
        conn.detach()


_sock_slot = trsock.TransportSocket._sock


class TransportSocket(trsock.TransportSocket):
    """asyncio's, of a transport that may hold writes: each method sends them first.

    When the program gets the descriptor, or the socket object, no write is held any more.
    """

    __slots__ = ('_transport',)

    def __init__(self, sock, transport):
        _sock_slot.__set__(self, sock)
        self._transport = weakref.ref(transport)

    def _flush(self, shared):
        transport = self._transport()
        if transport is not None:
            transport._flush_held(shared)

    @property
    def _sock(self):
        # All of asyncio's own methods that are not below use this.
        self._flush(True)
        return _sock_slot.__get__(self)

    @property
    def family(self):
        return _sock_slot.__get__(self).family

    @property
    def type(self):
        return _sock_slot.__get__(self).type

    @property
    def proto(self):
        return _sock_slot.__get__(self).proto

    def getsockname(self):
        return _sock_slot.__get__(self).getsockname()

    def getpeername(self):
        return _sock_slot.__get__(self).getpeername()

    def getsockopt(self, *args, **kwargs):
        self._flush(False)
        return _sock_slot.__get__(self).getsockopt(*args, **kwargs)

    def setsockopt(self, *args, **kwargs):
        self._flush(False)
        _sock_slot.__get__(self).setsockopt(*args, **kwargs)

    def shutdown(self, how):
        self._flush(False)
        _sock_slot.__get__(self).shutdown(how)


def closed_socket():
    """The socket object of a transport that was closed."""
    sock = socket.socket()
    sock.close()
    return sock


# -- servers -----------------------------------------------------------------

def accept_exhausted(loop, accept, sock, exc):
    """No descriptor is left for accept(): report it, and try again later."""
    loop.call_exception_handler({
        'message': 'socket.accept() out of system resource',
        'exception': exc,
        'socket': trsock.TransportSocket(sock),
    })
    loop.call_later(constants.ACCEPT_RETRY_DELAY, accept.resume)


if PY >= (3, 13):
    _accept_connection2 = selector_events.BaseSelectorEventLoop._accept_connection2
else:

    async def _accept_connection2(self, protocol_factory, conn, extra, sslcontext, server,
                                  ssl_handshake_timeout, ssl_shutdown_timeout):
        """asyncio's as of 3.13: a failed handshake leaves no reference cycle (gh-109534)."""
        protocol = transport = None
        try:
            protocol = protocol_factory()
            waiter = self.create_future()
            if sslcontext is None:
                transport = self._make_socket_transport(
                    conn, protocol, waiter=waiter, extra=extra, server=server)
            else:
                transport = self._make_ssl_transport(
                    conn, protocol, sslcontext, waiter=waiter, server_side=True, extra=extra,
                    server=server, ssl_handshake_timeout=ssl_handshake_timeout,
                    ssl_shutdown_timeout=ssl_shutdown_timeout)
            try:
                await waiter
            except BaseException:
                transport.close()
                raise
            finally:
                waiter = None   # it has the exception, whose traceback has this frame
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            if self._debug:
                context = {'message': 'Error on transport creation for incoming connection',
                           'exception': exc}
                if protocol is not None:
                    context['protocol'] = protocol
                if transport is not None:
                    context['transport'] = transport
                self.call_exception_handler(context)


def accept_by_task(loop, factory, conn, addr, sslcontext, server, times):
    """A new connection whose transport is made, and its handshake awaited, in a task."""
    loop.create_task(_accept_connection2(
        loop, factory, conn, {'peername': addr}, sslcontext, server, *times))


# -- socket operations -------------------------------------------------------

def check_sock(loop, sock):
    """asyncio's checks at the start of every sock_* method."""
    base_events._check_ssl_socket(sock)
    if loop.get_debug() and sock.gettimeout() != 0:
        raise ValueError('the socket must be non-blocking')


def is_original_socket(cls):
    """Has socket.socket the methods that the sock_* methods call in asyncio, and none in their place?

    pytest-socket and the like replace some, or the class.
    """
    return (cls.accept.__code__.co_filename == cls.dup.__code__.co_filename
            and all(getattr(cls, name) is getattr(_socket.socket, name) for name in (
                'connect', 'fileno', 'getsockopt', 'gettimeout', 'recv', 'recv_into', 'recvfrom',
                'recvfrom_into', 'send', 'sendto')))


async def sock_address(loop, sock, address):
    """The address that sock_connect() connects to, resolved if necessary."""
    if sock.family == socket.AF_INET or (
            base_events._HAS_IPv6 and sock.family == socket.AF_INET6):
        resolved = await loop._ensure_resolved(
            address, family=sock.family, type=sock.type, proto=sock.proto,
            loop=loop)
        address = resolved[0][4]
    return address


# -- sendfile ----------------------------------------------------------------

def sendfile_file(file, count):
    """The descriptor of a file, and how much to send at most at a time."""
    try:
        fileno = file.fileno()
    except (AttributeError, io.UnsupportedOperation):
        raise exceptions.SendfileNotAvailableError('not a regular file')
    try:
        size = os.fstat(fileno).st_size
    except OSError:
        raise exceptions.SendfileNotAvailableError('not a regular file')
    return fileno, min(count or size, sys.maxsize // 2 + 1)


def sendfile_error(exc, sent, waited):
    """The exception for an OSError of sendfile(2) after `sent` bytes."""
    if not sent:
        # Most likely a file that cannot be mapped: let the caller fall back.
        return exceptions.SendfileNotAvailableError('os.sendfile call failed')
    if waited and exc.errno == errno.ENOTCONN:
        lost = ConnectionError('socket is not connected', errno.ENOTCONN)
        lost.__cause__ = exc
        return lost
    return exc


_sock_sendfile = base_events.BaseEventLoop.sock_sendfile


async def sendfile_native(loop, transport, file, offset, count):
    """BaseEventLoop's hook for sendfile(), for our stream transports.

    The bytes go through a duplicate of the descriptor, which is watched by
    itself, so that the transport's own watcher keeps its state.  A sock_sendfile()
    of the program's is called, as asyncio does; asyncio's own does not know the transport.
    """
    sock_sendfile = loop.sock_sendfile
    was_reading = transport.is_reading()
    transport.pause_reading()
    await transport._make_empty_waiter()
    try:
        with transport._sock.dup() as sock:
            if getattr(sock_sendfile, '__func__', None) is not _sock_sendfile:
                return await sock_sendfile(sock, file, offset, count, fallback=False)
            loop._check_sendfile_params(sock, file, offset, count)
            return await loop._sock_sendfile_native(
                sock, file, offset, count, transport)
    finally:
        transport._reset_empty_waiter()
        if was_reading:
            transport.resume_reading()
