"""Rows on disk: TFRecords of `tf.train.Example` that are all equally long.

T is the length of a row. A record has these features, each a string of bytes:

- `tokens`: T ids, little-endian uint16.
- `answer`, only in corpora of conversations: T bytes, 1 where the token is part of an answer, else
  0. A label counts towards the loss if its own token has 1.
- `length`, only in corpora of conversations: how many of the T tokens are not padding,
  little-endian uint32. A row of text is full.

Since all records are equally long, a file is both what TensorFlow reads and an array that
`numpy.memmap` opens: row n begins at byte n x `RowFormat.record_bytes`.
"""

from __future__ import annotations

import dataclasses
import functools
import struct

import google_crc32c
import numpy as np

MAX_TOKEN = 2**16 - 1

_HEADER_BYTES = 12  # uint64 length of the example, uint32 checksum of the length
_CHECKSUM_BYTES = 4


@dataclasses.dataclass(frozen=True)
class RowFormat:
    """How the rows of one corpus are stored.

    Attributes:
        row_length: T.
        answers: whether rows have the features `answer` and `length`.
    """

    row_length: int
    answers: bool = False

    @property
    def features(self) -> dict[str, int]:
        """Name of each feature -> its bytes, in the order in which a record holds them."""
        tokens = {"tokens": 2 * self.row_length}
        return {"answer": self.row_length, "length": 4} | tokens if self.answers else tokens

    @functools.cached_property
    def _template(self) -> tuple[bytes, dict[str, int]]:
        """A serialised example whose values are all zero, and the offset of each value in it."""
        entries = []
        for name, size in self.features.items():
            # Feature { bytes_list { value: <size bytes> } }, then the map's entry {key, value}.
            feature = _field(1, _field(1, bytes(size)))
            entries.append(_field(1, _field(1, name.encode()) + _field(2, feature)))
        example = _field(1, b"".join(entries))
        # A value is the tail of its entry.
        offsets, end = {}, len(example) - sum(map(len, entries))
        for (name, size), entry in zip(self.features.items(), entries, strict=True):
            end += len(entry)
            offsets[name] = end - size
        return example, offsets

    @functools.cached_property
    def dtype(self) -> np.dtype:
        """The dtype of one record.

        Its fields are `tokens` uint16 [T], `answer` uint8 [T] and `length` uint32 [], and the
        framing of TFRecord, `header` and `checksum`.
        """
        example, starts = self._template
        fields: dict[str, tuple] = {
            "header": (f"V{_HEADER_BYTES}", 0),
            "example": (f"V{len(example)}", _HEADER_BYTES),
            "checksum": ("<u4", _HEADER_BYTES + len(example)),
            "tokens": (("<u2", (self.row_length,)), _HEADER_BYTES + starts["tokens"]),
        }
        if self.answers:
            fields["answer"] = (("u1", (self.row_length,)), _HEADER_BYTES + starts["answer"])
            fields["length"] = ("<u4", _HEADER_BYTES + starts["length"])
        return np.dtype(
            {
                "names": list(fields),
                "formats": [form for form, _ in fields.values()],
                "offsets": [offset for _, offset in fields.values()],
                "itemsize": _HEADER_BYTES + len(example) + _CHECKSUM_BYTES,
            }
        )

    @property
    def record_bytes(self) -> int:
        """Bytes of one record, framing included."""
        return self.dtype.itemsize

    def encode(
        self,
        tokens: np.ndarray,
        answer: np.ndarray | None = None,
        length: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return rows as records, ready to be written with `.tobytes()`.

        Args:
            tokens: Token ids [n, T].
            answer: [n, T], for corpora of conversations.
            length: [n], for corpora of conversations.

        Returns:
            Records [n] of `dtype`.
        """
        example, _ = self._template
        header = struct.pack("<Q", len(example))
        header += struct.pack("<I", _masked_crc(header))
        template = header + example + bytes(_CHECKSUM_BYTES)
        records = np.frombuffer(template * len(tokens), np.uint8).copy().view(self.dtype)
        records["tokens"] = tokens
        if self.answers:
            records["answer"] = answer
            records["length"] = length
        records["checksum"] = self._checksums(records)
        return records

    def intact(self, records: np.ndarray) -> np.ndarray:
        """Return which records [n] match their own checksum: bool [n]."""
        return self._checksums(np.ascontiguousarray(records)) == records["checksum"]

    def _checksums(self, records: np.ndarray) -> np.ndarray:
        """Compute the checksums of records [n]: uint32 [n]."""
        raw = records.view(np.uint8).reshape(len(records), self.record_bytes)
        examples = raw[:, _HEADER_BYTES:-_CHECKSUM_BYTES]
        return np.array([_masked_crc(example.tobytes()) for example in examples], np.uint32)


def _masked_crc(data: bytes) -> int:
    """CRC-32C as TFRecord stores it: rotated and shifted (TensorFlow, `core/lib/hash/crc32c.h`)."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _field(number: int, data: bytes) -> bytes:
    """Serialise a length-delimited field of a protocol buffer."""
    length, size = bytearray(), len(data)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + data
