"""Runs inside runs, for programs that use nest_asyncio: see csrc/core/nest.h."""
from asyncio import ensure_future, isfuture

from . import _seam


def _run(loop, future):
    with _seam.set_aside(loop):
        if loop.is_running():
            loop._run_nested(future)
        else:
            loop._run(future)


def run_forever(loop):
    _run(loop, None)
    loop._stopping = False


def run_until_complete(loop, future):
    """Run until the future is done, and not until stop(): other runs may be inside and outside."""
    loop._check_closed()
    is_new = not isfuture(future)
    future = ensure_future(future, loop=loop)
    if is_new:
        future._log_destroy_pending = False
    try:
        _run(loop, future)
    except BaseException:
        if is_new and future.done() and not future.cancelled():
            future.exception()      # it is the one that is raised
        raise
    if not future.done():
        raise RuntimeError('Event loop stopped before Future completed.')
    return future.result()
