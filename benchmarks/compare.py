#!/usr/bin/env python3
"""Two commits side by side: ``compare.py A B [options of run.py]``.

Each is built in a work tree of its own, which is removed afterwards; ratios
are B's to A's.
"""
import contextlib
import pathlib
import subprocess
import sys
import tempfile

from tide_bench import ROOT, cli


def git(*args):
    return subprocess.check_output(["git", "-C", str(ROOT), *args], text=True).strip()


@contextlib.contextmanager
def built(commit):
    """The package's directory of a commit, built in place."""
    with tempfile.TemporaryDirectory(prefix="tide-compare-") as directory:
        tree = pathlib.Path(directory) / "tree"
        git("worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            print(f"building {commit}", file=sys.stderr)
            subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
                           cwd=tree, check=True, stdout=subprocess.DEVNULL)
            yield tree / "pkg"
        finally:
            git("worktree", "remove", "--force", str(tree))


def main(argv):
    if len(argv) < 2 or argv[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    names = [f"{side}:{git('rev-parse', '--short', commit)}"
             for side, commit in zip("AB", argv[:2], strict=True)]
    with built(argv[0]) as first, built(argv[1]) as second:
        loops = ",".join(f"{name}=tidewire:new_event_loop@{path}"
                         for name, path in zip(names, (first, second), strict=True))
        return cli.main(["--loops", loops, "--base", names[0], "--ours", names[1], *argv[2:]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
