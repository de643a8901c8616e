"""A stand-in for the tokenizer of `codegen-pax prepare` that tokenises equal text once.

The documents of `preparing` are a few files again and again, each under a first line of its own.
The first line is tokenised as ever, and what follows it once in each process. The ids are those of
the real tokenizer, as no token has bytes of both: a first line ends in a digit, and no token of the
vocabulary that has a line end begins with anything else than white space.
"""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Encoding:
    """What a text is encoded to.

    Attributes:
        ids: its ids.
    """

    ids: list[int]


class RememberingTokenizer:
    """Encodes texts as a tokenizer does that it is given."""

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}

    def encode_batch_fast(self, texts: list[str], add_special_tokens: bool) -> list[Encoding]:
        """Return the encoding of each text; special tokens are never added."""
        assert not add_special_tokens
        parts = [text.partition("\n") for text in texts]
        first_lines = self._encode([first_line for first_line, _, _ in parts])
        rests = [line_end + rest for _, line_end, rest in parts]
        new = [*dict.fromkeys(rest for rest in rests if rest not in self._known)]
        self._known.update(zip(new, self._encode(new), strict=True))
        return [
            Encoding(first_line + self._known[rest])
            for first_line, rest in zip(first_lines, rests, strict=True)
        ]

    def _encode(self, texts: list[str]) -> list[list[int]]:
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [one.ids for one in encodings]


def install() -> None:
    """Put the stand-in in the tokenizer's place, in this process."""
    from codegen_pax.text import tokenizer

    load = tokenizer.load
    loaded: dict[str, RememberingTokenizer] = {}

    def remembering(name: str, *, literal: bool = False) -> RememberingTokenizer:
        assert literal
        if name not in loaded:
            loaded[name] = RememberingTokenizer(load(name, literal=True))
        return loaded[name]

    tokenizer.load = remembering
