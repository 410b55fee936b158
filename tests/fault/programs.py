"""The programs that faults are injected into: each a coroutine function of a Context, on any loop.

They end whatever fails: who waits for the other side is told when a connection is lost.  If one
does not end, the loop is at fault (or asyncio: the stock loop runs the same fault).
"""
PROGRAMS = {}


class Context:
    """What a program may ask for: another loop."""

    def __init__(self, new_loop):
        self.new_loop = new_loop


def program(function):
    PROGRAMS[function.__name__] = function
    return function


def address_of(server):
    if not server.sockets:      # asyncio passes over families that it cannot have
        raise OSError("no socket")
    return server.sockets[0].getsockname()[:2]


def load():
    """All programs, by name."""
    from fault import programs_other, programs_streams  # noqa: F401
    return PROGRAMS
