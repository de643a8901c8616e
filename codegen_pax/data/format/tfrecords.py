"""Rows on disk: TFRecords of `tf.train.Example` that are all equally long.

T is the length of a row. A record holds features of bytes:

- `tokens`: T ids, little-endian uint16.
- `answer`, in corpora of conversations alone: T bytes, 1 where a token is (part of) an answer, 0
  elsewhere; a label is counted if the label's own token has 1.
- `length`, in corpora of conversations alone: how many of the T tokens are real, little-endian
  uint32. A row of text is full.

Since every record is as long as every other, a file is both what TensorFlow reads and an array that
`numpy.memmap` opens: row n begins at byte n x `RowFormat.record_bytes`.
"""

from __future__ import annotations

import dataclasses
import functools
import struct

import google_crc32c
import numpy as np

MAX_TOKEN = 2**16 - 1


@dataclasses.dataclass(frozen=True)
class RowFormat:
    """How the rows of one corpus lie in its files.

    Attributes:
      row_length: T.
      answers: whether rows carry `answer` and `length`.
    """

    row_length: int
    answers: bool = False

    @property
    def features(self) -> dict[str, int]:
        """Name of a feature -> its bytes, in the order they lie in a record."""
        text = {"tokens": 2 * self.row_length}
        return {"answer": self.row_length, "length": 4} | text if self.answers else text

    @functools.cached_property
    def _layout(self) -> tuple[bytes, dict[str, int]]:
        """An example whose values are all zero bytes, and where each value begins in it."""
        entries = []
        for name, size in self.features.items():
            # Feature { bytes_list { value: <size bytes> } }, then the map's entry {key, value}.
            feature = _field(1, _field(1, bytes(size)))
            entries.append(_field(1, _field(1, name.encode()) + _field(2, feature)))
        example = _field(1, b"".join(entries))
        # A value is the tail of its entry.
        starts, end = {}, len(example) - sum(map(len, entries))
        for (name, size), entry in zip(self.features.items(), entries, strict=True):
            end += len(entry)
            starts[name] = end - size
        return example, starts

    @functools.cached_property
    def dtype(self) -> np.dtype:
        """One record: fields `tokens` uint16 [T], `answer` uint8 [T], `length` uint32 [], and the
        TFRecord's own `header` and `checksum`.
        """
        example, starts = self._layout
        fields = {
            "header": ("V12", 0),
            "example": (f"V{len(example)}", 12),
            "checksum": ("<u4", 12 + len(example)),
            "tokens": (("<u2", (self.row_length,)), 12 + starts["tokens"]),
        }
        if self.answers:
            fields["answer"] = (("u1", (self.row_length,)), 12 + starts["answer"])
            fields["length"] = ("<u4", 12 + starts["length"])
        return np.dtype(
            {
                "names": list(fields),
                "formats": [form for form, _ in fields.values()],
                "offsets": [offset for _, offset in fields.values()],
                "itemsize": 12 + len(example) + 4,
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
        """Rows as records, ready to be written (`.tobytes()`).

        Args:
          tokens: ids [n, T].
          answer: [n, T], for corpora of conversations.
          length: [n], for corpora of conversations.

        Returns:
          [n] of `dtype`.
        """
        example, _ = self._layout
        header = struct.pack("<Q", len(example))
        template = header + struct.pack("<I", _masked(header)) + example + bytes(4)
        records = np.frombuffer(template * len(tokens), np.uint8).copy().view(self.dtype)
        records["tokens"] = tokens
        if self.answers:
            records["answer"] = answer
            records["length"] = length
        raw = records.view(np.uint8).reshape(len(tokens), self.record_bytes)
        records["checksum"] = [_masked(row[12:-4].tobytes()) for row in raw]
        return records

    def intact(self, records: np.ndarray) -> np.ndarray:
        """Whether each record [n] is as it was written: its own checksum fits it. Bool [n]."""
        raw = np.ascontiguousarray(records).view(np.uint8)
        raw = raw.reshape(len(records), self.record_bytes)
        found = [_masked(row[12:-4].tobytes()) for row in raw]
        return np.asarray(found, np.uint32) == records["checksum"]


def _masked(data: bytes) -> int:
    """CRC-32C as TFRecord stores it: rotated and shifted (TensorFlow, `core/lib/hash/crc32c.h`)."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _field(number: int, data: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    length, size = bytearray(), len(data)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + data
