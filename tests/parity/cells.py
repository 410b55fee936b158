"""Many small programs at once on one loop: as one, they take as long as one.

Each cell has a Trace of its own; they are joined at the end, with the cell's
name before the actor's.  An exception that a cell raises on purpose names the
cell, so that reports can be told apart.
"""
import asyncio
import functools

from parity import harness
from parity.registry import PROGRAMS


class Planned(Exception):
    pass


def fail(protocol):
    raise Planned(protocol.cell)


async def together(t, cells, races=()):
    t.races = races
    traces = {name: harness.Trace(t.loop) for name in cells}

    async def one(name, trace):
        try:
            await cells[name](trace)
        except Exception as exc:
            trace.note("cell", "failed", *harness.described(exc))
        finally:
            await trace.finish()

    await asyncio.gather(*(one(*item) for item in traces.items()))
    for name, trace in traces.items():
        for i, phase in enumerate(trace.phases):
            while len(t.phases) <= i:
                t.phases.append({})
            for actor, events in phase.items():
                t.phases[i][f"{name}: {actor}"] = events


def table(title, function, places, actions, races=()):
    """A program for each place, with a cell for each action:
    function(t, cell, place, action).  races: see harness.Trace."""
    for place in places:
        cells = {name: functools.partial(function, cell=name, place=place, action=action)
                 for name, action in actions.items()}
        PROGRAMS[f"{title} in {place}"] = functools.partial(together, cells=cells, races=races)


def once(action):
    """A hook that does it the first time only."""
    done = []

    def hook(protocol):
        if not done:
            done.append(1)
            action(protocol)
    return hook


async def made_by(t, protocol, coroutine):
    """Await what makes a transport; `protocol.maker` is the task.  The
    transport, or None if there never was one."""
    protocol.maker = t.loop.create_task(coroutine)
    await t.wait("maker", "made", protocol.maker)
    if protocol.transport is not None:
        t.end_with(protocol.transport)
    return protocol.transport


def switch(protocol):
    """Another protocol from now on."""
    other = protocol.other()
    other.transport, other.cell = protocol.transport, protocol.cell
    protocol.transport.set_protocol(other)
