"""What ``python -m tidewire`` means by asyncio's default loop, here and in child processes."""

import asyncio
import glob
import inspect
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

import tidewire

pytestmark = [pytest.mark.tidewire, pytest.mark.packaging]

LOOP = """
import asyncio
async def main():
    return type(asyncio.get_running_loop()).__module__.split(".")[0]
"""


def program(source, *options, args=(), env=None, cwd=None):
    """What a program prints under ``python -m tidewire``."""
    process = subprocess.run(
        [sys.executable, "-m", "tidewire", *options, "-c", textwrap.dedent(source), *args],
        capture_output=True, text=True, timeout=60, cwd=cwd, env={**os.environ, **(env or {})})
    assert process.returncode == 0, process.stderr
    assert "Traceback" not in process.stderr and "Warning" not in process.stderr, process.stderr
    return process.stdout.split()


@pytest.mark.parametrize("made", [
    "asyncio.new_event_loop()", "asyncio.SelectorEventLoop()", "asyncio.SelectorEventLoop(None)",
    "asyncio.SelectorEventLoop(selector=None)", "asyncio.Runner().get_loop()",
    "asyncio.Runner(loop_factory=asyncio.SelectorEventLoop).get_loop()",
    "asyncio.events.new_event_loop()", "asyncio.unix_events.SelectorEventLoop()",
    pytest.param("asyncio.EventLoop()", marks=pytest.mark.skipif(
        sys.version_info < (3, 13), reason="3.13's name"))])
def test_every_way_to_the_default_loop(made):
    assert program(f"""
        import asyncio
        loop = {made}
        loop.close()
        print(type(loop).__module__)
    """) == ["tidewire"]


@pytest.mark.skipif(sys.version_info >= (3, 16), reason="no policies")
def test_asyncios_own_policy_makes_the_default_loop():
    assert program("""
        import asyncio, warnings
        warnings.simplefilter("ignore")
        for policy in None, asyncio.DefaultEventLoopPolicy():
            asyncio.set_event_loop_policy(policy)
            loop = asyncio.new_event_loop()
            loop.close()
            print(type(loop).__module__)
    """) == ["tidewire", "tidewire"]


def test_asked_for_by_name():
    """A selector, a subclass, another policy: the program gets what it asks for."""
    out = program("""
        import asyncio, selectors, sys, warnings
        warnings.simplefilter("ignore")

        class Mine(asyncio.SelectorEventLoop):
            def __init__(self):
                super().__init__(selectors.SelectSelector())

        class Plain(asyncio.SelectorEventLoop):
            pass

        chosen = selectors.SelectSelector()
        loops = [asyncio.SelectorEventLoop(chosen), Mine(), Plain()]
        assert loops[0]._selector is chosen
        assert type(loops[1]._selector) is selectors.SelectSelector
        async def main(): return 42
        for loop in loops:
            assert isinstance(loop, asyncio.SelectorEventLoop)
            assert loop.run_until_complete(main()) == 42
            loop.close()
            print(type(loop).__module__)
        assert type(loops[2]) is Plain and isinstance(loops[2], Plain)
        assert not isinstance(loops[1], Plain) and not isinstance(asyncio.new_event_loop(), Plain)
    """)
    assert out == ["asyncio.unix_events", "__main__", "__main__"]


def test_isinstance_and_issubclass():
    """The name means what it meant: one class, whose instances the default loops are."""
    program("""
        import asyncio, inspect, pickle, typing
        import tidewire
        cls = asyncio.SelectorEventLoop
        loop = asyncio.new_event_loop()
        assert isinstance(loop, cls) and issubclass(tidewire.Loop, cls)
        assert inspect.isclass(cls) and issubclass(cls, asyncio.BaseEventLoop)
        assert issubclass(cls, asyncio.unix_events._UnixSelectorEventLoop)
        assert not isinstance(42, cls) and not issubclass(asyncio.BaseEventLoop, cls)
        assert pickle.loads(pickle.dumps(cls)) is cls
        assert typing.get_args(cls | None)[0] is cls and cls.__doc__
        assert asyncio.unix_events.SelectorEventLoop is cls
        assert getattr(asyncio, "EventLoop", cls) is cls
        loop.close()
    """)


def test_without_policies():
    """As on Python 3.16, which has none: the factories make tidewire's loops."""
    code = """
        import asyncio
        from tidewire import _default, _seam
        _seam.DefaultEventLoopPolicy = None
        _default.use_tidewire()
        async def main():
            return type(asyncio.get_running_loop()).__module__
        print(asyncio.run(main()))
        with asyncio.Runner() as runner:
            print(runner.run(main()))
        for made in asyncio.new_event_loop(), asyncio.SelectorEventLoop():
            made.close()
            print(type(made).__module__)
    """
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(code)],
                             capture_output=True, text=True, timeout=60)
    assert process.stdout.split() == ["tidewire"] * 4, process.stderr


def test_a_unix_server_takes_what_this_pythons_takes():
    """As mode=, from Python 3.16 on: the method is asyncio's own."""
    assert tidewire.Loop.create_unix_server is asyncio.SelectorEventLoop.create_unix_server


def test_install_without_policies(monkeypatch):
    monkeypatch.setattr(tidewire, "_has_policies", False)
    with pytest.raises(RuntimeError, match="Python 3.16 has no event loop policies"):
        tidewire.install()
    with pytest.raises(AttributeError):
        _ = tidewire.EventLoopPolicy
    assert "EventLoopPolicy" not in dir(tidewire)


# -- children ------------------------------------------------------------------

SPAWNED = LOOP + """
import multiprocessing, sys
def child(queue):
    queue.put(asyncio.run(main()))
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    print(queue.get())
    process.join()
"""


def script(tmp_path, source, *options, args=(), env=None):
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(source))
    process = subprocess.run(
        [sys.executable, "-m", "tidewire", *options, str(path), *args],
        capture_output=True, text=True, timeout=60, env={**os.environ, **(env or {})})
    assert process.returncode == 0, process.stderr
    return process.stdout.split()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(tmp_path, method):
    assert script(tmp_path, SPAWNED, args=[method]) == ["tidewire"]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_no_children(tmp_path, method):
    assert script(tmp_path, SPAWNED, "--no-children", args=[method]) == ["asyncio"]


CHILD = LOOP + """
import os, subprocess, sys
def child(code, *options, **env):
    return subprocess.run([sys.executable, *options, "-c", code], env={**os.environ, **env},
                          check=True, capture_output=True, text=True).stdout.strip()
CODE = '''
import asyncio
async def main(): return type(asyncio.get_running_loop()).__module__.split(".")[0]
print(asyncio.run(main()))
'''
"""


def test_subprocess_and_its_own_children(tmp_path):
    assert script(tmp_path, CHILD + """
print(child(CODE))
print(child("import subprocess, sys; print(subprocess.run([sys.executable, '-c', %r],"
            " capture_output=True, text=True).stdout)" % CODE))
""") == ["tidewire", "tidewire"]


def test_a_child_is_as_it_would_be_otherwise(tmp_path):
    """Nothing is imported for it, nothing is left on its path, no frame is in its tracebacks."""
    code = ("import sys; print(sorted(set(sys.modules) - {'sitecustomize', '_tidewire_hooks'}),"
            " [path for path in sys.path if '_children' in path])")
    plain = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    under = script(tmp_path, CHILD + f"print(child({code!r}))\n")
    gone = set(plain.replace("'", "").replace("[", "").replace(",", "").split())
    here = set(" ".join(under).replace("'", "").replace("[", "").replace(",", "").split())
    assert here - gone <= {"__future__", "importlib.machinery", "importlib", "importlib._bootstrap",
                           "importlib._bootstrap_external", "_imp", "warnings", "_warnings"}
    assert "asyncio]" not in here and "asyncio" not in here and "tidewire" not in here
    out = script(tmp_path, CHILD + """
child_error = subprocess.run([sys.executable, "-c", "import asyncio; asyncio.run(1)"],
                             capture_output=True, text=True).stderr
print("tidewire" in child_error, "ValueError" in child_error)
""")
    assert out == ["False", "True"]


def test_asyncio_of_a_child_is_intact(tmp_path):
    assert script(tmp_path, CHILD + """
print(child("import asyncio, inspect; print(asyncio.__spec__.loader is asyncio.__loader__,"
            " 'exec_module' in vars(asyncio.__loader__), 'run' in inspect.getsource(asyncio))"))
""") == ["True", "False", "True"]


def test_a_child_that_imports_tidewire_first(tmp_path):
    """The package is half imported when it imports asyncio, and so puts itself in place."""
    assert script(tmp_path, CHILD + """
print(child("import tidewire\\n" + CODE))
print(child("import tidewire, asyncio; asyncio.SelectorEventLoop().close(); print(tidewire.run)"))
""")[0] == "tidewire"


def test_asyncio_repl():
    process = subprocess.run(
        [sys.executable, "-m", "tidewire", "-m", "asyncio"], capture_output=True, text=True,
        timeout=60, input="import tidewire\nprint('is', await asyncio.sleep(0, 'on it'), "
        "tidewire.is_running())\n")
    assert "is on it True" in process.stdout, process.stderr


def test_the_next_sitecustomize_runs(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "sitecustomize.py").write_text("print('the other one', __name__)\n")
    env = {"PYTHONPATH": os.pathsep.join(
        [str(other), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])}
    out = script(tmp_path, CHILD + """
print(child(CODE))
print(child("import sys; print(sys.modules['sitecustomize'].__file__)"))
""", env=env)
    words = ["the", "other", "one", "sitecustomize"]
    assert out == [*words, *words, "tidewire", *words, str(other / "sitecustomize.py")]
    # One that fails is reported as ever.
    (other / "sitecustomize.py").write_text("import no_such_module\n")
    out = script(tmp_path, CHILD + """
print(subprocess.run([sys.executable, "-c", "pass"], capture_output=True, text=True).stderr)
""", env=env)
    assert " ".join(out).startswith("Error in sitecustomize; set PYTHONVERBOSE for traceback: "
                                    "ModuleNotFoundError: No module named 'no_such_module'")


def test_children_that_are_not_reached(tmp_path):
    """Isolated ones, and those with an environment of their own."""
    assert script(tmp_path, CHILD + """
print(child(CODE, "-I") if not os.environ.get("PYTHONPATH", "").count(os.pathsep) else "asyncio")
print(child(CODE, PYTHONPATH=os.pathsep.join(sys.path[1:])))
""") == ["asyncio", "asyncio"]


def test_no_children_within_a_child(tmp_path):
    """--no-children undoes what an outer ``python -m tidewire`` has set up."""
    assert script(tmp_path, CHILD + """
print(subprocess.run([sys.executable, "-m", "tidewire", "--no-children", "-c",
    "import subprocess, sys; print(subprocess.run([sys.executable, '-c', %r],"
    " capture_output=True, text=True).stdout)" % CODE], capture_output=True, text=True).stdout)
""", "--uvloop") == ["asyncio"]


def test_program_of_another_python(tmp_path):
    """What tidewire is not built for runs as it would otherwise, without a word."""
    suffix = "import importlib.machinery as m; print(m.EXTENSION_SUFFIXES[0])"
    package = pathlib.Path(tidewire.__file__).parent
    for name in [*glob.glob("/root/.pyenv/versions/*/bin/python3"), "/usr/bin/python3"]:
        ended = subprocess.run([name, "-c", suffix], capture_output=True, text=True)
        if ended.returncode == 0 and not (package / f"_core{ended.stdout.strip()}").exists():
            break
    else:
        pytest.skip("no other Python here")
    assert script(tmp_path, f"""
        import subprocess
        done = subprocess.run([{name!r}, "-c", "import asyncio; l = asyncio.new_event_loop();"
                               "l.close(); print(type(l).__module__)"],
                              capture_output=True, text=True)
        print(done.stdout, done.stderr)
    """) == ["asyncio.unix_events"]


def test_extension_that_does_not_load_is_told(tmp_path):
    """A child that should run on tidewire and cannot says so."""
    (tmp_path / "tidewire").mkdir()
    (tmp_path / "tidewire" / "__init__.py").write_text("raise ImportError('broken on purpose')\n")
    out = script(tmp_path, CHILD + f"""
done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True,
                      env={{**os.environ, "PYTHONPATH": os.environ["PYTHONPATH"]
                            + os.pathsep + {str(tmp_path)!r}}})
print(done.stdout, done.stderr)
""")
    text = " ".join(out)
    assert text.startswith("asyncio ")
    assert ("RuntimeWarning: this process runs on asyncio's own loop, as tidewire cannot be "
            "imported: broken on purpose") in text


# -- what is asyncio's own ------------------------------------------------------

def test_create_unix_server_is_asyncios(tmp_path):
    """It takes what this Python's takes, such as mode= where that is there."""
    theirs = asyncio.unix_events._UnixSelectorEventLoop.create_unix_server
    assert inspect.signature(tidewire.Loop.create_unix_server) == inspect.signature(theirs)
    if "mode" not in inspect.signature(theirs).parameters:
        return

    async def main():
        path = str(tmp_path / "socket")
        server = await asyncio.start_unix_server(lambda r, w: w.close(), path, mode=0o600)
        assert os.stat(path).st_mode & 0o777 == 0o600
        server.close()

    tidewire.run(main())
