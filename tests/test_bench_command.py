"""``python -m tidewire bench``."""
import json
import signal
import subprocess
import sys

import pytest

from tidewire import _bench


def test_table_has_a_ratio_for_each_other_loop():
    text = _bench.table({"sleep0": {"asyncio": [4.0, 5.0, 3.5], "tidewire": [2.0] * 3},
                         "tcp-1k": {"asyncio": [3.0], "tidewire": []}}, ["asyncio", "tidewire"])
    head, first, second = text.splitlines()
    assert head.split()[-5:] == ["asyncio", "tidewire", "vs", "asyncio", "spread"]
    assert first.split()[-4:] == ["4.00", "2.00", "2.00x", "9%"]
    assert second.split()[-4:] == ["3.00", "-", "-", "-"]


def test_busy_machine_is_named():
    quiet = {"tcp-1k": {"asyncio": [2.0, 2.1, 2.0, 1.9], "tidewire": [1.0] * 4}}
    busy = {"tcp-1k": {"asyncio": [2.0, 4.0, 1.0, 3.0], "tidewire": [1.0] * 4}}
    assert _bench.busy(quiet, 1.5, 2) == ""
    assert _bench.busy(busy, 1.5, 2) == "the rounds differ much"
    assert _bench.busy(quiet, 41.6, 2) == "load average 42 on 2 cores"


def test_what_is_installed_is_not_installed_again(tmp_path):
    assert _bench.fetch(["asyncio"], str(tmp_path), _bench.Progress()) == ""
    assert list(tmp_path.iterdir()) == []


def test_order_is_fair():
    orders = [_bench.in_turn(["a", "b", "c"], turn) for turn in range(6)]
    assert orders[:3] == [["a", "b", "c"], ["c", "b", "a"], ["b", "c", "a"]]
    assert sum(order.index("a") < order.index("c") for order in orders) == 3


def test_unknown_case_is_refused():
    with pytest.raises(SystemExit):
        _bench.parse(["--cases", "nothing"])


@pytest.mark.parametrize("cases", ["tcp-1k,call_soon", "tls-1k,udp-1k", "uvicorn,aiohttp"])
def test_command_measures_and_prints_json(cases):
    for name in set(cases.split(",")) & set(_bench.HTTP):
        pytest.importorskip(name)
    done = subprocess.run(
        [sys.executable, "-m", "tidewire", "bench", "--cases", cases, "--rounds", "1",
         "--seconds", "0.05", "--json"],
        check=True, capture_output=True, text=True, timeout=50)
    got = json.loads(done.stdout)["microseconds"]
    for case in cases.split(","):
        for loop in ("asyncio", "tidewire"):
            assert len(got[case][loop]) == 1 and got[case][loop][0] > 0


def test_loop_that_does_not_answer_is_given_up(monkeypatch):
    child = _bench.Child("asyncio:SelectorEventLoop", None)
    try:
        child.process.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(_bench, "PATIENCE", 0.05)
        for why in ("no answer", "its process has ended"):
            with pytest.raises(_bench.Failed, match=why):
                child.ask({"measure": "call_soon", "seconds": 0.01}, 0.01)
            child.process.wait()
    finally:
        child.end()


def peer_with(monkeypatch, chunks):
    """An HTTPPeer whose server sends these pieces, then closes."""
    class Socket:
        def sendall(self, data):
            pass

        def recv(self, size):
            return chunks.pop(0) if chunks else b""

        def recv_into(self, buffer):
            return 0

    monkeypatch.setattr(_bench.Peer, "__init__", lambda peer, case, port: vars(peer).update(
        sock=Socket()))
    return _bench.HTTPPeer("uvicorn", 0)


def test_an_answer_that_comes_in_pieces_is_counted_whole(monkeypatch):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nserver: x\r\n\r\n"
    peer = peer_with(monkeypatch, [head[:20], head[20:], b"01234", b"56789"])
    assert peer.length == len(head) + 10


def test_a_server_that_closes_is_a_failure(monkeypatch):
    with pytest.raises(_bench.Failed, match="closed"):
        peer_with(monkeypatch, [b"HTTP/1.1 200 OK\r\n"])
    peer = peer_with(monkeypatch, [b"HTTP/1.1 204 No Content\r\n\r\n"])
    with pytest.raises(_bench.Failed, match="closed"):
        peer.read(bytearray(10))
