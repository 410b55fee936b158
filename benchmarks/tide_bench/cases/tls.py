"""TLS: echoes and handshakes; one certificate (P-256), TLS 1.3, no resumption."""
from ..case import SIZES, server
from .tcp import BufferedEcho, Echo, protocol, streams

FLOOR = ("floor-tls",)
FLAVOURS = {
    "protocol": ("Protocol", protocol, Echo),
    "buffered": ("BufferedProtocol", protocol, BufferedEcho),
    "streams": ("streams", streams, None),
}
TARGETS = {
    ("protocol", "1KiB"): 2.7, ("protocol", "16KiB"): 2.0, ("buffered", "100KiB"): 1.4,
    ("streams", "1KiB"): 2.5,
}
FLOOR_TARGETS = {("protocol", "100KiB"): 0.97, ("protocol", "1MiB"): 0.97}


def echo(flavour, size, conns=10, depth=1, **kw):
    label, body, cls = FLAVOURS[flavour]
    name, title = f"tls/{flavour}/{size}", f"TLS echo {size}, {label}"
    if conns != 10:
        name, title = f"{name}/c{conns}", f"{title}, {conns:,} connections"
    if depth != 1:
        name, title = f"{name}/x{depth}", f"{title}, {depth} in flight"
    nbytes = SIZES.get(size, 16 * 1024)
    server(name, title, body,
           ("echo", "--tls", "--size", nbytes, "--conns", conns, "--depth", depth),
           args={"over": "tls", "size": nbytes, "protocol": cls}, floor=FLOOR, **kw)


for _flavour in FLAVOURS:
    for _size in ("64B", "1KiB", "10KiB", "16KiB", "100KiB", "1MiB"):
        _key = _flavour, _size
        _floor = {"floor": FLOOR_TARGETS[_key]} if _key in FLOOR_TARGETS else {}
        echo(*_key, main=_key in TARGETS or _key in FLOOR_TARGETS,
             target=TARGETS.get(_key), targets={"aiofastnet": 1.0, **_floor})
echo("protocol", "1KiB", conns=500, targets={"aiofastnet": 1.0})
echo("protocol", "1KiB", depth=16, targets={"aiofastnet": 1.0})

server("tls/handshakes", "TLS connect, one message, close", protocol,
       ("churn", "--tls", "--size", 64, "--conns", 10),
       args={"over": "tls", "protocol": Echo}, floor=FLOOR, unit="handshake", target=1.0)
