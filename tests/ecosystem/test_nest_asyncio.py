"""nest_asyncio and nest-asyncio2: runs inside of runs, as Jupyter's users have them.

The programs are in nested.py.  All of one package run in one process, since apply() patches
asyncio.
"""
import functools
import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest
import support

_spec = importlib.util.spec_from_file_location(
    "nested", pathlib.Path(__file__).with_name("nested.py"))
nested = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(nested)

MODULES = ["nest_asyncio", "nest_asyncio2"]
FACTORIES = {"tidewire": "tidewire:new_event_loop", "stock": "asyncio:SelectorEventLoop"}
#: nest_asyncio itself lets a callback fail whose context is entered, as that of a transport's
#: is while a run inside of data_received() reads from the same transport.
ENTERED = {"contexts", "contexts_of_timers", "contexts_of_two_levels", "greenlets", "protocol",
           "protocol_over_tls", "datagrams"}


@functools.cache
def results(module, factory, folder):
    pytest.importorskip(module)
    if module == "nest_asyncio" and sys.version_info >= (3, 14):
        pytest.skip("nest_asyncio is older than Python 3.14")
    names = [name for name in nested.PROGRAMS
             if "tidewire" in factory or not (name.startswith("tidewire_")
                                              or (module == "nest_asyncio" and name in ENTERED))]
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", nested.__file__, module, factory, *names],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60 * support.SLOWER,
        env={**os.environ, "TLS_FOLDER": folder, "PYTHONPATH": os.pathsep.join(sys.path)})
    return dict(line.split(" ", 1) for line in done.stdout.splitlines()), done.stderr


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    trustme = pytest.importorskip("trustme")
    folder = tmp_path_factory.mktemp("nested")
    authority = trustme.CA()
    made = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    made.private_key_pem.write_to_path(folder / "key.pem")
    made.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    return str(folder)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("name", nested.PROGRAMS)
def test_nested(name, module, certificate, loop_name):
    factory = FACTORIES.get(loop_name, loop_name)
    if "tidewire" not in factory and name.startswith("tidewire_"):
        pytest.skip("tidewire's own")
    if "tidewire" not in factory and module == "nest_asyncio" and name in ENTERED:
        pytest.skip("nest_asyncio fails with it on asyncio's loop")
    told, stderr = results(module, factory, certificate)
    assert told.get(name) == "ok", stderr[-3000:]


REFUSED = """
import asyncio, tidewire

def refused(loop):
    async def inner():
        pass

    async def main():
        coroutine = inner()
        try:
            loop.run_until_complete(coroutine)
        except RuntimeError as exc:
            print(exc)
        coroutine.close()

    loop.run_until_complete(main())

old, older = tidewire.new_event_loop(), tidewire.new_event_loop()
assert not hasattr(old, "_nest_patched")
refused(old)
import {module} as nest
nest.apply(old)
print(old.run_until_complete(asyncio.sleep(0, "runs")))
refused(older)
print(type(older).__dict__.keys() == type(old).__dict__.keys())
old.close()
older.close()
"""


@pytest.mark.tidewire
@pytest.mark.parametrize("module", MODULES)
def test_only_after_apply(module):
    """A loop nests that apply() was called for, or that was made afterwards."""
    pytest.importorskip(module)
    done = subprocess.run([sys.executable, "-c", REFUSED.format(module=module)],
                          capture_output=True, text=True, timeout=60)
    told = "This event loop is already running"
    assert done.stdout.splitlines() == [told, "runs", told, "True"], done.stderr
