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
from parity.registry import PROGRAMS

# write() to a peer that is gone, then drain(): a write that is held back
# until the callback returns fails behind the tasks that the callback made.
# Datagrams that leave together to a closed port give fewer errors.
# docs/differences.rst tells of both, and of the switch.
WITHOUT_CORK = [n for n in PROGRAMS
                if n.startswith("stream ") and n.endswith(", closed")]
WITHOUT_CORK.append("udp: in error")
