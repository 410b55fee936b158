"""Where the programs are registered.

``PROGRAMS`` maps a name to a coroutine function of a Trace.
"""
import functools

PROGRAMS = {}


def program(function):
    PROGRAMS[function.__name__] = function
    return function


def programs(*names):
    """One program for each value of an argument."""
    def register(function):
        for name in names:
            PROGRAMS[f"{function.__name__}-{name}"] = functools.partial(
                function, what=name)
        return function
    return register
