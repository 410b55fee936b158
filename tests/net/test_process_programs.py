"""Programs through pipes, and the options that Popen takes."""
import asyncio
import asyncio.subprocess
import gzip
import os
import random
import shutil
import subprocess
import sys

import pytest

from net.processkit import Child, no_children_left, spawn  # noqa: F401
import support

PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL

# A child that starts fast: no site, no environment, no warnings.
PYTHON = (sys.executable, "-I", "-S", "-c")


# -- Popen's side ---------------------------------------------------------------

def test_errors_of_popen(loop, run):
    async def main():
        with pytest.raises(FileNotFoundError):
            await spawn("/no/such/program")
        with pytest.raises(PermissionError):
            await spawn("/etc/passwd")
        with pytest.raises(NotADirectoryError):
            await spawn("true", cwd="/etc/passwd")
        with pytest.raises(TypeError):
            await spawn("true", no_such_option=1)
        with pytest.raises(TypeError):
            await spawn(7)
        with pytest.raises(ValueError):
            await spawn("true", universal_newlines=True)
        with pytest.raises(ValueError):
            await spawn("true", bufsize=10)
        with pytest.raises(ValueError):
            await loop.subprocess_exec(Child, "true", shell=True)
        with pytest.raises(ValueError):
            await loop.subprocess_shell(Child, ["true"])
        with pytest.raises(ValueError):
            await spawn("tr\0ue")

    run(main())


def test_options_of_popen(run, tmp_path):
    async def main():
        program = ("import os, sys; print(os.getcwd(), os.environ.get('TW'), "
                   "os.getsid(0) == os.getpid(), os.umask(0))")
        child = await spawn(*PYTHON, program, cwd=tmp_path, env={"TW": "yes"},
                            start_new_session=True, umask=0o27)
        await child.done
        assert child.data == {1: f"{tmp_path} yes True {0o27}\n".encode(),
                              2: b""}
        child.transport.close()
        child = await spawn("true", env=os.environ, close_fds=True,
                            restore_signals=True, process_group=0, pipesize=8192)
        await child.done
        child.transport.close()

    run(main())


def test_user_and_group(run):
    if os.getuid() != 0:
        pytest.skip("for root")

    async def main():
        child = await spawn("id", "-u", user=65534, group=65534, extra_groups=[])
        await child.done
        assert child.data[1] == b"65534\n"
        child.transport.close()

    run(main())


def test_stdin_can_be_opened_again(run):
    """It is a pipe, not a socket: /dev/stdin works."""
    async def main():
        child = await spawn("sh", "-c", "cat /dev/stdin")
        stdin = child.transport.get_pipe_transport(0)
        stdin.write(b"again")
        stdin.write_eof()
        await child.done
        assert child.data == {1: b"again", 2: b""}
        child.transport.close()

    run(main())


def test_stderr_to_stdout_and_devnull(run):
    async def main():
        child = await spawn("sh", "-c", "echo a; echo b >&2", stdin=DEVNULL,
                            stderr=subprocess.STDOUT)
        await child.done
        assert child.data == {1: b"a\nb\n", 2: b""}
        child.transport.close()

    run(main())


def test_shell(loop, run):
    async def main():
        _, child = await loop.subprocess_shell(Child, "echo $((6 * 7)); exit 9")
        await child.done
        assert child.data[1] == b"42\n"
        assert child.transport.get_returncode() == 9
        child.transport.close()

    run(main())


# -- data -------------------------------------------------------------------------

@pytest.mark.timeout(90)
def test_hundred_children(run):
    """100 children at once, 1 MiB through each of them."""
    async def one(i):
        data = random.Random(i).randbytes(1 << 20)
        process = await asyncio.create_subprocess_exec(
            "cat", stdin=PIPE, stdout=PIPE)
        out, err = await process.communicate(data)
        assert err is None
        assert support.same(out, data)
        return process.returncode

    async def main():
        return await asyncio.gather(*map(one, range(100)))

    assert run(main(), timeout=60) == [0] * 100


@pytest.mark.skipif(sys.version_info < (3, 11, 7),
                    reason="asyncio.subprocess itself leaves an exception behind")
def test_stdin_closed_early(run):
    """The child does not read: writing ends without an error of ours."""
    async def main():
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", "exec <&-; echo closed; exit 4", stdin=PIPE, stdout=PIPE)
        out, _ = await process.communicate(b"x" * (8 << 20))
        assert out == b"closed\n"
        assert process.returncode == 4

    run(main())


def test_write_to_child_that_closed_stdin(run):
    async def main():
        child = await spawn("sh", "-c", "exec <&-; echo ready; sleep 1000")
        while not child.data[1]:
            await asyncio.sleep(0.001)
        stdin = child.transport.get_pipe_transport(0)
        while ("pipe lost", 0, None) not in child.events:
            await asyncio.sleep(0.001)
        assert stdin.is_closing()
        child.transport.close()
        await child.done

    run(main())


def program(name):
    return pytest.param(name, marks=pytest.mark.skipif(
        not shutil.which(name), reason=f"no {name} here"))


DATA = random.Random(1).randbytes(1 << 20) + b"text " * 500000

PROGRAMS = {
    "cat": (["cat"], lambda out: out == DATA),
    "gzip": (["gzip", "-1c"], lambda out: gzip.decompress(out) == DATA),
    "rev": (["tac", "-b"], None),
    "openssl": (["openssl", "base64", "-e"], None),
    "sort": (["sort"], None),
    "sha256sum": (["sha256sum"], None),
}


@pytest.mark.parametrize("name", [program(name) for name in PROGRAMS])
def test_real_programs(run, name):
    """What comes out is what subprocess.run() gives."""
    command, check = PROGRAMS[name]

    async def main():
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE)
        out, _ = await process.communicate(DATA)
        return process.returncode, out

    code, out = run(main(), timeout=25)
    assert code == 0
    if check is not None:
        assert check(out)
    else:
        known = subprocess.run(command, input=DATA, stdout=PIPE).stdout
        assert support.same(out, known)


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="no ssh-keygen here")
def test_ssh_keygen(run, tmp_path):
    """A dialogue: it asks for the file and the passphrase on its terminal."""
    key = tmp_path / "key"

    async def main():
        process = await asyncio.create_subprocess_exec(
            "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tide", "-f", key,
            stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
        assert await process.communicate() == (b"", b"")
        process = await asyncio.create_subprocess_exec(
            "ssh-keygen", "-y", "-f", "/dev/stdin", stdin=PIPE, stdout=PIPE)
        out, _ = await process.communicate(key.read_bytes())
        return out

    public = run(main()).split()[:2]
    assert public == (tmp_path / "key.pub").read_bytes().split()[:2]


def test_lines_back_and_forth(run):
    async def main():
        process = await asyncio.create_subprocess_exec(
            *PYTHON, "import sys\n"
            "for line in sys.stdin: print(int(line) + 1, flush=True)",
            stdin=PIPE, stdout=PIPE)
        for i in range(200):
            process.stdin.write(b"%d\n" % i)
            await process.stdin.drain()
            assert await process.stdout.readline() == b"%d\n" % (i + 1)
        process.stdin.close()
        assert await process.wait() == 0

    run(main())


def test_pausing_a_childs_output(run):
    """The limit of the StreamReader holds the child back."""
    async def main():
        process = await asyncio.create_subprocess_exec(
            "dd", "if=/dev/zero", "bs=65536", "count=64", "status=none",
            stdout=PIPE, limit=1024)
        await asyncio.sleep(0.05)
        assert process.returncode is None
        assert len(process.stdout._buffer) < 1 << 20
        out = await process.stdout.read(-1)
        assert len(out) == 4 << 20
        assert await process.wait() == 0

    run(main())
