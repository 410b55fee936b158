"""The rules of the C code that a program can check; CONTRIBUTING.rst explains them.

A statement that must break a rule says so, and why: ``/* allow: the reason */``.
"""

import collections
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
ROOMS = {"base": 0, "core": 1, "net": 2, "tls": 3, "ops": 4}
TOP = 5                 # csrc/*.c: the module and the loop's method table

FILES = sorted(CSRC.rglob("*.[ch]"))
IDS = [str(path.relative_to(CSRC)) for path in FILES]

MAX_FILE, MAX_FUNCTION, MEDIAN_FUNCTION = 600, 60, 11

BANNED = {
    r"\b(v?sprintf|strcpy|strcat|strtok|gets|alloca|abort|exit|system)\s*\(": "unsafe",
    r"\bPyGILState_": "the GIL is given and taken back in one place, by thread state",
    r"\b(uv_backend_timeout)\b": "it says 0 with new watchers, and uv_run then blocks",
    r"\buv_(tcp|udp|pipe|stream|spawn|process|fs|getaddrinfo|queue_work)_?\w*\s*\(":
        "libuv is the selector, not the dispatcher",
}
CALLS_PYTHON = re.compile(
    r"\bPyObject_(Call(?!Finalizer)\w*|Vectorcall\w*|GetAttr\w*|SetAttr\w*|GetItem|SetItem)\s*\(|\bPyIter_Next\s*\(")

each_file = pytest.mark.parametrize("path", FILES, ids=IDS)


def room(path):
    parts = path.relative_to(CSRC).parts
    return ROOMS[parts[0]] if len(parts) > 1 else TOP


def code_lines(path):
    """(number, line) without comments, string literals, and statements with "allow" in them."""
    text = path.read_text()

    def blank(match):
        return re.sub(r"[^\n]", " ", match[0])

    plain = re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.DOTALL)
    allowed = set()
    for match in re.finditer(r"/\* allow\b", text):
        # The statement: from the end of the one before to its semicolon (or, for a comment
        # behind the semicolon, to the end of the line).
        line_start = text.rfind("\n", 0, match.start()) + 1
        behind = plain[line_start:match.start()].rstrip().endswith((";", "{"))
        end = match.start() if behind else plain.find(";", match.start())
        until = plain.rfind(";", 0, match.start()) if behind else match.start()
        start = max(plain.rfind(mark, 0, until) for mark in ";{}")
        first = text.count("\n", 0, start + 1) + 1
        allowed |= set(range(first, text.count("\n", 0, end) + 2))
    return [(number, line) for number, line in enumerate(plain.splitlines(), 1)
            if number not in allowed]


def functions(path):
    """(name, first line, length) of each function, by PEP 7's braces in the first column."""
    lines = path.read_text().splitlines()
    start = None
    for i, line in enumerate(lines):
        if line == "{":
            start = i
        elif line == "}" and start is not None:
            head = next((lines[k] for k in range(start - 1, max(-1, start - 12), -1)
                         if re.match(r"\w+\(", lines[k])), "?(")
            yield head.split("(")[0], start + 1, i - start + 1
            start = None


@each_file
def test_arrow_rule(path):
    """A file includes headers of its own room, or of a room with a lower number."""
    for header in re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE):
        included = CSRC / header
        assert included.exists(), f"{header}: includes are written from csrc/"
        assert room(included) <= room(path), f"{header} is of a higher room"


@each_file
def test_own_header_first(path):
    own = path.with_suffix(".h")
    if path.suffix == ".c" and own.exists():
        first = re.search(r"^#include .*", path.read_text(), re.MULTILINE)
        assert first[0] == f'#include "{own.relative_to(CSRC)}"'


@each_file
def test_headers(path):
    if path.suffix == ".h":
        text = path.read_text()
        assert "#pragma once" in text
        assert text.startswith("/*"), "a header begins with its essay"


@each_file
def test_no_included_source(path):
    assert not re.search(r'#include\s+"[^"]+\.c"', path.read_text())


@each_file
def test_banned_calls(path):
    bad = [f"{path.name}:{number}: {line.strip()}  ({why})"
           for number, line in code_lines(path)
           for pattern, why in BANNED.items() if re.search(pattern, line)]
    assert not bad, "\n".join(bad)


@each_file
def test_one_door_to_python(path):
    """User code is called from core/call.c and from nowhere else."""
    if path == CSRC / "core" / "call.c":
        return
    bad = [f"{path.name}:{number}: {line.strip()}" for number, line in code_lines(path)
           if CALLS_PYTHON.search(line)]
    assert not bad, "\n".join(bad)


@each_file
def test_version_tests_stand_in_one_file(path):
    if path != CSRC / "base" / "compat.h":
        assert not [line for _, line in code_lines(path) if "PY_VERSION_HEX" in line]


# Where the platform may be asked for, and calls stand that POSIX lacks.
PLATFORM_FILES = {"base/sys.h", "base/sys.c", "base/compat.h",
                  "core/poller.c", "core/poller_epoll.c", "core/poller_uv.c",
                  "core/uv_loop.c", "core/probes.h"}
NOT_THE_PLATFORM = re.compile(r"TW_BUILD_FLAGS|TW_DEBUG|PY_SSIZE_T_CLEAN")
NOT_POSIX = re.compile(
    r"\b(accept4|dup3|epoll_\w+|eventfd|pidfd_open|pipe2|recvmmsg|sendfile|sendmmsg|syscall|waitid)"
    r"\s*\(|\b(MSG_NOSIGNAL|SOCK_NONBLOCK|SOCK_CLOEXEC|SO_DOMAIN|SO_PROTOCOL|UDP_SEGMENT)\b")


@each_file
def test_the_platform_is_asked_for_in_one_place(path):
    if str(path.relative_to(CSRC)) in PLATFORM_FILES:
        return
    bad = [f"{path.name}:{number}: {line.strip()}" for number, line in code_lines(path)
           if (re.match(r"\s*#\s*(if|ifdef|ifndef|elif)\b", line)
               and not NOT_THE_PLATFORM.search(line)) or NOT_POSIX.search(line)]
    assert not bad, "\n".join(bad)


@each_file
def test_length(path):
    assert len(path.read_text().splitlines()) <= MAX_FILE
    long = [f"{name} (line {line}): {length} lines" for name, line, length in functions(path)
            if length > MAX_FUNCTION]
    assert not long, "\n".join(long)


def test_most_functions_are_short():
    lengths = [length for path in FILES for _, _, length in functions(path)]
    assert statistics.median(lengths) <= MEDIAN_FUNCTION


@each_file
def test_layout(path):
    """PEP 7: 79 columns, no tabs, nothing after the end of a line."""
    bad = [number for number, line in enumerate(path.read_text().splitlines(), 1)
           if len(line) > 79 or "\t" in line or line != line.rstrip()]
    assert not bad


def test_local_names_are_unique():
    """A breakpoint, a profile, and a search find one function by its name."""
    files = collections.defaultdict(set)
    for path in FILES:
        code = "\n".join(line for _, line in code_lines(path))
        names = re.findall(r"^static [^;{}=()]*?\b(\w+)\(", code, re.MULTILINE)
        if path.suffix == ".c":
            names += set(re.findall(r"^#define (\w+)", code, re.MULTILINE)) - {"X"}
        for name in names:
            files[name].add(path.name)
    repeated = {name: sorted(where) for name, where in files.items() if len(where) > 1}
    assert not repeated


def test_every_setup_is_called():
    text = {path: "\n".join(line for _, line in code_lines(path)) for path in FILES}
    defined = {name for path, code in text.items() if path.suffix == ".c"
               for name in re.findall(r"^(tw_\w+_setup)\(", code, re.MULTILINE)}
    everything = "\n".join(code for path, code in text.items() if path.suffix == ".c")
    unused = {name for name in defined if not re.search(rf"(?<!^){name}\b", everything, re.M)}
    assert not unused


def test_each_file_has_its_line_in_the_docs():
    process = subprocess.run([sys.executable, ROOT / "tools" / "rooms.py", "--check"],
                             capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_each_file_says_what_it_is():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import rooms
    finally:
        del sys.path[0]
    mute = [names for name in rooms.ROOMS for names, what in rooms.files(name).values()
            if not what]
    assert not mute


def test_map_of_the_code():
    """csrc/README.rst says where things are: each function is in the file named before it."""
    text = " ".join((CSRC / "README.rst").read_text().split())
    places = re.findall(r"``(\w+/\w+\.[ch])``", text)
    functions = re.findall(r"``(\w+/\w+\.[ch])``,\s+``(\w+)\(\)``", text)
    assert len(functions) > 8
    assert not [place for place in places if not (CSRC / place).is_file()]
    assert not [(place, name) for place, name in functions
                if not re.search(rf"^(static .*)?{name}\(", (CSRC / place).read_text(), re.MULTILINE)]


LONG_FUNCTION = "static void\nmany_%d(void)\n{\n" + "    ;\n" * MAX_FUNCTION + "}\n"
# A rule's test, a file, and a text that breaks the rule in it.
BROKEN = [
    (test_arrow_rule, "base/bad.h", '#include "core/bad.h"\n'),
    (test_own_header_first, "core/bad.c", '#include "base/bad.h"\n#include "core/bad.h"\n'),
    (test_headers, "core/bad.h", "/* An essay. */\n"),
    (test_headers, "core/bad.h", "#pragma once\n"),
    (test_no_included_source, "core/bad.c", '#include "core/other.c"\n'),
    (test_banned_calls, "core/bad.c", "    sprintf(p, text);\n"),
    (test_banned_calls, "core/bad.c", "    uv_tcp_init(loop, tcp);\n"),
    (test_one_door_to_python, "core/bad.c", "    PyObject_CallNoArgs(f);\n"),
    (test_one_door_to_python, "core/bad.c", "    x(); /* allow: this */\n    PyIter_Next(i);\n"),
    (test_version_tests_stand_in_one_file, "core/bad.c", "#if PY_VERSION_HEX > 3\n#endif\n"),
    (test_the_platform_is_asked_for_in_one_place, "core/bad.c", "#ifdef __linux__\n#endif\n"),
    (test_the_platform_is_asked_for_in_one_place, "core/bad.c", "    accept4(fd, p, n, 0);\n"),
    (test_length, "core/bad.c", "\n" * (MAX_FILE + 1)),
    (test_length, "core/bad.c", LONG_FUNCTION % 1),
    (test_most_functions_are_short, "core/bad.c", LONG_FUNCTION % 1),
    (test_layout, "core/bad.c", "/*" + "x" * 78 + "*/\n"),
    (test_layout, "core/bad.c", "\tx();\n"),
    (test_layout, "core/bad.c", "    x(); \n"),
    (test_local_names_are_unique, "net/bad.c", "static void\nsame(void)\n{\n}\n"),
    (test_every_setup_is_called, "core/bad.c", "tw_status\ntw_bad_setup(void)\n{\n}\n"),
    (test_map_of_the_code, "README.rst", "``core/bad.c``, ``nobody()``\n" * 9),
]


@pytest.mark.parametrize(("rule", "name", "text"), BROKEN,
                         ids=[f"{rule.__name__}-{n}" for n, (rule, *_) in enumerate(BROKEN)])
def test_each_rule_can_fail(rule, name, text, tmp_path, monkeypatch):
    others = {"base/bad.h": "", "core/bad.h": "", "core/bad.c": "", "core/other.c": "",
              "base/same.c": "static void\nsame(void)\n{\n}\n"}
    for other, content in {**others, name: text}.items():
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_text(content)
    monkeypatch.setitem(globals(), "CSRC", tmp_path)
    monkeypatch.setitem(globals(), "FILES", sorted(tmp_path.rglob("*.[ch]")))
    arguments = [tmp_path / name] if rule.__code__.co_argcount else []
    with pytest.raises(AssertionError):
        rule(*arguments)


def test_each_rule_of_this_file_is_tried():
    rules = {name for name in globals() if name.startswith("test_")}
    tried = {rule.__name__ for rule, *_ in BROKEN}
    assert rules - tried == {"test_each_rule_can_fail", "test_each_rule_of_this_file_is_tried",
                             # These run tools/rooms.py on the tree.
                             "test_each_file_has_its_line_in_the_docs",
                             "test_each_file_says_what_it_is"}
