"""Where tidewire touches asyncio's private side.

Every name of the standard library that is not public and that tidewire uses
stands in this file (and the C code asks for it here), so that a new Python
version can be checked by reading one page.  C calls the functions below for
cold work that Python does better.
"""
import socket
import sys
from asyncio import (
    base_events,
    constants,
    events,
    format_helpers,
    selector_events,
    trsock,
    unix_events,
)
from asyncio.log import logger

PY = sys.version_info[:2]

#: Taken over as functions: cold, and right for the running Python.
create_unix_connection = unix_events._UnixSelectorEventLoop.create_unix_connection
create_unix_server = unix_events._UnixSelectorEventLoop.create_unix_server
add_signal_handler = unix_events._UnixSelectorEventLoop.add_signal_handler
remove_signal_handler = unix_events._UnixSelectorEventLoop.remove_signal_handler
_handle_signal = unix_events._UnixSelectorEventLoop._handle_signal
_check_signal = unix_events._UnixSelectorEventLoop._check_signal

#: Server._attach(transport) and _detach(transport): from 3.13 on.
server_takes_transport = (
    base_events.Server._attach.__code__.co_argcount == 2)


# -- handles -----------------------------------------------------------------

def extract_stack():
    """The stack of the code that makes a handle (debug mode)."""
    return format_helpers.extract_stack(sys._getframe(1))


def check_call(loop, callback, method, thread):
    """Debug mode's checks of call_soon() and the like."""
    if thread:
        loop._check_thread()
    loop._check_callback(callback, method)


def report_handle(handle, callback, args, exc):
    """A callback raised: what asyncio's Handle._run() does about it."""
    source = format_helpers._format_callback_source(callback, args)
    context = {
        'message': f'Exception in callback {source}',
        'exception': exc,
        'handle': handle,
    }
    if handle._source_traceback:
        context['source_traceback'] = handle._source_traceback
    handle._loop.call_exception_handler(context)


def note_duration(loop, handle, seconds):
    """Debug mode: warn of a slow callback."""
    if seconds >= loop.slow_callback_duration:
        logger.warning('Executing %s took %.3f seconds',
                       base_events._format_handle(handle), seconds)


def report_step(loop, protocol, name, arg, exc, context):
    """connection_made() or connection_lost() raised: as a handle of its own."""
    callback = getattr(protocol, name)
    handle = events.Handle(callback, (arg,), loop, context)
    report_handle(handle, callback, (arg,), exc)


# -- transports --------------------------------------------------------------

def log_fatal(transport, message, exc):
    """Debug mode: an OSError that closed a transport."""
    logger.debug('%r: %s', transport, message, exc_info=exc)


def warn_lost_write():
    """Somebody goes on writing to a lost connection."""
    logger.warning('socket.send() raised exception.')


def make_socket(fd):
    """A socket object that owns `fd`; a closed one for -1."""
    if fd < 0:
        sock = socket.socket()
        sock.close()
        return sock
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock


# -- servers -----------------------------------------------------------------

def accept_exhausted(loop, accept, sock, exc):
    """No descriptor is left for accept(): tell, and try again later."""
    loop.call_exception_handler({
        'message': 'socket.accept() out of system resource',
        'exception': exc,
        'socket': trsock.TransportSocket(sock),
    })
    loop.call_later(constants.ACCEPT_RETRY_DELAY, accept.resume)


_accept_connection2 = selector_events.BaseSelectorEventLoop._accept_connection2


def accept_tls(loop, factory, fd, addr, sslcontext, server, times):
    """A connection for a TLS server: its handshake is awaited in a task."""
    conn = make_socket(fd)
    loop.create_task(_accept_connection2(
        loop, factory, conn, {'peername': addr}, sslcontext, server, *times))
