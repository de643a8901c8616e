"""A document on its way from a raw file to the rows of a corpus."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation.

    Attributes:
        role: the speaker: 'system', 'user', 'assistant' or 'tool'.
        content: the text of the message.
    """

    role: str
    content: str


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """One text or one conversation of a raw file.

    Attributes:
        text: the text; '' for a conversation (see `turns`).
        source: the path or URL of the input it comes from, as it was given.
        record: its position in that input: the byte offset of its line in plain JSON lines; the
            index, from 0, of its line in compressed JSON lines, of its row in a table, or of its
            record in other JSON; 0 for a file that is one document.
        path: its file's path in its repository; '' if it has none.
        repository: `owner/name`, or the name of the sub-corpus it belongs to; '' if unknown.
        licence: SPDX identifier or expression as the raw file spells it; '' if unknown.
        language: a key of the language table, or 'text' for prose; '' until it is identified.
        turns: the messages of a conversation, in order; empty for a text.
        unread_fields: names of the non-empty fields of its record that were not read.
    """

    text: str
    source: str
    record: int
    path: str = ""
    repository: str = ""
    licence: str = ""
    language: str = ""
    turns: tuple[Turn, ...] = ()
    unread_fields: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the text or of all messages; UnicodeEncodeError for an unpaired surrogate."""
        return len(self.text.encode()) + sum(len(turn.content.encode()) for turn in self.turns)


@dataclasses.dataclass(frozen=True, slots=True)
class Dropped:
    """A record of a raw file from which no document could be made.

    Attributes:
        rule: why it was dropped.
        size: bytes.
        source: as in `Document`.
        record: as in `Document`.
        damage: description of the damage, if the input is damaged.
        defect: description of the failure, if a rule failed.
    """

    rule: str
    size: int
    source: str
    record: int
    damage: str = ""
    defect: str = ""
