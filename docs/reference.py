"""Makes the pages of the reference: signatures and docstrings, read from the sources.

The project is not imported: importing Pax takes half a minute, and mock modules in its place fail
where a module computes with its imports. The text of a docstring is turned into reStructuredText by
Sphinx's own reader of Google's style (`sphinx.ext.napoleon`).
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from sphinx.ext.napoleon import Config, GoogleDocstring

PROJECT = Path(__file__).parents[1]
PACKAGES = ("codegen_pax", "experiments", "tasks")
NAPOLEON = Config(napoleon_use_ivar=True, napoleon_use_rtype=False)
INDENT = "   "
LONGEST_DEFAULT = 20  # characters
# Lines such as `logits: [B, T, V] = projection(x)`, which give an algorithm.
SKETCH = re.compile(r"(?:^\w+: \[[^\]]*\] .*\n?(?:^ +.*\n?)*){2,}", re.MULTILINE)
MARKUP = re.compile(r"(``[^`]+``|`[^`]+`|\*\*[^*\n]+\*\*)")
LIST_ITEM = re.compile(r"\s*([-*]|\d+\.)\s")
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields|Example|Examples|Note):\s*$")

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | Function
Kind = Literal["module", "class", "function", "method"]


def pages() -> dict[str, str]:
    """Returns a page for each folder of modules: its dotted name -> reStructuredText."""
    folders: dict[str, list[Path]] = {}
    for package in PACKAGES:
        for path in sorted((PROJECT / package).rglob("*.py")):
            folders.setdefault(".".join(path.relative_to(PROJECT).parent.parts), []).append(path)
    return {name: page(name, paths) for name, paths in sorted(folders.items())}


def page(name: str, paths: list[Path]) -> str:
    """Returns the page of the modules of one folder."""
    lines = [name, "=" * len(name), ""]
    for path in paths:
        lines += module(path)
    return "\n".join(lines) + "\n"


def module(path: Path) -> Iterator[str]:
    """Yields the section of one module; the folder's own `__init__` comes without a title."""
    parts = path.relative_to(PROJECT).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    name = ".".join(parts[:-1] if is_package else parts)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not is_package:
        yield from (name, "-" * len(name), "")
    yield from (f".. py:module:: {name}", "")
    yield from docstring(tree, "module")
    for node in tree.body:
        yield from definition(node)


def definition(node: ast.stmt, indent: str = "") -> Iterator[str]:
    """Yields a public class, function or method with its docstring; nothing for the rest."""
    if isinstance(node, ast.ClassDef) and is_public(node.name):
        yield from (f"{indent}.. py:class:: {node.name}{class_signature(node)}", "")
        yield from docstring(node, "class", indent + INDENT)
        for member in node.body:
            if isinstance(member, Function) and ast.get_docstring(member):
                yield from definition(member, indent + INDENT)
    elif isinstance(node, Function) and is_public(node.name):
        decorators = {ast.unparse(one).split(".")[-1] for one in node.decorator_list}
        kind: Kind = "method" if indent else "function"
        options = [f"{indent}{INDENT}:classmethod:"] if "classmethod" in decorators else []
        options += [f"{indent}{INDENT}:staticmethod:"] if "staticmethod" in decorators else []
        if decorators & {"property", "cached_property"}:
            yield f"{indent}.. py:property:: {node.name}"
        else:
            yield f"{indent}.. py:{kind}:: {node.name}{signature(node, bool(indent))}"
        yield from (*options, "")
        yield from docstring(node, kind, indent + INDENT)


def is_public(name: str) -> bool:
    """Returns whether a name is public."""
    return not name.startswith("_")


def signature(node: Function, is_method: bool) -> str:
    """Returns a function's arguments and result, without `self` or `cls`."""
    arguments = node.args
    if is_method and arguments.args and arguments.args[0].arg in ("self", "cls"):
        arguments = ast.arguments(**{**vars(arguments), "args": arguments.args[1:]})
    arguments.defaults = [_short(value) for value in arguments.defaults]
    arguments.kw_defaults = [value and _short(value) for value in arguments.kw_defaults]
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({ast.unparse(arguments)}){result}"


def _short(value: ast.expr) -> ast.expr:
    """Returns the default of an argument; '...' for a long one."""
    return value if len(ast.unparse(value)) <= LONGEST_DEFAULT else ast.Constant(...)


def class_signature(node: ast.ClassDef) -> str:
    """Returns the arguments of a class: the fields of a dataclass, or those of `__init__`."""
    if any("dataclass" in ast.unparse(one) for one in node.decorator_list):
        fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
        for one in fields:
            one.value = one.value and _short(one.value)
        return f"({', '.join(map(ast.unparse, fields))})"
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            return signature(member, is_method=True).partition(" -> ")[0]
    return ""


def docstring(node: Documented, what: Kind, indent: str = "") -> Iterator[str]:
    """Yields the docstring of a node as reStructuredText, then an empty line."""
    if text := ast.get_docstring(node):
        # napoleon's documentation passes this class, but its annotations ask for Sphinx's.
        config: Any = NAPOLEON
        lines = GoogleDocstring(restructured(text), config, what=what).lines()
        yield from textwrap.indent("\n".join(lines), indent).splitlines()
        yield ""


def restructured(text: str) -> str:
    """Returns a docstring as reStructuredText, which would otherwise misread parts of it.

    Code in single backticks becomes a literal, and an indented block that is not a section becomes
    a literal block; stars, bars and trailing underscores in prose are escaped.
    """
    text = SKETCH.sub(lambda match: textwrap.indent(match[0], "  "), text)
    parts: list[tuple[bool, list[str]]] = []  # whether it is a literal block, and its lines
    in_section = in_block = False
    for line in text.splitlines():
        if line and not line.startswith(" "):
            in_section, in_block = bool(SECTION.match(line)), False
        elif line and not in_section and not in_block:
            begun = next(
                (one for _, lines in reversed(parts) for one in reversed(lines) if one), ""
            )
            in_block = not (LIST_ITEM.match(line) or LIST_ITEM.match(begun))
        if not parts or parts[-1][0] != in_block:
            parts.append((in_block, []))
        parts[-1][1].append(line)
    texts: list[str] = []
    for is_block, lines in parts:
        if not is_block:
            texts.append(prose("\n".join(with_lists(lines))))
        elif texts and texts[-1].rstrip().endswith("::"):
            texts.append("\n".join(["", *lines, ""]))
        else:
            texts.append("\n".join(["", "::", "", *lines, ""]))
    return "\n".join(texts)


def with_lists(lines: list[str]) -> Iterator[str]:
    """Yields lines, changed so that a list of results is not read as `type: description`."""
    for number, line in enumerate(lines):
        if number and SECTION.match(lines[number - 1]) and line.lstrip().startswith("- "):
            yield from (f"{line[: -len(line.lstrip())]}\\ ", "")
        yield line


def prose(text: str) -> str:
    """Returns prose in which only code, as literals, and **strong** text are markup."""
    pieces = MARKUP.split(text)
    for number, piece in enumerate(pieces):
        if number % 2 == 0:
            piece = re.sub(r"(?m)(?<!^)(?<!^ )([*|])|^([*|])(?!\s)", r"\\\1\2", piece)
            pieces[number] = re.sub(r"(?<=\w)_(?=\W|$)", r"\\_", piece)
        elif piece.startswith("`"):
            follows = pieces[number + 1][:1]
            pieces[number] = f"``{piece.strip('`')}``" + ("\\ " if follows.isalnum() else "")
    return "".join(pieces)
