"""How many mutants of csrc/ does the suite kill?

    python tests/mutation/mutate.py run [FILE-PREFIX...]      goes on where it was stopped
    python tests/mutation/mutate.py run --survivors [...]     those that survived, once more
    python tests/mutation/mutate.py report                    the share, and who survived

Each mutant (mutants.py) is compiled alone and linked with the objects of the others; then the tests
that run its line, by the record of a traced run of the suite (tests/coverage), run on it until one
fails: those of the file itself, then those of its room, then the others, of each the quickest first.
Last come those of its room that are newer than the record.
A failure counts if it comes again when that test runs alone; a crash counts, and so does a hang.
The first round has four seconds of tests for each mutant, the second twenty for those that are left,
the third a minute and a half; they are seconds of processor time.  All results are in
build/mutants/results.jsonl, one line for each try; a mutant's last line counts.

It reads csrc and tests of its own folder: run it in a copy of the tree that nobody edits.

A mutant does anything: with root the tests run in a process namespace of their own.
"""
import argparse
import gc
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import sysconfig

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

import mutants  # noqa: E402
import server  # noqa: E402
import selection  # noqa: E402

BUILD = ROOT / "build" / "mutants"
RESULTS = BUILD / "results.json"
ROUNDS = [4, 20, 90]    # seconds of tests
SEED = 19
RELEASE = re.compile(r"DECREF|CLEAR|SETREF|VISIT|[Ff]ree|[Rr]elease|_fini|_clear|_drop|close")


# -- compiling ----------------------------------------------------------------

class Compiler:
    """The extension without optimisation and assertions, one file of it exchanged."""

    def __init__(self, worker):
        self.place = BUILD / f"worker-{worker}"
        self.objects = BUILD / "objects"
        self.objects.mkdir(parents=True, exist_ok=True)
        package = self.place / "lib" / "tidewire"
        if package.exists():
            shutil.rmtree(package)
        shutil.copytree(ROOT / "pkg" / "tidewire", package,
                        ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        self.target = package / ("_core" + sysconfig.get_config_var("EXT_SUFFIX"))
        uv = subprocess.run(["pkg-config", "--cflags", "--libs", "libuv"], capture_output=True,
                            text=True)
        self.libs = [flag for flag in uv.stdout.split() if flag[:2] in ("-l", "-L")]
        self.command = [
            "cc", "-std=gnu11", "-D_GNU_SOURCE", "-fvisibility=hidden", "-fPIC", "-O0", "-w",
            "-DNDEBUG", "-DTW_HAVE_EPOLL=1", f"-DTW_HAVE_UV={int(uv.returncode == 0)}",
            '-DTW_BUILD_FLAGS="-O0"', f"-I{ROOT}/csrc", f"-I{sysconfig.get_path('include')}"]
        self.sources = sorted((ROOT / "csrc").glob("**/*.c"))
        if uv.returncode:
            self.sources = [s for s in self.sources if s.name != "poller_uv.c"]

    def object_of(self, source):
        return self.objects / (str(source.relative_to(ROOT)).replace("/", "-") + ".o")

    def compile(self, source, target):
        return subprocess.run([*self.command, "-c", str(source), "-o", str(target)],
                              capture_output=True).returncode == 0

    def compile_all(self):
        for source in self.sources:
            target = self.object_of(source)
            if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
                if not self.compile(source, target):
                    raise SystemExit(f"{source} does not compile")

    def link(self, instead=None, other=None):
        self.target.unlink(missing_ok=True)
        objects = [str(other if source == instead else self.object_of(source))
                   for source in self.sources]
        subprocess.run(["cc", "-shared", "-o", str(self.target), *objects, *self.libs], check=True)

    def build(self, mutant):
        """False: it is no C."""
        source = ROOT / mutant["file"]
        text = source.read_text()
        changed = self.place / source.name
        changed.write_text(text[:mutant["start"]] + mutant["new"] + text[mutant["end"]:])
        other = self.place / "mutant.o"
        if not self.compile(changed, other):
            return False
        if other.read_bytes() == self.object_of(source).read_bytes():
            return False
        self.link(source, other)
        return True


# -- one mutant ---------------------------------------------------------------

def poller_of(mutant):
    """The second poller's mutants are for tests that run on it."""
    return "libuv" if mutant["file"].endswith("poller_uv.c") else ""


class Judge:
    """A failure counts if it comes again when its test runs alone, and that test passes without the
    mutant.  A crash counts at once."""

    def __init__(self, compiler):
        self.server = server.Server(ROOT)
        self.lib = compiler.place / "lib"
        self.pristine = BUILD / "pristine"
        self.sound = {}

    def is_sound(self, test, poller):
        if (test, poller) not in self.sound:
            how = [self.server.run(self.pristine, [test], 10, poller)[0] for _ in range(2)]
            self.sound[test, poller] = how == [None, None]
        return self.sound[test, poller]

    def judge(self, tests, limit, poller):
        """(how the mutant was killed or None, by which test)."""
        tests = [name for name in tests if self.sound.get((name, poller), True)]
        while tests:
            how, test = self.server.run(self.lib, tests, limit, poller)
            if how is None:
                break
            if test is None:        # before any test: it cannot even be imported
                without = self.server.run(self.pristine, tests, limit, poller)
                if without == (how, None):
                    raise SystemExit(f"the tests do not run here: {how}")
                return how, None
            if how.startswith("crash") or (
                    self.server.run(self.lib, [test], 10, poller)[0] is not None
                    and self.is_sound(test, poller)):
                return how, test
            # One that the record does not know is named without its parameters.
            known = test if test in tests else test.split("[")[0]
            self.sound[known, poller] = self.sound.get((known, poller), True) and known == test
            tests = [name for name in tests if name != known]
        return None, None


def work(worker, todo, record, choosers, again):
    """`again`: names of mutants that survived and are tried once more."""
    compiler = Compiler(worker)
    judge = Judge(compiler)
    known = {name: old for name, old in record.all().items() if name not in again}
    for mutant, stage in todo:
        old = known.get(mutant["name"])
        if old and (old["killed"] or old["stage"] >= stage):
            continue
        result = {"stage": stage, "killed": None, "by": None, "kind": mutant["kind"],
                  "file": mutant["file"], "line": mutant["line"]}
        if not compiler.build(mutant):
            result["killed"] = "no C"
        else:
            poller = poller_of(mutant)
            chooser, releases = choosers[poller], bool(RELEASE.search(mutant["old"]))
            names, seconds = chooser.tests_of(mutant["file"], mutant["line"], ROUNDS[stage], releases)
            result["tests"] = len(names)
            if old:     # it survived those of the round before
                before, _ = chooser.tests_of(mutant["file"], mutant["line"], ROUNDS[stage - 1],
                                             releases)
                names = [name for name in names if name not in set(before)]
            if names:
                result["killed"], result["by"] = judge.judge(names, seconds, poller)
        record.put(mutant["name"], result)
        known[mutant["name"]] = result


class Record:
    """The results so far: a file that several workers append to."""

    def __init__(self):
        self.path = RESULTS.with_suffix(".jsonl")

    def all(self):
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return dict(map(json.loads, lines))

    def put(self, name, result):
        with open(self.path, "a") as out:
            out.write(json.dumps([name, result]) + "\n")


def run(args):
    compiler = Compiler(0)
    compiler.compile_all()
    compiler.link()
    shutil.rmtree(BUILD / "pristine", ignore_errors=True)
    shutil.copytree(compiler.place / "lib", BUILD / "pristine")
    choosers = {"": selection.Chooser(ROOT),
                "libuv": selection.Chooser(ROOT, "trace-libuv.jsonl")}
    chosen = mutants.choose(ROOT, args.files, args.count, args.seed)
    (BUILD / "chosen.json").write_text(json.dumps(chosen))
    again = set()
    if args.survivors:
        again = {name for name, old in Record().all().items() if old["killed"] is None}
        chosen = [mutant for mutant in chosen if mutant["name"] in again]
    random.Random(args.seed).shuffle(chosen)        # what is done at any time is a fair sample
    chosen = chosen[:args.first]
    todo = [(mutant, stage) for stage in range(args.rounds) for mutant in chosen]
    children = []
    gc.collect()
    gc.freeze()     # the tests collect often
    for worker in range(args.workers):
        pid = os.fork()
        if pid == 0:
            work(worker, todo[worker::args.workers], Record(), choosers, again)
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)


# -- the report ---------------------------------------------------------------

def reasons():
    """survivors.txt: a mutant's name, then an indented reason."""
    found, name = {}, None
    path = HERE / "survivors.txt"
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.startswith("    "):
            found[name] = (found.get(name, "") + " " + line.strip()).strip()
        elif line and not line.startswith("#"):
            name = line
    return found


def report(args):
    known = reasons()
    results = {name: r for name, r in Record().all().items() if r["killed"] != "no C"}
    rooms = {}
    for name, result in sorted(results.items()):
        room = result["file"].split("/")[1]
        row = rooms.setdefault(room, [0, 0, 0])
        row[0] += 1
        row[1] += result["killed"] is not None
        if result["killed"] is None:
            row[2] += name in known
            print(name, f"(line {result['line']}, {result.get('tests', 0)} tests)\n    ",
                  known.get(name, "-"))
    rooms["all"] = [sum(column) for column in zip(*rooms.values())]
    print(f"{'room':6} mutants  killed          survivors with a reason")
    for room, (count, killed, known_ones) in rooms.items():
        print(f"{room:6} {count:7} {killed:7} {100 * killed / count:5.1f} %  {known_ones}")
    RESULTS.write_text(json.dumps({"rooms": rooms, "mutants": results}, indent=1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["run", "report"])
    parser.add_argument("files", nargs="*")
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--survivors", action="store_true", help="only those, once more")
    parser.add_argument("--first", type=int, help="only so many of them, which are a fair sample")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    if args.what == "report":
        return report(args)
    if os.geteuid() == 0 and "TW_MUTATE_INSIDE" not in os.environ and shutil.which("unshare"):
        os.environ["TW_MUTATE_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
                              sys.executable, *sys.argv])
    run(args)


if __name__ == "__main__":
    main()
