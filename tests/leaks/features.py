"""Where the features are registered, and what their rounds share."""
FEATURES = {}           # name: (function, rounds in a block)
LOOP = {}               # "make": the factory


def feature(rounds=40, name=None):
    """A coroutine function: one round, on a loop that stays the same."""
    def register(function):
        FEATURES[name or function.__name__] = function, rounds, False
        return function
    return register


def outside(rounds=10):
    """A plain function: one round, with loops of its own."""
    def register(function):
        FEATURES[function.__name__] = function, rounds, True
        return function
    return register


def ignore(*args):
    pass


def fail(*args):
    raise ZeroDivisionError
