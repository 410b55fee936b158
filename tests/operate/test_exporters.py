"""The loop's numbers in Prometheus and OpenTelemetry, against what the test itself counted."""
import asyncio
import dataclasses
import json
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

import prometheus_client
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

import tidewire
import tidewire.opentelemetry
import tidewire.prometheus
from tidewire import _catalogue

pytestmark = pytest.mark.tidewire

DOCS = pathlib.Path(__file__).parents[2] / "docs"
MESSAGES, SIZE = 300, 700


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


async def echo(messages=MESSAGES):
    """One connection on which so many messages go to and fro."""
    loop = asyncio.get_running_loop()
    loop.name = "measured"
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for _ in range(messages):
        writer.write(b"x" * SIZE)
        await reader.readexactly(SIZE)
    await loop.run_in_executor(None, int)
    loop.call_later(100, int).cancel()
    return server, writer


async def finish(server, writer):
    writer.close()
    await writer.wait_closed()
    server.close()
    await asyncio.sleep(0.01)


def collected():
    """{(name, labels): value} of what a scrape returns, loop "measured"."""
    registry = prometheus_client.CollectorRegistry()
    registry.register(tidewire.prometheus.Collector())
    text = prometheus_client.generate_latest(registry).decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            if labels.pop("loop") == "measured":
                found[sample.name, tuple(sorted(labels.items()))] = sample.value
    return found


def test_prometheus_agrees_with_what_was_sent():
    async def main():
        server, writer = await echo()
        got = collected()
        tcp = (("kind", "tcp"),)
        # Both ends of the connection are this loop's.
        assert got["tidewire_received_bytes_total", tcp] == 2 * MESSAGES * SIZE
        assert got["tidewire_sent_bytes_total", tcp] == 2 * MESSAGES * SIZE
        assert got["tidewire_received_messages_total", tcp] == 2 * MESSAGES
        begun = "tidewire_connections_begun_total"
        assert got[begun, (("how", "opened"), *tcp)] == got[begun, (("how", "accepted"), *tcp)] == 1
        assert got["tidewire_connections_open", tcp] == 2
        assert got["tidewire_jobs_done_total", (("what", "executor"),)] == 1
        assert got["tidewire_timers_cancelled_total", ()] == 1
        await finish(server, writer)
        ended = (("how", "closed"), *tcp)
        assert collected()["tidewire_connections_ended_total", ended] == 2
    tidewire.run(main())


# -- each kind of transport, against the peer's count ----------------------------------------

class Peer(threading.Thread):
    """A blocking socket that sends back all it gets, and counts, in a thread."""

    def __init__(self, sock):
        super().__init__()
        self.sock, self.received, self.sent, self.messages = sock, 0, 0, 0
        self.start()

    def run(self):
        while data := self.sock.recv(65536):
            self.received += len(data)
            self.messages += 1
            self.sock.sendall(data)
            self.sent += len(data)
        self.sock.close()


async def of_tcp(connect=asyncio.open_connection):
    """TCP or Unix, by streams."""
    if connect is asyncio.open_unix_connection:
        ours, theirs = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            ours = socket.create_connection(server.getsockname())
            theirs, _ = server.accept()
    peer = Peer(theirs)
    reader, writer = await connect(sock=ours)
    for _ in range(MESSAGES):
        writer.write(b"x" * SIZE)
        await reader.readexactly(SIZE)
    writer.close()
    await writer.wait_closed()
    return peer, 1


async def of_unix():
    return await of_tcp(asyncio.open_unix_connection)


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.got, self.ended = asyncio.Queue(), asyncio.Event()

    def datagram_received(self, data, address):
        self.got.put_nowait(data)

    def connection_lost(self, exc):
        self.ended.set()


async def of_udp():
    theirs = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    theirs.bind(("127.0.0.1", 0))
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        Datagrams, local_addr=("127.0.0.1", 0), remote_addr=theirs.getsockname())
    theirs.connect(transport.get_extra_info("sockname"))
    peer = Peer(theirs)
    for _ in range(MESSAGES):
        transport.sendto(b"x" * SIZE)
        assert await asyncio.wait_for(protocol.got.get(), 30) == b"x" * SIZE
    await asyncio.to_thread(theirs.shutdown, socket.SHUT_RD)
    transport.close()
    await protocol.ended.wait()
    return peer, 1


async def of_sock():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    peer, loop = Peer(theirs), asyncio.get_running_loop()
    for _ in range(MESSAGES):
        await loop.sock_sendall(ours, b"x" * SIZE)
        got = 0
        while got < SIZE:
            got += len(await loop.sock_recv(ours, SIZE))
    ours.close()
    return peer, None


async def of_tls():
    from parity import certificates     # not there in SERVED

    server_context, client_context = certificates.contexts()
    ours, theirs = socket.socketpair()
    served = asyncio.to_thread(server_context.wrap_socket, theirs, server_side=True)
    served = asyncio.ensure_future(served)
    reader, writer = await asyncio.open_connection(
        sock=ours, ssl=client_context, server_hostname="localhost")
    theirs = await served
    theirs.suppress_ragged_eofs = True
    peer = Peer(theirs)
    for _ in range(MESSAGES):
        writer.write(b"x" * SIZE)
        await reader.readexactly(SIZE)
    writer.transport.abort()
    return peer, None


async def of_pipe():
    """`cat` sends it back."""
    child = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE,
                                                 stdout=subprocess.PIPE)
    for _ in range(MESSAGES):
        child.stdin.write(b"x" * SIZE)
        await child.stdout.readexactly(SIZE)
    child.stdin.close()
    await child.wait()
    return None, 2


@pytest.mark.parametrize("kind", ["tcp", "unix", "udp", "sock", "tls", "pipe"])
def test_every_kind_agrees_with_its_peer(kind):
    """Bytes, messages and connections in both exporters are what the other side counted."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    tidewire.opentelemetry.instrument(provider)

    async def main():
        asyncio.get_running_loop().name = "measured"
        peer, transports = await globals()[f"of_{kind}"]()
        if peer is not None:
            await asyncio.to_thread(peer.join, 30)
            assert (peer.received, peer.sent) == (MESSAGES * SIZE, MESSAGES * SIZE)
        await asyncio.sleep(0.01)
        got, [resource] = collected(), reader.get_metrics_data().resource_metrics
        points = {metric.name: {point.attributes.get("kind"): point.value
                                for point in metric.data.data_points
                                if point.attributes["tidewire.loop"] == "measured"}
                  for metric in resource.scope_metrics[0].metrics}
        label = (("kind", kind),)
        for name, otel in (("received", "received"), ("sent", "sent")):
            assert got[f"tidewire_{name}_bytes_total", label] == MESSAGES * SIZE
            assert points[f"tidewire.io.{otel}"][kind] == MESSAGES * SIZE
            messages = got[f"tidewire_{name}_messages_total", label]
            assert points[f"tidewire.io.{otel}.messages"][kind] == messages
            if kind in ("udp", "tls") or name == "sent":
                assert messages == MESSAGES
            else:
                assert messages >= MESSAGES     # a stream may bring one in parts
        if transports is not None:
            opened, closed = ("how", "opened"), ("how", "closed")
            assert got["tidewire_connections_begun_total", (opened, *label)] == transports
            assert got["tidewire_connections_ended_total", (closed, *label)] == transports
            assert got["tidewire_connections_open", label] == 0
    tidewire.run(main())
    provider.shutdown()


def test_prometheus_histograms_are_cumulative():
    async def main():
        server, writer = await echo()
        got = collected()
        for name, _, _, _ in _catalogue.HISTOGRAMS.values():
            buckets = [value for (key, _), value in got.items() if key == f"{name}_bucket"]
            assert buckets == sorted(buckets)
            assert got[f"{name}_count", ()] == buckets[-1]
            assert got[f"{name}_sum", ()] >= 0
        assert got["tidewire_callback_seconds_count", ()] > MESSAGES
        await finish(server, writer)
    tidewire.run(main())


def test_names_are_good_names():
    registry = prometheus_client.CollectorRegistry()
    registry.register(tidewire.prometheus.Collector())
    names = [metric.name for metric in _catalogue.METRICS]
    assert len(set(names)) == len(names)
    assert len({metric.otel for metric in _catalogue.METRICS}) == len(names)
    for metric in _catalogue.METRICS:
        assert metric.help.endswith(".") and metric.kind in ("counter", "gauge")
        assert (metric.unit == "s") == metric.name.endswith("_seconds")
        assert (metric.unit == "By") == metric.name.endswith("_bytes")


def test_every_name_is_documented():
    text = (DOCS / "observability.rst").read_text()
    for metric in _catalogue.METRICS:
        shown = metric.name + ("_total" if metric.kind == "counter" else "")
        assert f"``{shown}``" in text and f"``{metric.otel}``" in text, metric
    for name, otel, _, _ in _catalogue.HISTOGRAMS.values():
        assert f"``{name}``" in text and f"``{otel}``" in text, name


def rows(text):
    """{name: the rest} of the rows of simple tables; a row may go on in the next line."""
    found, name, rulers = {}, None, 0
    for line in text.splitlines():
        rulers += bool(re.match("=+ +=", line))
        if rulers % 3 != 2:
            name = None
        elif match := re.match(r"``([\w.]+)`` +(.*)", line):
            name = match[1]
            found[name] = match[2]
        elif name and line.startswith("  "):
            found[name] += " " + line.strip()
        else:
            name = None
    return found


def test_every_key_of_stats_is_documented():
    """With its meaning, and no key that does not exist."""
    text = (DOCS / "observability.rst").read_text()
    keys = rows(text.partition("Keys of stats()\n")[2].partition("What it costs\n")[0])
    loop = tidewire.new_event_loop()
    stats = loop.stats()
    loop.close()
    kind = stats["transports"]["tcp"]
    assert [set(stats["transports"][name]) <= set(kind) for name in stats["transports"]]
    expected = {key for key, value in stats.items() if not isinstance(value, dict)}
    expected |= {"accept_errors", *stats["histograms"], *kind}
    for part in stats.keys() - expected - {"transports", "histograms"}:
        expected |= {f"{part}.{key}" for key in stats[part]}
    assert set(keys) == expected
    assert all(len(meaning) > 8 for meaning in keys.values())
    for key, value in stats.items():
        if isinstance(value, float) and key not in ("time", "made"):
            assert "seconds" in keys[key], key
    for name in stats["transports"]:
        assert f"``{name}``" in text
    for error in stats["accept_errors"]:
        assert f"``{error}``" in keys["accept_errors"]


def test_every_field_of_a_report_is_documented():
    text = (DOCS / "observability.rst").read_text()
    fields = {field.name for field in dataclasses.fields(tidewire.SlowCallback)}
    assert fields == rows(text.partition("In production\n")[2].partition("\nHow it works")[0]).keys()


def test_the_dashboard_asks_for_names_that_exist():
    dashboard = json.loads((DOCS / "grafana-dashboard.json").read_text())
    names = {metric.name + "_total" * (metric.kind == "counter") for metric in _catalogue.METRICS}
    names |= {f"{name}_{part}" for name, _, _, _ in _catalogue.HISTOGRAMS.values()
              for part in ("bucket", "sum", "count")}
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(asked) >= 8
    for text in asked:
        words = {word for word in text.replace("(", " ").replace("[", " ").replace("{", " ").split()
                 if word.startswith("tidewire_")}
        assert words and words <= names, text


def test_opentelemetry_agrees_with_what_was_sent():
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    tidewire.opentelemetry.instrument(provider)

    def points():
        [resource] = reader.get_metrics_data().resource_metrics
        [scope] = resource.scope_metrics
        assert scope.scope.name == "tidewire"
        return {metric.name: [(dict(point.attributes), point.value)
                              for point in metric.data.data_points
                              if point.attributes["tidewire.loop"] == "measured"]
                for metric in scope.metrics}

    async def main():
        server, writer = await echo()
        got = points()
        received = {a["kind"]: value for a, value in got["tidewire.io.received"]}
        assert received["tcp"] == 2 * MESSAGES * SIZE
        assert [v for a, v in got["tidewire.connections.open"] if a["kind"] == "tcp"] == [2]
        [(_, callbacks)] = got["tidewire.callback.duration.count"]
        assert callbacks > MESSAGES
        quantiles = {a["quantile"]: v for a, v in got["tidewire.callback.duration.quantile"]}
        assert list(quantiles) == list(tidewire.opentelemetry.QUANTILES)
        assert 0 < quantiles[0.5] <= quantiles[0.999]
        time.sleep(0.2)     # a slow callback, between two collections
        await asyncio.sleep(0)
        later = {a["quantile"]: v for a, v in points()["tidewire.callback.duration.quantile"]}
        assert 0.19 < later[0.999] < 1
        await finish(server, writer)
    tidewire.run(main())
    provider.shutdown()


def test_a_slow_callback_is_a_span():
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    def guilty():
        time.sleep(0.2)

    async def main():
        loop = asyncio.get_running_loop()
        with tidewire.watch(loop, 0.05,
                            tidewire.opentelemetry.slow_callback_spans(provider)):
            loop.call_soon(guilty)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    tidewire.run(main())
    [span] = [s for s in exporter.get_finished_spans() if "guilty" in
              s.attributes["tidewire.callback"]]
    assert 0.19 < (span.end_time - span.start_time) / 1e9 < 10
    assert span.attributes["code.function.name"] == "guilty"
    assert span.attributes["code.file.path"] == __file__


# -- a real Prometheus --------------------------------------------------------------------

SERVED = """
import asyncio, sys, threading
import prometheus_client, tidewire, tidewire.prometheus
sys.path.insert(0, sys.argv[1])
from test_exporters import echo, finish
prometheus_client.REGISTRY.register(tidewire.prometheus.Collector())
async def main():
    server, writer = await echo()
    http, _ = prometheus_client.start_http_server(0, "127.0.0.1")
    print(http.server_port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await finish(server, writer)
tidewire.run(main())
"""


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def ask(port, query):
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)["data"]["result"]
    except OSError:
        return []       # it does not listen yet


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("prometheus"), reason="needs prometheus")
def test_a_real_prometheus_scrapes_it(tmp_path):
    with subprocess.Popen([sys.executable, "-c", SERVED, str(pathlib.Path(__file__).parent)],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as served:
        target, port = int(served.stdout.readline()), free_port()
        config = tmp_path / "prometheus.yml"
        config.write_text("global: {scrape_interval: 1s}\nscrape_configs:\n"
                          "- job_name: t\n  static_configs:\n"
                          f"  - targets: ['127.0.0.1:{target}']\n")
        with subprocess.Popen(
                ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/data",
                 f"--web.listen-address=127.0.0.1:{port}"], stderr=subprocess.DEVNULL) as prometheus:
            query = 'tidewire_received_bytes_total{kind="tcp",loop="measured"}'
            tick, end = threading.Event(), time.monotonic() + 40
            while not (got := ask(port, query)) and time.monotonic() < end:
                tick.wait(0.2)      # no event tells when the first scrape is stored
            quantile = ask(port, "histogram_quantile(0.5, tidewire_callback_seconds_bucket)")
            prometheus.terminate()
        served.communicate()
    assert [float(result["value"][1]) for result in got] == [2 * MESSAGES * SIZE]
    assert len(quantile) == 1 and 0 < float(quantile[0]["value"][1]) < 1
