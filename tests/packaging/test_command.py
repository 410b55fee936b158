"""``python -m tidewire``: programs run unchanged, info, usage."""

import json
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
    assert "can't open file 'nowhere.py'" in process.stderr
    process = command("-m", "no_such_module", cwd=tmp_path)
    assert process.returncode == 1
    assert process.stderr.strip().endswith("No module named no_such_module")
    assert "Traceback" not in process.stderr


def test_info():
    process = command("info", "--json")
    info = json.loads(process.stdout)
    assert info["tidewire"] == tidewire.__version__
    assert info["python"].startswith("CPython %d.%d.%d" % sys.version_info[:3])
    text = command("info").stdout
    for name in ("libuv", "openssl"):
        assert name in text.lower()
    assert all(line.split(maxsplit=1)[0] in info for line in text.splitlines())


def test_usage():
    for args in ([], ["--nonsense"], ["-m"]):
        process = command(*args)
        assert (process.returncode, process.stdout) == (2, "")
        assert process.stderr.startswith("usage: python -m tidewire")
    assert command("--help").stdout.startswith("usage: python -m tidewire")
    assert command("--version").stdout == f"tidewire {tidewire.__version__}\n"
