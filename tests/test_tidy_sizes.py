"""Modules stay within 400 lines, functions within 70, and no recorded data is in the tree."""

import ast
import re
from pathlib import Path

import pytest
from tidy import GENERATED, ROOT, c_files, python_files, read, tracked_files

MODULE_LINES = 400
FUNCTION_LINES = 70
FILE_BYTES = 500_000

# What may hold braces without meaning them: comments, strings, characters, preprocessor lines.
_C_NOISE = re.compile(
    r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|^[ \t]*#(?:[^\n\\]|\\.|\\\n)*",
    re.DOTALL | re.MULTILINE,
)


def long_module(path: Path, text: str) -> list[str]:
    """Name a module that is too long."""
    lines = len(text.splitlines())
    return [f"{path}: {lines} lines, at most {MODULE_LINES}"] if lines > MODULE_LINES else []


def long_python_functions(path: Path, text: str) -> list[str]:
    """Name each function that is too long, its docstring counted, its decorators not."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                found.append(
                    f"{path}:{node.lineno}: {node.name} has {lines} lines, at most {FUNCTION_LINES}"
                )
    return found


def long_c_functions(path: Path, text: str) -> list[str]:
    """Name each C function whose lines, from its opening brace to its closing one, are too many."""
    code = _C_NOISE.sub(lambda noise: re.sub(r"[^\n]", " ", noise.group()), text)
    found, depth, opened_at, is_function = [], 0, 0, False
    for at, char in enumerate(code):
        if char == "{":
            if depth == 0:
                opened_at, is_function = at, code[:at].rstrip().endswith(")")
            depth += 1
        elif char == "}":
            depth -= 1
            lines = code.count("\n", opened_at, at) + 1
            if depth == 0 and is_function and lines > FUNCTION_LINES:
                first = code.count("\n", 0, opened_at) + 1
                found.append(
                    f"{path}:{first}: a function of {lines} lines, at most {FUNCTION_LINES}"
                )
    assert depth == 0, f"{path}: unbalanced braces"
    return found


def test_modules_and_functions_are_short() -> None:
    """Every Python and C file of the tree keeps both limits."""
    findings = []
    for path in python_files():
        findings += long_module(path, read(path)) + long_python_functions(path, read(path))
    for path in c_files():
        findings += long_module(path, read(path)) + long_c_functions(path, read(path))
    assert not findings, "\n".join(findings)


@pytest.mark.parametrize(("lines", "findings"), [(MODULE_LINES, 0), (MODULE_LINES + 1, 1)])
def test_a_long_module_is_found(lines: int, findings: int) -> None:
    """The limit itself passes, one line more does not."""
    assert len(long_module(Path("x.py"), "pass\n" * lines)) == findings


@pytest.mark.parametrize(("lines", "findings"), [(FUNCTION_LINES, 0), (FUNCTION_LINES + 1, 1)])
def test_a_long_python_function_is_found(lines: int, findings: int) -> None:
    """The limit itself passes, one line more does not, also in a class."""
    function = "@decorated\ndef f():\n" + "    pass\n" * (lines - 1)
    method = "class C:\n    async def f(self):\n" + "        pass\n" * (lines - 1)
    assert len(long_python_functions(Path("x.py"), function)) == findings
    assert len(long_python_functions(Path("x.py"), method)) == findings


@pytest.mark.parametrize(("lines", "findings"), [(FUNCTION_LINES, 0), (FUNCTION_LINES + 1, 1)])
def test_a_long_c_function_is_found(lines: int, findings: int) -> None:
    """Braces in comments, strings and macros do not hide it, and a long struct is none."""
    body = "    x = '{'; /* { */ y = \"{\";\n" * (lines - 2)
    text = f"#define OPEN {{ \\\n {{\nstatic int f(int x)\n{{\n{body}}}\n"
    struct = "struct s {\n" + "    int x;\n" * 100 + "};\n"
    assert len(long_c_functions(Path("x.c"), text + struct)) == findings


def test_no_large_file_is_in_the_tree() -> None:
    """Recorded data and built things stay outside; a generated file is no exception."""
    large = [str(p) for p in tracked_files() if (ROOT / p).stat().st_size > FILE_BYTES]
    assert not large, f"over {FILE_BYTES} bytes: {large}"
    assert all((ROOT / name).exists() for name in GENERATED)
