"""asyncio's own tests and the examples of its documentation, on the loop.

The scripts that run them are not part of this repository: they are looked
for in ``$TIDEWIRE_ORACLE`` and in ``../shared/oracle``.  They take minutes,
so they run with ``--conformance`` only (``make conformance`` has a table).
"""
import json
import os
import pathlib
import subprocess
import sys

import pytest

import support

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(600)]

ROOT = pathlib.Path(__file__).resolve().parents[2]
ORACLE = pathlib.Path(os.environ.get("TIDEWIRE_ORACLE")
                      or ROOT.parent / "shared" / "oracle")

# Modules of test.test_asyncio, in groups of about a minute.
GROUPS = [
    ("test_events", "test_unix_events"),
    ("test_tasks", "test_eager_task_factory", "test_futures",
     "test_futures2", "test_taskgroups", "test_timeouts", "test_waitfor"),
    ("test_runners", "test_locks", "test_queues", "test_context",
     "test_threads", "test_staggered"),
    ("test_streams", "test_buffered_proto", "test_server"),
    ("test_sock_lowlevel", "test_sendfile"),
    ("test_subprocess",),
    ("test_ssl", "test_sslproto"),
]


def oracle(name, loop_name, *args, timeout=550):
    path = ORACLE / name
    if not path.exists():
        pytest.skip(f"no {path}")
    return subprocess.run(
        [sys.executable, str(path), support.factory_name(loop_name), *args],
        capture_output=True, text=True, timeout=timeout,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(
            p for p in sys.path if p)})


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group[0])
def test_cpython(loop_name, group, tmp_path):
    pytest.importorskip("test.test_asyncio")
    out = tmp_path / "out.json"
    done = oracle("cpython_oracle.py", loop_name, "--only",
                  ",".join(name[5:] for name in group), "--json", str(out))
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert json.loads(out.read_text())


def test_examples(loop_name):
    done = oracle("examples_oracle.py", loop_name, "--doc",
                  str(ORACLE.parent / "spec"))
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
