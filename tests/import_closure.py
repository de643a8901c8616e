"""What a file of the project imports, directly and through the project's other files.

Read from the sources alone, without importing anything. `make quick` runs the test files that
reach nothing of `HEAVY`. Imports inside functions count too, since a test may call the function,
and so does what a child process is started with: `"paxml.main"`, or a script beside the test.
"""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[1]
PACKAGES = ("codegen_pax", "docs", "experiments", "tasks", "tests")
# Packages that take seconds to import, or bring one that does.
HEAVY = frozenset(
    (
        *("apache_beam", "clu", "ctranslate2", "fiddle", "flax", "jax", "jaxlib", "lingvo"),
        *("optax", "orbax", "paxml", "peft", "praxis", "seqio", "sphinx", "tensorboard"),
        *("tensorflow", "tensorflow_text", "tensorstore", "torch", "transformers"),
    )
)
OPENS_URLS = frozenset(("jax", "jaxlib", "tensorflow"))  # TensorFlow, and what it imports
MODULE = re.compile(r"\w+(\.\w+)+(?<!\.py)(?<!\.txt)")
SCRIPT = re.compile(r"\w+\.py")


def heavy_imports(path: Path) -> set[str]:
    """Returns the packages of `HEAVY` that importing and using a file can import."""
    heavy: set[str] = set()
    seen, to_read = set(), [path.resolve()]
    while to_read:
        source = to_read.pop()
        if source in seen:
            continue
        seen.add(source)
        for name in imported_names(source):
            package = name.partition(".")[0]
            if package in HEAVY:
                heavy.add(package)
            elif package in PACKAGES or package == "codegen":
                to_read += files_of(name)
    return heavy


@functools.cache
def imported_names(path: Path) -> frozenset[str]:
    """Returns the full names that a file imports, but for those that only a type checker reads."""
    names: set[str] = set()
    to_visit: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while to_visit:
        node = to_visit.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= names_in_text(node.value, path)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            to_visit += node.orelse
        else:
            to_visit += ast.iter_child_nodes(node)
    return frozenset(names)


def names_in_text(text: str, path: Path) -> set[str]:
    """Returns the module that a string of `path` names: of a heavy package, or a script beside."""
    if MODULE.fullmatch(text) and text.partition(".")[0] in HEAVY:
        return {text}
    if SCRIPT.fullmatch(text) and (path.parent / text).is_file():
        script = (path.parent / text).relative_to(PROJECT).with_suffix("")
        return {".".join(script.parts)}
    return set()


def files_of(name: str) -> Iterator[Path]:
    """Yields the files that importing `name` runs: a module's, and those of its packages."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        path = PROJECT.joinpath(*parts[:length])
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if file.is_file():
                yield file
