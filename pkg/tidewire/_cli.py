"""The command line of ``python -m tidewire``; each command is in a module of its own."""

import sys
from dataclasses import dataclass, field

USAGE = """\
usage: python -m tidewire [OPTIONS] SCRIPT [ARGS...]      run a program on tidewire
       python -m tidewire [OPTIONS] -m MODULE [ARGS...]   run a module on tidewire
       python -m tidewire [OPTIONS] -c CODE [ARGS...]     run a line of code on tidewire
       python -m tidewire [OPTIONS] - [ARGS...]           run the program on standard input
       python -m tidewire info [--json]                   print versions, settings, build flags
       python -m tidewire bench [OPTIONS]                 compare event loops on this machine
       python -m tidewire top [PID]                       what the loops of a process do
       python -m tidewire metrics [--listen PORT]         the same for Prometheus
       python -m tidewire --version

options: --uvloop        `import uvloop` finds tidewire, too, with uvloop's names
         --no-children   do not run the program's child processes on tidewire
         those of Python itself: -u, -X dev, -W error, -O and so on
"""

# Python's own, as it is started again with them.
_FLAGS = "bBdEiIOPqRsSuv"
_WITH_VALUE = "WX"


@dataclass
class Command:
    """A program to run: its kind is "script", "-m", "-c" or "-"."""

    kind: str = ""
    name: str = ""
    args: list[str] = field(default_factory=list)
    python: list[str] = field(default_factory=list)     # options of the interpreter's own
    children: bool = True
    uvloop: bool = False

    def argv(self) -> list[str]:
        """The command line without the interpreter's options."""
        ours = ["--uvloop"] * self.uvloop + ["--no-children"] * (not self.children)
        kind = [self.kind] if self.kind in ("-m", "-c") else []
        return [*ours, *kind, self.name, *self.args]


class UsageError(Exception):
    pass


def parse(argv: list[str]) -> Command:
    """Read the command line as Python reads its own."""
    command, rest = Command(), list(argv)
    while rest and not command.kind:
        word = rest.pop(0)
        if word == "--uvloop":
            command.uvloop = True
        elif word == "--no-children":
            command.children = False
        elif word == "--check-hash-based-pycs":
            command.python += [word, _value(word, rest)]
        elif word.startswith("--"):
            raise UsageError(f"unknown option {word}")
        elif word == "-" or not word.startswith("-"):
            command.kind, command.name = "-" if word == "-" else "script", word
        else:
            _parse_letters(command, word, rest)
    if not command.kind:
        raise UsageError("no program was named: a script, -m MODULE, -c CODE, or -")
    command.args = rest
    return command


def _parse_letters(command: Command, word: str, rest: list[str]) -> None:
    """Combined options, such as -um: the last one may have a value."""
    for at, letter in enumerate(word[1:], 1):
        option, value = f"-{letter}", word[at + 1:]
        if letter in "mc":
            command.kind, command.name = option, value or _value(option, rest)
            return
        if letter in _WITH_VALUE:
            command.python += [option, value or _value(option, rest)]
            return
        if letter not in _FLAGS:
            raise UsageError(f"unknown option {option}"
                             + (f" in {word}" if len(word) > 2 else ""))
        command.python.append(option)


def _value(option: str, rest: list[str]) -> str:
    if not rest:
        raise UsageError(f"argument expected for the {option} option")
    return rest.pop(0)


def main(argv: list[str]) -> int:
    """Run one command; the result is for sys.exit()."""
    match argv:
        case ["-h" | "--help"]:
            print(USAGE, end="")
            return 0
        case ["-V" | "--version"]:
            from tidewire import __version__

            print("tidewire", __version__)
            return 0
        case ["info", *rest]:
            from tidewire import _info

            return _info.main(rest)
        case ["bench", *rest]:
            from tidewire import _bench

            return int(_bench.main(rest))
        case ["top", *rest]:
            from tidewire import _top

            return _top.top(rest)
        case ["metrics", *rest]:
            from tidewire import _top

            return _top.metrics(rest)
    try:
        command = parse(argv)
    except UsageError as exc:
        print(f"{USAGE}\npython -m tidewire: error: {exc}", file=sys.stderr)
        return 2
    from tidewire import _program

    if command.python:
        _program.restart(command.python, command.argv())
    return _program.run(command.kind, command.name, command.args,
                        children=command.children, uvloop=command.uvloop)
