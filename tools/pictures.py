#!/usr/bin/env python3
"""Draw the pictures of docs/observability.rst from a running program: ``pictures.py [SECONDS]``.

A server answers some clients; a real Prometheus scrapes it and is asked what the panels of
docs/grafana-dashboard.json ask.  Needs prometheus, matplotlib and rich.
"""
import asyncio
import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
PLOTS = ROOT / "docs" / "plots"
SCRAPE = 2


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


async def client(port, rng):
    """Connections that come and go, each with some messages."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(rng.randint(20, 400)):
            writer.write(bytes(rng.choice((64, 1024, 20_000))))
            await reader.read(65536)
            await asyncio.sleep(rng.expovariate(200))
        writer.close()


async def serve():
    import prometheus_client

    import tidewire.prometheus
    asyncio.get_running_loop().name = "server"
    tidewire.expose()
    prometheus_client.REGISTRY.register(tidewire.prometheus.Collector())
    http, _ = prometheus_client.start_http_server(0, "127.0.0.1")
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(http.server_port, flush=True)
    rng = random.Random(1)
    clients = [asyncio.create_task(client(port, rng)) for _ in range(60)]
    while True:
        await asyncio.sleep(rng.uniform(2, 8))
        time.sleep(rng.uniform(0.01, 0.05))     # what the histograms have to show
        assert not any(task.done() for task in clients)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def asked(port, expression, began):
    """[(label, times, values), …] of a panel's expression."""
    for name, value in (("$__rate_interval", f"{4 * SCRAPE}s"), ("$job", ".*")):
        expression = expression.replace(name, value)
    query = urllib.parse.urlencode({"query": expression, "start": began, "end": time.time(),
                                    "step": SCRAPE})
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query_range?{query}") as answer:
        found = json.load(answer)["data"]["result"]
    return [(series["metric"], [float(t) - began for t, _ in series["values"]],
             [float(v) for _, v in series["values"]]) for series in found]


def legend(form, metric):
    for name, value in metric.items():
        form = form.replace("{{" + name + "}}", value if name != "instance" else "")
    return " ".join(form.split())


def draw_dashboard(port, began):
    import matplotlib
    matplotlib.use("svg")
    import matplotlib.pyplot as plt
    plt.rcParams.update({"svg.hashsalt": "tidewire", "font.size": 8})
    panels = json.loads((ROOT / "docs" / "grafana-dashboard.json").read_text())["panels"]
    drawn = [(panel, lines) for panel in panels if (lines := [
        (legend(target["legendFormat"], metric), times, values) for target in panel["targets"]
        for metric, times, values in asked(port, target["expr"], began) if any(values)])]
    figure, axes = plt.subplots((len(drawn) + 1) // 2, 2, figsize=(11, 2.6 * len(drawn) / 2))
    for (panel, lines), axis in zip(drawn, axes.flat, strict=False):
        for label, times, values in lines:
            axis.plot(times, values, label=label, lw=1)
        axis.set_title(f"{panel['title']} ({panel['fieldConfig']['defaults']['unit']})")
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=6, loc="lower left")
    for axis in list(axes.flat)[len(drawn):]:
        axis.remove()
    figure.tight_layout()
    figure.savefig(PLOTS / "dashboard.svg", metadata={"Date": None})


def draw_top(pid):
    from rich.console import Console

    from tidewire import _expose, _top
    client, view = _expose.Client(pid), _top.View()
    view.page(client.stats())
    time.sleep(1)
    title, rows, slow = view.page(client.stats())
    client.close()
    title = title.replace(str(pid), "4242").replace(f"{__file__} --serve", "app.py")
    console = Console(width=150, record=True, file=open(os.devnull, "w"))
    with console.file:
        console.print(_top._rich_table(title, rows, slow))
    console.save_svg(str(PLOTS / "top.svg"), title="python -m tidewire top 4242")


def main(seconds=90):
    served = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE,
                              text=True)
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        config = pathlib.Path(directory, "prometheus.yml")
        config.write_text(f"global: {{scrape_interval: {SCRAPE}s}}\nscrape_configs:\n"
                          "- job_name: app\n  static_configs:\n"
                          f"  - targets: ['127.0.0.1:{served.stdout.readline().strip()}']\n")
        prometheus = subprocess.Popen(
            ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={directory}/data",
             f"--web.listen-address=127.0.0.1:{port}"], stderr=subprocess.DEVNULL)
        try:
            began = time.time() + 10
            time.sleep(10 + seconds)
            draw_top(served.pid)
            draw_dashboard(port, began)
        finally:
            for process in (prometheus, served):
                process.kill()
                process.wait()


if __name__ == "__main__":
    if "--serve" in sys.argv:
        import tidewire
        tidewire.run(serve())
    else:
        main(*map(int, sys.argv[1:]))
