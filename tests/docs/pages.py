"""The pages of the documentation, and the commands and names in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
SITE = sorted((PROJECT / "docs").glob("*.md"))
PAGES = [*SITE, *(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
FENCE = re.compile(
    r"^(?:\{(?P<label>[^}\n]*)\}\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: the file's name.
        language: 'bash', 'python', …
        label: who runs it: 'run', 'long', 'tpu' or 'form'; '' without one.
        text: what is in it.
    """

    page: str
    language: str
    label: str
    text: str

    def commands(self) -> list[str]:
        """Returns the commands of a block in bash, each on one line, without comments."""
        joined = re.sub(r"\\\n\s*", "", self.text)
        lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines())
        return [line for line in lines if line]


def blocks(paths: list[Path]) -> Iterator[Block]:
    """Yields the fenced blocks of pages, in order."""
    for path in paths:
        for actual in FENCE.finditer(path.read_text(encoding="utf-8")):
            label = (actual["label"] or "").strip().removeprefix(".")
            yield Block(path.name, actual["language"], label, actual["text"])


def code(path: Path) -> Iterator[str]:
    """Yields everything on a page that is set as code: inline, and the commands of its blocks."""
    text = path.read_text(encoding="utf-8")
    for block in blocks([path]):
        if block.language == "bash":
            yield from block.commands()
    yield from re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
