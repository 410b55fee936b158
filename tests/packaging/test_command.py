"""``python -m tidewire``: programs run unchanged, info, usage."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

import tidewire

pytestmark = [pytest.mark.tidewire, pytest.mark.packaging]

PROGRAM = """
    import asyncio, json, sys

    async def main():
        return type(asyncio.get_running_loop()).__module__.split(".")[0]

    if __name__ == "__main__":
        print(json.dumps({
            "loop": asyncio.run(main()),
            "argv": sys.argv,
            "path0": sys.path[0],
            "main": sys.modules["__main__"].__dict__.get("main") is main,
            "file": __file__,
            "package": __package__,
        }))
        sys.exit(int(sys.argv[1]))
"""


def command(*args, options=(), **kwargs):
    return subprocess.run([sys.executable, *options, "-m", "tidewire", *map(str, args)],
                          capture_output=True, text=True, timeout=60, **kwargs)


def stock(*args, **kwargs):
    return subprocess.run([sys.executable, *map(str, args)],
                          capture_output=True, text=True, timeout=60, **kwargs)


def write(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def same_but_for_the_loop(ours, theirs):
    assert ours.returncode == theirs.returncode, ours.stderr
    ours, theirs = json.loads(ours.stdout), json.loads(theirs.stdout)
    assert (ours.pop("loop"), theirs.pop("loop")) == ("tidewire", "asyncio")
    assert ours == theirs


def test_script(tmp_path):
    script = write(tmp_path / "here" / "program.py", PROGRAM)
    args = ["5", "-m", "--version", "info"]
    same_but_for_the_loop(command(script, *args, cwd=tmp_path), stock(script, *args, cwd=tmp_path))


def test_script_by_relative_name(tmp_path):
    write(tmp_path / "program.py", PROGRAM)
    same_but_for_the_loop(command("program.py", 0, cwd=tmp_path),
                          stock("program.py", 0, cwd=tmp_path))


@pytest.mark.parametrize("name", ["program", "package.program", "package"])
def test_module(tmp_path, name):
    write(tmp_path / "program.py", PROGRAM)
    write(tmp_path / "package" / "__init__.py", "")
    write(tmp_path / "package" / "program.py", PROGRAM)
    write(tmp_path / "package" / "__main__.py", PROGRAM)
    same_but_for_the_loop(command("-m", name, 0, "-m", "x", cwd=tmp_path),
                          stock("-m", name, 0, "-m", "x", cwd=tmp_path))


def test_folder(tmp_path):
    write(tmp_path / "app" / "__main__.py", PROGRAM)
    same_but_for_the_loop(command(tmp_path / "app", 3), stock(tmp_path / "app", 3))


def test_no_warning_in_any_version(tmp_path):
    script = write(tmp_path / "program.py", """
        import asyncio
        async def main(): await asyncio.sleep(0)
        asyncio.run(main())
        with asyncio.Runner() as runner:
            runner.run(main())
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        print(type(loop).__module__)
    """)
    process = command(script, options=["-X", "dev", "-W", "error"])
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.startswith("tidewire")


@pytest.mark.skipif(sys.version_info < (3, 13), reason="3.13's name")
def test_asyncio_event_loop_is_ours(tmp_path):
    script = write(tmp_path / "program.py", """
        import asyncio, tidewire
        async def main(): return type(asyncio.get_running_loop()) is tidewire.Loop
        print(asyncio.run(main(), loop_factory=asyncio.EventLoop))
    """)
    assert command(script).stdout == "True\n"


def test_exception_and_exit(tmp_path):
    script = write(tmp_path / "program.py", """
        import asyncio, sys
        async def main():
            if sys.argv[1] == "raise":
                raise ValueError("from main")
            sys.exit("told to go")
        asyncio.run(main())
    """)
    process = command(script, "raise")
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == "ValueError: from main"
    process = command(script, "exit")
    assert (process.returncode, process.stderr) == (1, "told to go\n")


def test_missing_programs(tmp_path):
    process = command("nowhere.py", cwd=tmp_path)
    assert process.returncode == 2
    assert "can't open file 'nowhere.py': [Errno 2]" in process.stderr
    process = command("-m", "no_such_module", cwd=tmp_path)
    assert process.returncode == 1
    assert process.stderr.strip().endswith("No module named no_such_module")
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize("name", ["raise", "nested", "syntax", "interrupt"])
def test_tracebacks_are_the_programs_own(tmp_path, name):
    """The report and the exit status are those of ``python program.py``, to the letter."""
    script = write(tmp_path / "program.py", {
        "raise": "import asyncio\nasync def main(): raise ValueError('x')\nasyncio.run(main())\n",
        "nested": """
            def f():
                try:
                    {}["key"]
                except KeyError as exc:
                    raise OSError("outer") from exc
            f()
            """,
        "syntax": "def f(:\n    pass\n",
        "interrupt": "def f(): raise KeyboardInterrupt\nf()\n"}[name])
    for arguments in ([script], ["-m", "program"]):
        ours, theirs = command(*arguments, cwd=tmp_path), stock(*arguments, cwd=tmp_path)
        assert ours.stderr == theirs.stderr != ""
        assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)


def test_a_hook_of_the_program_gets_the_programs_frames(tmp_path):
    script = write(tmp_path / "program.py", """
        import sys, traceback
        def hook(kind, exc, tb):
            print([frame.name for frame in traceback.extract_tb(tb)], exc.__traceback__ is tb,
                  sys.excepthook is hook, sys.last_traceback is tb)
        sys.excepthook = hook
        1 / 0
    """)
    assert command(script).stdout == "['<module>'] True True True\n"


STATE = """
    import asyncio, json, sys
    async def main():
        return type(asyncio.get_running_loop()).__module__.split(".")[0]
    print(json.dumps({
        "loop": asyncio.run(main()), "argv": sys.argv, "path0": sys.path[0],
        "main": __name__, "package": __package__, "file": globals().get("__file__"),
        "flags": list(sys.flags), "warn": sys.warnoptions, "x": sys._xoptions,
        "hidden": [name for name in sys.path if "_children" in name]}))
"""


def test_code(tmp_path):
    code = textwrap.dedent(STATE)
    same_but_for_the_loop(command("-c", code, "a", "-m", cwd=tmp_path),
                          stock("-c", code, "a", "-m", cwd=tmp_path))
    same_but_for_the_loop(command("-c" + code, cwd=tmp_path), stock("-c" + code, cwd=tmp_path))
    ours, theirs = command("-c", "\n1 / 0"), stock("-c", "\n1 / 0")
    assert ours.stderr == theirs.stderr != ""
    assert ours.returncode == theirs.returncode == 1


def test_standard_input(tmp_path):
    text = textwrap.dedent(STATE)
    same_but_for_the_loop(command("-", "a", "-c", cwd=tmp_path, input=text),
                          stock("-", "a", "-c", cwd=tmp_path, input=text))


@pytest.mark.parametrize("options", [
    ["-u"], ["-X", "dev"], ["-Xdev"], ["-W", "error"], ["-OO", "-Wd"], ["-B", "-bb"], ["-P"],
    ["-X", "utf8=1", "-W", "default::UserWarning"]], ids=" ".join)
def test_options_of_the_interpreter(tmp_path, options):
    script = write(tmp_path / "program.py", STATE)
    same_but_for_the_loop(command(*options, script, 1, cwd=tmp_path),
                          stock(*options, script, 1, cwd=tmp_path))


def test_options_that_stand_together(tmp_path):
    write(tmp_path / "program.py", STATE)
    same_but_for_the_loop(command("-um", "program", 1, "-u", cwd=tmp_path),
                          stock("-um", "program", 1, "-u", cwd=tmp_path))
    code = textwrap.dedent(STATE)
    same_but_for_the_loop(command("-uBc", code, 1, cwd=tmp_path),
                          stock("-uBc", code, 1, cwd=tmp_path))


def test_options_of_both_interpreters_count(tmp_path):
    script = write(tmp_path / "program.py", "import sys; print(sys.flags.optimize, sys.flags.quiet)")
    assert command("--no-children", "-O", script, options=["-q"]).stdout == "1 1\n"


def test_info():
    process = command("info", "--json")
    info = json.loads(process.stdout)
    assert info["tidewire"] == tidewire.__version__
    assert info["python"].startswith("CPython %d.%d.%d" % sys.version_info[:3])
    text = command("info").stdout
    for name in ("libuv", "openssl"):
        assert name in text.lower()
    assert all(line.split(maxsplit=1)[0] in info for line in text.splitlines())


def test_info_shows_the_settings():
    env = {**os.environ, "TIDEWIRE_CORK": "Off", "TIDEWIRE_TLS": "nonsense", "TIDEWIRE_CROK": "0"}
    env.pop("TIDEWIRE_CHILD_WATCHER", None)
    info = json.loads(command("info", "--json", env=env).stdout)
    assert info["cork_setting"] == "off (TIDEWIRE_CORK=Off)"
    assert info["tls_setting"] == (
        "direct (TIDEWIRE_TLS='nonsense' is not known and has no effect; "
        "known are direct, memorybio)")
    assert info["child_watcher_setting"] == "pidfd (TIDEWIRE_CHILD_WATCHER is not set)"
    assert "poller_setting" in info
    assert "TIDEWIRE_CROK" in info["not_read"]


def test_info_without_ssl(tmp_path):
    write(tmp_path / "ssl.py", "raise ImportError('this Python has no ssl')")
    process = command("info", "--json", env={**os.environ, "PYTHONPATH": os.pathsep.join(
        [str(tmp_path), *(path for path in sys.path if path)])})
    assert process.returncode == 0, process.stderr
    info = json.loads(process.stdout)
    assert info["openssl"] == (
        "none, since Python's ssl module is missing (this Python has no ssl)")
    assert info["tls"] == "memorybio: there is no ssl module"


@pytest.mark.parametrize("args, message", [
    ([], "no program was named: a script, -m MODULE, -c CODE, or -"),
    (["-u"], "no program was named: a script, -m MODULE, -c CODE, or -"),
    (["--nonsense", "x.py"], "unknown option --nonsense"),
    (["-Q", "x.py"], "unknown option -Q"),
    (["-uQ", "x.py"], "unknown option -Q in -uQ"),
    (["-m"], "argument expected for the -m option"),
    (["-c"], "argument expected for the -c option"),
    (["-uc"], "argument expected for the -c option"),
    (["-X"], "argument expected for the -X option"),
    (["-W"], "argument expected for the -W option")])
def test_wrong_usage_says_what_is_wrong(args, message):
    process = command(*args)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith("usage: python -m tidewire")
    assert process.stderr.splitlines()[-1] == f"python -m tidewire: error: {message}"


def test_help_and_version():
    assert command("--help").stdout.startswith("usage: python -m tidewire")
    assert command("--version").stdout == f"tidewire {tidewire.__version__}\n"
