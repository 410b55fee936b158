"""TLS: echoes and handshakes; one certificate (P-256), TLS 1.3, no resumption."""
from ..case import SIZES, SWEEP, server
from .tcp import Echo, Sink, Source, ViewEcho, named, protocol, streams

FLOOR = ("floor-tls",)
FLAVOURS = {
    "protocol": ("Protocol", protocol, Echo),
    "buffered": ("BufferedProtocol", protocol, ViewEcho),
    "streams": ("streams", streams, None),
}
TARGETS = {
    ("protocol", "1KiB"): 1.0, ("protocol", "16KiB"): 1.0, ("buffered", "100KiB"): 1.0,
    ("streams", "1KiB"): 1.7,
}
FLOOR_TARGETS = {("protocol", size): 0.97 for size in ("1KiB", "16KiB", "100KiB", "1MiB")}


def echo(flavour, size, conns=10, depth=1, **kw):
    label, body, cls = FLAVOURS[flavour]
    name, title = named(f"tls/{flavour}/{size}", f"TLS echo {size}, {label}", conns, depth)
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
for _conns in SWEEP["tls"]:
    if _conns != 10:
        echo("protocol", "1KiB", conns=_conns, main=_conns == 500, targets={"aiofastnet": 1.0})
echo("protocol", "1KiB", depth=16, targets={"aiofastnet": 1.0})

for _name, _title, _load, _cls in (("receive", "receive", "send", Sink),
                                   ("send", "send", "recv", Source)):
    server(f"tls/{_name}", f"TLS {_title} 64KiB chunks", protocol,
           (_load, "--tls", "--size", 64 * 1024, "--conns", 1),
           args={"over": "tls", "protocol": _cls}, unit="64 KiB", main=False)
server("tls/handshakes", "TLS connect, one message, close", protocol,
       ("churn", "--tls", "--size", 64, "--conns", 10),
       args={"over": "tls", "protocol": Echo}, floor=FLOOR, unit="handshake", target=1.0)
