"""All the programs; the modules register theirs."""
from parity import (  # noqa: F401
    connecting,
    datagram_actions,
    endpoints,
    pipe_actions,
    scheduling,
    stream_actions,
    subprocess_actions,
    upgrades,
)
from parity.registry import PROGRAMS  # noqa: F401
