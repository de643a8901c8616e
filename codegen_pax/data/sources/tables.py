"""The rows of tables, Parquet and Avro, as documents.

Damage loses as little as the formats allow. A cell that is not UTF-8 loses its row; a damaged
Parquet page loses the rest of its row group, and each row is counted; a damaged Avro block loses
that block, which is counted once. A whole file is lost only if its footer or header cannot be read.
`_BATCH_ROWS` rows of a Parquet file, or one block of an Avro file, are in memory at a time.
"""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from codegen_pax.data.format.documents import Document, Dropped
from codegen_pax.data.sources import schemas
from codegen_pax.data.sources.errors import DamagedInputError, UnreadableInputError
from codegen_pax.data.sources.partitions import Partition
from codegen_pax.data.sources.storage import UnreachableError, escape_path, open_file
from codegen_pax.errors import is_from_the_system

DAMAGED = "damaged"  # the rule that drops what cannot be decompressed or decoded

# The codecs of the specification, and lz4, which fastavro adds.
AVRO_CODECS = ("null", "deflate", "bzip2", "snappy", "xz", "zstandard", "lz4")

_BATCH_ROWS = 256  # held at once
_MAX_BLOCK_BYTES = 256 << 20  # ours, of Avro: about four times the longest record that is read
_MARKER_BYTES = 16
_PARQUET, _ENCRYPTED = b"PAR1", b"PARE"  # the first and last bytes of a file
_TAIL_BYTES = 8  # of a Parquet file: the length of its footer, and its last bytes
_CHUNK_BYTES = 1 << 20


def read_parquet(partition: Partition) -> Iterator[Document | Dropped]:
    """Yield the rows of a partition of a Parquet file.

    Raises:
        DamagedInputError: See `reading.documents`.
        UnreadableInputError: See `reading.documents`.
    """
    if not partition.size:
        return
    with open_file(partition.source) as file:
        table, types = _open_parquet(file, partition.source)
        columns = schemas.match_columns(types, partition.source)
        is_text = types[columns["content"]] == "string"
        sizes = [table.metadata.row_group(n).num_rows for n in range(table.num_row_groups)]
        number = sum(sizes[: partition.start])
        for group in range(partition.start, len(sizes) if partition.end is None else partition.end):
            end = number + sizes[group]
            damage = ""
            try:
                for row in _group_rows(table, group, [*columns.values()]):
                    yield _parquet_row(partition, row, columns["content"], is_text, number)
                    number += 1
            except Exception as error:  # pyarrow's own, or MemoryError for a damaged size
                if _is_unsupported(error):
                    raise _unsupported_codec(partition.source, error) from error
                if "decrypt" in str(error):
                    raise _encrypted(partition.source) from error
                damage = _describe_damage(error, f"row group {group}")
            while number < end:
                yield Dropped(DAMAGED, 0, escape_path(partition.source), number, damage)
                number += 1


def _open_parquet(file: BinaryIO, source: str) -> tuple[Any, dict[str, str]]:
    """Return a `pyarrow.parquet.ParquetFile` with a consistent footer, and each column's type."""
    from pyarrow import parquet

    try:
        footer = _read_footer(file)
        if footer.endswith(_ENCRYPTED):
            raise _encrypted(source)
        metadata = parquet.read_metadata(io.BytesIO(footer))
        table = parquet.ParquetFile(file, metadata=metadata, page_checksum_verification=True)
        # Column metadata is not read: pyarrow aborts the process if it is damaged.
        sizes = [table.metadata.row_group(n).num_rows for n in range(table.num_row_groups)]
        types = {field.name: _type_name(field.type) for field in table.schema_arrow}
    except UnreadableInputError:
        raise
    except Exception as error:  # a damaged footer may raise nearly anything
        raise DamagedInputError(source, _describe_damage(error, "its footer")) from error
    if min(sizes, default=0) < 0 or sum(sizes) != table.metadata.num_rows:
        raise DamagedInputError(source, "its row groups do not add up to its rows")
    return table, types


def _read_footer(file: BinaryIO) -> bytes:
    """Return a Parquet file without its rows and without the Arrow schema its writer embedded.

    With that schema pyarrow would restore the writer's own types, and would then lose a whole row
    group to one broken string in a dictionary with an unusual index type, such as a pandas
    categorical.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read(_TAIL_BYTES)
    start = max(0, size - _TAIL_BYTES - int.from_bytes(tail[:4], "little"))
    file.seek(start)
    content = file.read(size - _TAIL_BYTES - start)
    return _PARQUET + content.replace(b"ARROW:schema", b"arrow.schema") + tail


def _is_unsupported(error: Exception) -> bool:
    """Return whether pyarrow does not support the file, such as LZO; it may be undamaged."""
    import pyarrow

    return isinstance(error, pyarrow.ArrowNotImplementedError) or "not supported" in str(error)


def _unsupported_codec(source: str, reason: object) -> UnreadableInputError:
    first_line = str(reason).partition("\n")[0].rstrip(".")
    return UnreadableInputError(
        f"{escape_path(source)} cannot be decompressed here ({first_line}): write it again with"
        " another codec (zstd, for example), or leave it out of --input"
    )


def _encrypted(source: str) -> UnreadableInputError:
    return UnreadableInputError(
        f"{escape_path(source)} is encrypted: write it again without encryption, or leave it out"
        " of --input"
    )


def _describe_damage(error: Exception, where: str) -> str:
    """Describe the damage in one line.

    Raises:
        OSError: The error is not about the file but about the machine or the network.
    """
    if isinstance(error, UnreachableError):
        raise error
    if isinstance(error, OSError) and error.errno is not None and is_from_the_system(error):
        raise error
    first_line = str(error).partition("\n")[0] or type(error).__name__
    return f"{where}: {first_line}"


def _group_rows(table: Any, group: int, columns: list[str]) -> Iterator[dict[str, Any]]:
    batches = table.iter_batches(
        batch_size=_BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False
    )
    for batch in batches:
        cells = [_cells(column) for column in batch.columns]
        for row in zip(*cells, strict=True):
            yield dict(zip(batch.schema.names, row, strict=True))


def _cells(column: Any) -> list[Any]:
    """Return the values of a pyarrow array, text as bytes, since a string may not be UTF-8."""
    import pyarrow

    if isinstance(column, pyarrow.ExtensionArray):
        column = column.storage
    try:
        return column.cast(_text_as_bytes(column.type)).to_pylist()
    except (pyarrow.ArrowException, UnicodeDecodeError):
        return [_cell(value) for value in column]


def _cell(value: Any) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        return error.object  # the bytes


def _text_as_bytes(arrow_type: Any) -> Any:
    """Return a pyarrow type with bytes in place of strings."""
    import pyarrow
    from pyarrow import types

    if types.is_string(arrow_type):
        return pyarrow.large_binary()
    if types.is_list(arrow_type):
        return pyarrow.list_(_text_as_bytes(arrow_type.value_type))
    if types.is_struct(arrow_type):
        fields = [field.with_type(_text_as_bytes(field.type)) for field in arrow_type]
        return pyarrow.struct(fields)
    if types.is_map(arrow_type):
        key, value = _text_as_bytes(arrow_type.key_type), _text_as_bytes(arrow_type.item_type)
        return pyarrow.map_(key, value)
    return arrow_type


def _type_name(arrow_type: Any) -> str:
    """Return the name of a pyarrow type; for an extension, the name of its storage type."""
    import pyarrow

    is_extension = isinstance(arrow_type, pyarrow.BaseExtensionType)
    return str(arrow_type.storage_type if is_extension else arrow_type)


def _parquet_row(
    partition: Partition, row: dict[str, Any], content: str, is_text: bool, number: int
) -> Document | Dropped:
    value = row[content]
    size = len(value) if isinstance(value, bytes) else 0
    if is_text and size:  # it is UTF-8, whatever encoding the source file in it declares
        with contextlib.suppress(UnicodeDecodeError):
            row[content] = value.decode()
    return schemas.to_document(partition.corpus, row, escape_path(partition.source), number, size)


def read_avro(partition: Partition) -> Iterator[Document | Dropped]:
    """Yield the records of an Avro file.

    Raises:
        DamagedInputError: See `reading.documents`.
        UnreadableInputError: See `reading.documents`.
    """
    if not partition.size:
        return
    with open_file(partition.source) as file:
        header, types = _read_avro_header(file, partition.source)
        schemas.match_columns(types, partition.source)
        number = 0
        for block, size in _blocks(file, header[-_MARKER_BYTES:], len(header), partition.size):
            damage = "a block lacks its end"
            if block is not None:
                try:
                    rows = _block_rows(header + block)
                except Exception as error:  # of many types with no common base
                    if "need to install" in str(error):
                        raise _unsupported_codec(partition.source, error) from error
                    damage = _describe_damage(error, f"the block after record {number}")
                else:
                    for row in rows:
                        yield _avro_row(partition, row, number)
                        number += 1
                    continue
            yield Dropped(DAMAGED, size, escape_path(partition.source), number, damage)
            number += 1


def _read_avro_header(file: BinaryIO, source: str) -> tuple[bytes, dict[str, str]]:
    """Return the bytes before the first block, and the type of each field."""
    import fastavro

    try:
        reader = fastavro.reader(file)
        codec = reader.metadata.get("avro.codec", "null")
        schema: Any = reader.writer_schema
        fields = schema.get("fields", ()) if isinstance(schema, dict) else ()
        types = {field["name"]: _avro_type_name(field["type"]) for field in fields}
        size = file.tell()
        file.seek(0)
        header = file.read(size)
    except Exception as error:  # of many types with no common base
        damage = _describe_damage(error, "its header")
        raise DamagedInputError(source, f"it is not Avro: {damage}") from error
    if codec not in AVRO_CODECS:
        raise _unsupported_codec(
            source, f"found codec {codec!r}, expected {', '.join(AVRO_CODECS)}"
        )
    return header, types


def _avro_type_name(avro_type: object) -> str:
    """Return the name of an Avro type; for a union, the names of its members except null."""
    if isinstance(avro_type, list):
        return " or ".join(_avro_type_name(one) for one in avro_type if one != "null") or "null"
    return str(avro_type.get("type")) if isinstance(avro_type, dict) else str(avro_type)


def _blocks(
    file: BinaryIO, marker: bytes, start: int, end: int
) -> Iterator[tuple[bytes | None, int]]:
    """Yield (block with its marker, bytes) of an Avro file whose header has been read.

    The block is None for damaged bytes, up to the next marker or the end of the file.
    """
    while start < end:
        block = _read_block(file, marker, end - start)
        size = len(block) if block else _skip_to_marker(file, marker, start, end)
        yield block, size
        start += size


def _read_block(file: BinaryIO, marker: bytes, max_bytes: int) -> bytes | None:
    """Return a block as stored: its number of records, its size, its bytes and the marker."""
    head = bytearray()
    for _ in range(2):
        size, shift = 0, 0
        while shift < 64 and (byte := file.read(1)):
            head += byte
            size |= (byte[0] & 0x7F) << shift
            shift += 7
            if byte[0] < 0x80:
                break
        else:
            return None
    size = (size >> 1) ^ -(size & 1)  # zigzag
    if not 0 <= size <= min(max_bytes, _MAX_BLOCK_BYTES):
        return None
    body = file.read(size + _MARKER_BYTES)
    return bytes(head) + body if body[size:] == marker else None


def _skip_to_marker(file: BinaryIO, marker: bytes, start: int, end: int) -> int:
    """Move the file from `start` to after the next marker; return the number of bytes skipped."""
    file.seek(start)
    pending, offset = b"", start
    while chunk := file.read(_CHUNK_BYTES):
        pending += chunk
        if (place := pending.find(marker)) >= 0:
            file.seek(offset + place + _MARKER_BYTES)
            return offset + place + _MARKER_BYTES - start
        offset += len(pending) - _MARKER_BYTES + 1
        pending = pending[1 - _MARKER_BYTES :]
    return end - start


def _block_rows(file: bytes) -> list[dict[str, Any]]:
    """Return the records of one block, given as a file of its own to isolate failures.

    Raises:
        Exception: Of any type, if the block cannot be decompressed or decoded to its end.
    """
    import fastavro

    reader = fastavro.block_reader(io.BytesIO(file), handle_unicode_errors="surrogateescape")
    blocks: list[Any] = [*reader]  # fastavro's stubs lack the attributes of a block
    (block,) = blocks
    # A Snappy block ends with a checksum, which fastavro does not verify.
    checksum = zlib.crc32(block.bytes_.getvalue()).to_bytes(4, "big")
    if block.codec == "snappy" and file[-_MARKER_BYTES - 4 : -_MARKER_BYTES] != checksum:
        raise ValueError("its checksum does not match")
    rows = [*block]
    if more := len(block.bytes_.read()):
        raise ValueError(f"{more} bytes follow its last record")
    return rows


def _avro_row(partition: Partition, row: dict[str, Any], number: int) -> Document | Dropped:
    size = sum(len(value) for value in row.values() if isinstance(value, (str, bytes)))
    return schemas.to_document(partition.corpus, row, escape_path(partition.source), number, size)
