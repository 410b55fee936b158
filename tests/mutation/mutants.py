"""The mutants of csrc/: small wrong changes, one at a time.

A mutant replaces one operator or constant in a function's body, or deletes one statement.  Which
ones there are depends on the source alone; which of them are taken depends on a seed.

PEP 7 does the parsing: a body begins with a "{" and ends with a "}" in the first column, and an
operator with two operands has a space on both sides, which none with one operand has.
"""
import pathlib
import random
import re

OPERATORS = {
    "<": "<= >=", "<=": "< >", ">": ">= <=", ">=": "> <", "==": "!=", "!=": "==", "&&": "||",
    "||": "&&", "+": "-", "-": "+", "*": "+", "/": "*", "%": "*", "|": "&", "&": "|", "<<": ">>",
    ">>": "<<", "+=": "-= =", "-=": "+= =", "|=": "&= =", "&=": "|= =",
}
TOKEN = re.compile(r"(?<= )(<=|>=|==|!=|&&|\|\||<<|>>|\+=|-=|\|=|&=|[-+*/%|&<>])(?=\s)"
                   r"|(?P<step>\+\+|--)|(?P<word>\b(?:true|false|break|continue)\b)"
                   r"|(?P<not>(?<=[( ])!(?=[\w(]))|(?P<number>(?<![-\w.])\d+u?(?![\w.]))")
# Comments and strings must not be searched; they keep their length.
HIDDEN = re.compile(r'/\*(?s:.*?)\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|'
                    r'^#(?:[^\n]*\\\n)*[^\n]*$', re.MULTILINE)
BODY = re.compile(r"(?<=\)\n)\{\n(.*?)^\}", re.DOTALL | re.MULTILINE)
# A call, an assignment or a jump: a statement that may be deleted.
STATEMENT = re.compile(
    r"(?:(?<=[;{}])|(?<=:(?=\n)))\s+((?:\(void\))?[A-Za-z_*(][\w>.\[\]*()&+-]*"
    r"(?: (?:[-+|&*/]|<<|>>)?= [^;{}]+|\([^;{}]*\)|\+\+|--)?;|goto \w+;)")
NO_STATEMENT = re.compile(
    r"return\b|break|continue|assert\(|Py_UNREACHABLE|va_|[A-Z]\w+_ASSERT|else\b|case\b")


def hide(text):
    return HIDDEN.sub(lambda m: re.sub(r"[^\n]", "~" if m[0][0] == '"' else " ", m[0]), text)


def token_changes(match):
    kind, old = match.lastgroup, match[0]
    if kind == "step":
        return ["--" if old == "++" else "++"]
    if kind == "word":
        return {"true": ["false"], "false": ["true"], "break": [""], "continue": [""]}[old]
    if kind == "not":
        return [""]
    if kind == "number":
        unsigned = "u" * old.endswith("u")
        value = int(old.rstrip("u"))
        return [f"{value + 1}{unsigned}"] + ([f"{value - 1}{unsigned}"] if value else [])
    return OPERATORS[old].split()


def of_file(path, root):
    """All mutants of a file, in order."""
    text = path.read_text()
    hidden = hide(text)
    found = []

    def add(kind, start, end, new):
        found.append({
            "file": str(path.relative_to(root)), "line": text.count("\n", 0, start) + 1,
            "kind": kind, "start": start, "end": end, "old": text[start:end], "new": new,
            "text": " ".join(text[text.rfind("\n", 0, start) + 1:
                                  text.find("\n", end - 1)].split())})

    for body in BODY.finditer(hidden):
        at = body.start(1)
        for match in TOKEN.finditer(body[1]):
            for new in token_changes(match):
                kind = match.lastgroup or "operator"
                add(kind, at + match.start(), at + match.end(), new)
        for match in STATEMENT.finditer(body[0]):
            if not NO_STATEMENT.match(match[1]):
                start = body.start(0) + match.start(1)
                add("statement", start, start + len(match[1]), ";")
    return sorted(found, key=lambda m: (m["start"], m["end"], m["new"]))


def name(mutant):
    """What stays the same when lines move: the file, the line's text, the change, and which of the
    equal ones in the file it is."""
    old = " ".join(mutant["old"].split())
    return f"{mutant['file']}: {mutant['text']} [{old} -> {mutant['new'] or 'nothing'}]" + (
        f" #{mutant['nth']}" if mutant["nth"] else "")


def choose(root, files, count, seed):
    """`count` of all, each equally likely, of different places; of those the ones in `files`."""
    rng = random.Random(seed)
    places = {}
    for path in sorted(pathlib.Path(root).glob("csrc/**/*.c")):
        equal = {}
        for mutant in of_file(path, pathlib.Path(root)):
            key = (mutant["text"], mutant["old"], mutant["new"])
            mutant["nth"] = equal[key] = equal.get(key, -1) + 1
            mutant["name"] = name(mutant)
            places.setdefault((mutant["file"], mutant["start"]), []).append(mutant)
    taken = rng.sample(sorted(places), min(count, len(places)))
    chosen = [rng.choice(places[place]) for place in sorted(taken)]
    return [m for m in chosen if not files or m["file"].startswith(tuple(files))]
