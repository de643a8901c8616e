"""A document on its way from a raw file to the rows of a corpus."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation: who speaks, and what."""

    role: str  # 'system', 'user', 'assistant' or 'tool'
    content: str


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """One document as a raw file holds it.

    Attributes:
      text: the whole of it; of a conversation, '' (see `turns`).
      source: the input it comes from: a path or URL, as it was given.
      record: which one it is in that input: the byte that its line begins at in plain JSON lines,
        the number of its line in compressed ones, of its row in a table, of itself among the
        records of other JSON, from 0; 0 for a file that is one document.
      path: its file's path in its repository; '' if it has none.
      repository: `owner/name`, or the name of the sub-corpus it belongs to; '' if not known.
      licence: SPDX identifier or expression as it was found; '' if not known.
      language: a key of the language table; 'text' for prose; '' until it has been told.
      turns: the messages of a conversation, in order; empty for a text.
      unread: names of fields of its record that hold something and were not read.
    """

    text: str
    source: str
    record: int
    path: str = ""
    repository: str = ""
    licence: str = ""
    language: str = ""
    turns: tuple[Turn, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the text, or of what the turns say; UnicodeEncodeError if it is no Unicode."""
        return len(self.text.encode()) + sum(len(turn.content.encode()) for turn in self.turns)


@dataclasses.dataclass(frozen=True, slots=True)
class Dropped:
    """A record of a raw file that is no document.

    Attributes:
      rule: which says so.
      size: bytes.
      source, record: as a document's.
      damage: what was found, if it is the input that is damaged.
      defect: what went wrong, if it is a rule that failed.
    """

    rule: str
    size: int
    source: str
    record: int
    damage: str = ""
    defect: str = ""
