"""The proofs: CBMC on csrc/base, Spin on models of what threads and processes do together.

    python tests/proofs/prove.py [NAME...]        make proofs; NAME: ring, ring:push, wakeup, ...

Each proof must hold, and must fail once its property is broken: a proof says in a comment how to
break the code (or the model), and that is tried too.

A harness (cbmc/NAME.c) includes the file that it is about, and the stub of Python.h in cbmc/stub.  Its
comments have these lines:

    small: FILE: OLD ==> NEW       a large constant made small, for all proofs of the file
    unwind: N                     how often a loop may go round (34)
    proof: FUNCTION: WHAT         a proof, and what it says
    broken: FILE: OLD ==> NEW      then it fails

A model (spin/NAME.pml) has "proof:" and "broken:" lines likewise: a proof is a property of it (its
name, or "safety"), and the file of "broken" is the model itself.

CBMC= and SPIN= name the programs (apt-get install cbmc spin).  Where there is no cbmc, as in Debian 12,
DEBIAN=folder names a Debian that has it (tools/in-debian), made by

    debootstrap --variant=minbase --include=cbmc,gcc trixie build/debian-trixie
"""
import concurrent.futures
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "proofs"
UNWIND = 34
LIMIT = float(os.environ.get("TW_PROOF_SECONDS", 3600))
CHECKS = shlex.split("""
    --bounds-check --pointer-check --pointer-overflow-check --signed-overflow-check --div-by-zero-check
    --undefined-shift-check --malloc-may-fail --malloc-fail-null --memory-leak-check
    --unwinding-assertions --slice-formula
""")


def program(name):
    """The command of a program, as a list."""
    if os.environ.get(name.upper()):
        return shlex.split(os.environ[name.upper()])
    if shutil.which(name):
        return [name]
    if os.environ.get("DEBIAN"):
        return [str(ROOT / "tools" / "in-debian"), name]
    raise SystemExit(f"{name} is missing: see the head of {__file__}")


class Change:
    """One text in one file exchanged for another."""

    def __init__(self, line, default=None):
        if default is None:
            self.file, line = line.split(": ", 1)
        else:
            self.file = default
        match = re.fullmatch(r"(.*?) ==>(?: (.*))?", line)
        self.old, self.new = ((part or "").replace("\\n", "\n") for part in match.group(1, 2))

    def apply(self, text):
        if text.count(self.old) != 1:
            raise SystemExit(f"{self.file} has {self.old!r} {text.count(self.old)} times, not once")
        return text.replace(self.old, self.new)

    def __str__(self):
        return f"{self.old!r} -> {self.new!r}"


def remarks(path):
    """The lines "word: text" of a file's comments, in order; a text may go on in the next lines."""
    for comment in re.findall(r"/\*(.*?)\*/", path.read_text(), re.DOTALL):
        found = []
        for line in comment.splitlines():
            match = re.match(r"\s*(small|unwind|proof|broken): ?(.*)", line)
            if match:
                found.append([match[1], match[2].strip()])
            elif found and line.strip():
                found[-1][1] += " " + line.strip()
        yield from found


class Proof:
    def __init__(self, path, name, says, small, unwind):
        self.path, self.name, self.says = path, name, says
        self.small, self.unwind, self.broken = small, unwind, []

    @property
    def title(self):
        return f"{self.path.stem}:{self.name}"

    def place(self, number):
        place = BUILD / f"{self.path.stem}-{self.name}-{number}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        return place


class Harness(Proof):
    def check(self, number, changes):
        """True: it holds.  False: a property fails."""
        place = self.place(number)
        shutil.copytree(ROOT / "csrc" / "base", place / "csrc" / "base")
        for change in self.small + changes:
            file = place / change.file
            file.write_text(change.apply(file.read_text()))
        command = [*program("cbmc"), *CHECKS, "--unwind",
                   str(self.unwind), "--function", self.name, "-I", str(place / "csrc"), "-I",
                   str(HERE / "cbmc" / "stub"), "-D_GNU_SOURCE", "-D__CPROVER", str(self.path)]
        ended = run(command)
        (place / "log").write_text(shlex.join(command) + "\n" + ended.stdout + ended.stderr)
        if ended.returncode not in (0, 10):
            raise SystemExit(f"{self.title}: cbmc stopped ({place / 'log'})\n"
                             f"{ended.stdout[-2000:]}{ended.stderr[-2000:]}")
        return ended.returncode == 0


class Model(Proof):
    def check(self, number, changes):
        place = self.place(number)
        _, text = self.path.read_text().split("*/\n", 1)     # without the remarks
        for change in changes:
            text = change.apply(text)
        (place / "model.pml").write_text(text)
        prove = [] if self.name == "safety" else ["-N", self.name]
        claims = self.name != "safety"
        compiled = run([*program("spin"), "-a", "model.pml"], place)
        built = run(["cc", "-O2", "-w", *(["-DNFAIR=3"] if claims else ["-DSAFETY", "-DNOCLAIM"]),
                     "-o", "pan", "pan.c"], place)
        ended = run(["./pan", "-m1000000", *(["-a", "-f", *prove] if claims else [])], place)
        log = compiled.stdout + compiled.stderr + built.stderr + ended.stdout + ended.stderr
        (place / "log").write_text(log)
        match = re.search(r"errors: (\d+)", ended.stdout)
        if not match or "max search depth too small" in ended.stdout:
            raise SystemExit(f"{self.title}: spin stopped ({place / 'log'})\n{log[-2000:]}")
        self.states = int(float(re.search(r"([\d.e+]+) states, stored", ended.stdout)[1]))
        return match[1] == "0"


def run(command, folder=None):
    """Ended, or killed when the time is over."""
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"not done in {LIMIT} s: {shlex.join(command)}")


def read(path):
    kind = Harness if path.suffix == ".c" else Model
    proofs, small, unwind = [], [], UNWIND
    for word, text in remarks(path):
        if word == "small":
            small.append(Change(text))
        elif word == "unwind" and proofs:
            proofs[-1].unwind = int(text)
        elif word == "unwind":
            unwind = int(text)
        elif word == "proof":
            name, says = text.split(": ", 1)
            proofs.append(kind(path, name, says, small, unwind))
        else:
            proofs[-1].broken.append(Change(text, None if kind is Harness else path.name))
    return proofs


def attempt(proof, number, change):
    start = time.monotonic()
    holds = proof.check(number, [change] if change else [])
    return holds == (change is None), time.monotonic() - start


def main():
    paths = sorted((HERE / "cbmc").glob("*.c")) + sorted((HERE / "spin").glob("*.pml"))
    proofs = [proof for path in paths for proof in read(path)]
    if sys.argv[1:]:
        proofs = [p for p in proofs if p.path.stem in sys.argv[1:] or p.title in sys.argv[1:]]
    for proof in proofs:
        if not proof.broken:
            raise SystemExit(f"{proof.title}: nothing shows that it can fail")
    bad = broken = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        tries = [(proof, change, pool.submit(attempt, proof, number, change)) for proof in proofs
                 for number, change in enumerate([None, *proof.broken])]
        for proof, change, done in tries:
            good, seconds = done.result()
            bad += not good
            broken += change is not None
            what = proof.says if change is None else f"    and fails with {change}"
            print(f"{'ok    ' if good else 'WRONG '} {seconds:6.1f} s  {proof.title:22} {what}",
                  flush=True)
    print(f"{len(proofs)} proofs, each of which fails when it is broken ({broken} ways)"
          if not bad else f"{bad} are wrong; the logs are in {BUILD}")
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
