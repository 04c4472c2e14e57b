"""Each file opens with what it promises, and some words and calls stand nowhere in the tree."""

import ast
import re
from pathlib import Path

import pytest
from tidy import PACKAGES, c_files, python_files, read, tracked_files

TEXT_SUFFIXES = {".py", ".c", ".h", ".md", ".toml", ".sh", ".lock", ".in", ""}
# Each has a letter in brackets, and the examples below a ~, so that this file does not find itself.
NOTES = re.compile(r"\b(?:T[O]DO|F[I]XME|X[X]X|H[A]CK)\b")
MACHINE_PATHS = re.compile(r"(?<![\w.~])/(?:h[o]me|r[o]ot|U[s]ers|w[o]rk|o[p]t|t[m]p)/\w")
INDEX_HOSTS = re.compile(r"(?i)pyp[i]\.org|pythonh[o]sted|--(?:extra-)?ind[e]x-url|--find-l[i]nks")
FIRST_SENTENCE_CHARS = 240

CLOCK_SEAM = Path("shm/clock.py")
RAW_CLOCKS = {
    "time.time",
    "time.time_ns",
    "time.clock_gettime",
    "time.clock_gettime_ns",
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
}
UNSAFE_MODULES = {"pickle", "marshal", "shelve", "dill", "multiprocessing.shared_memory"}
UNSAFE_CALLS = {"eval", "exec", "yaml.load"}


def word_findings(path: Path, text: str) -> list[str]:
    """Name each left-over note, path of one machine, and package index."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        for what, pattern in (("note", NOTES), ("path", MACHINE_PATHS), ("host", INDEX_HOSTS)):
            if match := pattern.search(line):
                found.append(f"{path}:{number}: {what}: {match.group()}")
    return found


def dotted(node: ast.expr) -> str:
    """Give a name or an attribute chain as text; a call in the chain counts by its own name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def call_findings(path: Path, text: str) -> list[str]:
    """Name each raw clock, unsafe call or module, and print outside of what prints."""
    found = []
    in_package = path.parts[0] in PACKAGES
    for node in ast.walk(ast.parse(text)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute | ast.Name):
            names = [dotted(node)]
        for name in names:
            tail = ".".join(name.split(".")[-2:])
            if name in UNSAFE_MODULES or (
                name in UNSAFE_CALLS and isinstance(node, ast.Name | ast.Attribute)
            ):
                found.append(f"{path}:{node.lineno}: {name} is not used in this project")
            if in_package and path != CLOCK_SEAM and tail in RAW_CLOCKS:
                found.append(f"{path}:{node.lineno}: {name}: take the time from shm.clock")
            if in_package and path.parts[0] != "ops" and name == "print":
                found.append(f"{path}:{node.lineno}: print: only ops speaks to a person")
    return found


def opening_findings(path: Path, docstring: str | None) -> list[str]:
    """Name a module whose first words are not one sentence of moderate length."""
    if not docstring:
        return [f"{path}: no docstring: open with one sentence that is the module's promise"]
    paragraph = " ".join(docstring.split("\n\n", maxsplit=1)[0].split())
    sentence = re.match(r".*?[.?:](?=\s|$)", paragraph)
    if sentence is None or len(sentence.group()) > FIRST_SENTENCE_CHARS:
        return [f"{path}: does not open with one sentence: {paragraph[:60]}"]
    return []


def text_files() -> list[Path]:
    """Every file of words; LICENSE is not ours to word."""
    return [p for p in tracked_files() if p.suffix in TEXT_SUFFIXES and p.name != "LICENSE"]


def test_no_forbidden_word_is_in_the_tree() -> None:
    """No left-over note, no path of one machine, no package index's name."""
    findings = [finding for path in text_files() for finding in word_findings(path, read(path))]
    assert not findings, "\n".join(findings)


@pytest.mark.parametrize(
    "line",
    [
        "# TO~DO: later",
        "/* FIX~ME */",
        "cd /ho~me/someone/src",
        'open("/t~mp/x")',
        "https://py~pi.org/simple",
        "pip install --in~dex-url x",
    ],
)
def test_a_forbidden_word_is_found(line: str) -> None:
    """Each kind is one finding."""
    assert len(word_findings(Path("x.py"), line.replace("~", ""))) == 1


@pytest.mark.parametrize(
    "line", ["XXBTZUSD", "../shared/captures", "/dev/shm/tickring.a", "todo_list"]
)
def test_an_innocent_word_passes(line: str) -> None:
    """What only looks like it is no finding."""
    assert word_findings(Path("x.py"), line) == []


def test_no_forbidden_call_is_in_the_tree() -> None:
    """No raw wall clock outside the seam, nothing that runs data as code, no print but in ops."""
    findings = [finding for path in python_files() for finding in call_findings(path, read(path))]
    assert not findings, "\n".join(findings)


@pytest.mark.parametrize(
    "text",
    [
        "import time\ntime.time_ns()",
        "from time import time",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import datetime\nclock = datetime.now",
        "import pickle",
        "from multiprocessing import shared_memory",
        "eval('1')",
        "import yaml\nyaml.load(text)",
        "print('x')",
    ],
)
def test_a_forbidden_call_is_found(text: str) -> None:
    """Each kind, called or only named, is one finding."""
    assert len(call_findings(Path("shm/x.py"), text)) == 1


def test_the_seams_may_do_what_they_are_for() -> None:
    """The clock module reads the clock, ops prints, a test times itself."""
    assert call_findings(CLOCK_SEAM, "import time\ntime.time_ns()") == []
    assert call_findings(Path("ops/x.py"), "print('x')") == []
    assert call_findings(Path("tests/x.py"), "import time\ntime.time()") == []


def test_every_module_opens_with_a_sentence() -> None:
    """Python modules in their docstring, C files in their first comment."""
    findings = []
    for path in python_files():
        findings += opening_findings(path, ast.get_docstring(ast.parse(read(path))))
    for path in c_files():
        comment = re.match(r"\s*/\*+(.*?)\*/", read(path), re.DOTALL)
        words = re.sub(r"(?m)^\s*\*+ ?", "", comment.group(1)).strip() if comment else None
        findings += opening_findings(path, words)
    assert not findings, "\n".join(findings)


@pytest.mark.parametrize(
    ("docstring", "findings"),
    [
        ("Records are read whole or not at all.", 0),
        ("Records are read whole\nor not at all. And more.\n\nMore.", 0),
        ("How long is a hop?", 0),
        (None, 1),
        ("helpers", 1),
        ("so long " * 40 + ".", 1),
    ],
)
def test_a_module_without_a_promise_is_found(docstring: str | None, findings: int) -> None:
    """Nothing, a mere title, and a sentence without end are findings."""
    assert len(opening_findings(Path("x.py"), docstring)) == findings
