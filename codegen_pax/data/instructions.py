"""Instruction pairs cut out of Python source: what a function promises, and how it does it.

The instruction is the docstring, the input is the signature, the answer is the rest of the body.
"""

from __future__ import annotations

import ast
import functools
import inspect
from pathlib import Path

from codegen_pax.data import installed
from codegen_pax.text import instruction_format

MIN_DOCSTRING = 20  # characters; shorter ones ("See base class.") promise nothing


def pairs(source: str) -> list[tuple[str, str]]:
    """(prompt, answer) of each documented function in `source`, in the order they are written.

    Left out: bodies that do nothing (`pass`, `...`, a lone `raise`), docstrings shorter than
    `MIN_DOCSTRING`, one-line functions, and source that does not parse.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    lines = source.splitlines()
    functions = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _does_something(node)
    ]
    found = []
    for node in sorted(functions, key=lambda node: node.lineno):
        docstring = inspect.cleandoc(ast.get_docstring(node, clean=False))
        first = node.body[0]
        signature = _dedent(lines[node.lineno - 1 : first.lineno - 1], node.col_offset)
        body = _dedent(lines[first.end_lineno : node.end_lineno], node.col_offset)
        if len(docstring) >= MIN_DOCSTRING and signature and body:
            prompt = instruction_format.instruction_prompt(docstring, signature)
            found.append((prompt, instruction_format.instruction_answer(body)))
    return found


@functools.cache
def file_pairs(path: Path) -> list[tuple[str, str]]:
    """`pairs` of the file at `path`, kept: see `documented_modules`."""
    return pairs(path.read_text("utf-8"))


@functools.cache
def documented_modules() -> tuple[installed.InstalledFile, ...]:
    """The modules of the standard library that hold a pair.

    All of them are parsed here, in the caller's thread, and tf.data's threads find the pairs ready:
    in Python 3.11 `ast.parse` in two threads at once fails now and then with a SystemError
    ("AST constructor recursion depth mismatch").
    """
    return tuple(file for file in installed.standard_library() if file_pairs(file.path))


def _does_something(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    if ast.get_docstring(node) is None:
        return False
    rest = node.body[1:]
    return not all(
        isinstance(statement, ast.Pass | ast.Raise)
        or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        for statement in rest
    )


def _dedent(lines: list[str], columns: int) -> str:
    """The lines without their first `columns` columns; '' if one holds anything there.

    Such a line is inside a string that spans lines, and to move it would change the program.
    """
    if any(line[:columns].strip() for line in lines):
        return ""
    return "\n".join(line[columns:] for line in lines).strip("\n")
