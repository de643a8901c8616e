"""The rows of tables, Parquet and Avro, as documents.

What is damaged costs as little as the formats allow: a cell that is no UTF-8 its row; a page of
Parquet the rest of its row group, each row counted; a block of Avro that block, counted once. Only
a file whose footer or header cannot be read is lost as a whole. The memory it takes is that of
`_ROWS` rows of a Parquet file, or of one block of an Avro file.
"""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from codegen_pax.data.format.documents import Document, Dropped
from codegen_pax.data.sources import paths, schemas
from codegen_pax.data.sources.errors import DamagedInputError, UnreadableInputError
from codegen_pax.data.sources.partitions import Partition
from codegen_pax.data.sources.storage import UnreachableError, open_file
from codegen_pax.errors import is_from_the_system

DAMAGED = "damaged"  # the rule that drops what cannot be unpacked or decoded

# Of the specification, and lz4, which fastavro adds.
AVRO_CODECS = ("null", "deflate", "bzip2", "snappy", "xz", "zstandard", "lz4")

_ROWS = 256  # held at once
_MAX_BLOCK_BYTES = 256 << 20  # ours, of Avro: some four times the longest record that is read
_MARKER_BYTES = 16
_PARQUET, _ENCRYPTED = b"PAR1", b"PARE"  # how files begin and end
_TAIL_BYTES = 8  # of a Parquet file: its footer's length, and how it ends
_CHUNK = 1 << 20


def parquet(partition: Partition) -> Iterator[Document | Dropped]:
    """The rows of some row groups of a Parquet file; errors as `read.documents` has them."""
    if not partition.size:
        return
    with open_file(partition.source) as file:
        table, schema = _opened(file, partition.source)
        spelling = schemas.columns(schema, partition.source)
        is_text = schema[spelling["content"]] == "string"
        sizes = [table.metadata.row_group(n).num_rows for n in range(table.num_row_groups)]
        number = sum(sizes[: partition.start])
        for group in range(partition.start, len(sizes) if partition.end is None else partition.end):
            end = number + sizes[group]
            damage = ""
            try:
                for row in _group_rows(table, group, [*spelling.values()]):
                    yield _parquet_row(partition, row, spelling["content"], is_text, number)
                    number += 1
            except Exception as error:  # pyarrow's kinds, and MemoryError for a size that is wrong
                if _is_not_supported(error):
                    raise _not_unpacked(partition.source, error) from error
                if "decrypt" in str(error):
                    raise _encrypted(partition.source) from error
                damage = _damage(error, f"row group {group}")
            while number < end:
                yield Dropped(DAMAGED, 0, paths.shown(partition.source), number, damage)
                number += 1


def _opened(file: BinaryIO, source: str) -> tuple[Any, dict[str, str]]:
    """A `pyarrow.parquet.ParquetFile` whose footer makes sense, and the type of each column."""
    from pyarrow import parquet as pyarrow_parquet

    try:
        footer = _footer(file)
        if footer.endswith(_ENCRYPTED):
            raise _encrypted(source)
        metadata = pyarrow_parquet.read_metadata(io.BytesIO(footer))
        table = pyarrow_parquet.ParquetFile(
            file, metadata=metadata, page_checksum_verification=True
        )
        # Nothing is asked of a column: where its metadata is damaged pyarrow aborts the process.
        sizes = [table.metadata.row_group(n).num_rows for n in range(table.num_row_groups)]
        schema = {field.name: _value_type(field.type) for field in table.schema_arrow}
    except UnreadableInputError:
        raise
    except Exception as error:  # a damaged footer may raise nearly anything
        raise DamagedInputError(source, _damage(error, "its footer")) from error
    if min(sizes, default=0) < 0 or sum(sizes) != table.metadata.num_rows:
        raise DamagedInputError(source, "its row groups do not add up to its rows")
    return table, schema


def _footer(file: BinaryIO) -> bytes:
    """A Parquet file without its rows, and without what the Arrow that wrote it had in memory.

    pyarrow would make that of the rows again, and gives up a row group for one broken string in a
    dictionary of another width than its own, as a category of pandas is.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read(_TAIL_BYTES)
    start = max(0, size - _TAIL_BYTES - int.from_bytes(tail[:4], "little"))
    file.seek(start)
    content = file.read(size - _TAIL_BYTES - start)
    return _PARQUET + content.replace(b"ARROW:schema", b"arrow.schema") + tail


def _is_not_supported(error: Exception) -> bool:
    """Whether pyarrow does not read what is there, as LZO, though it may be all right."""
    import pyarrow

    return isinstance(error, pyarrow.ArrowNotImplementedError) or "not supported" in str(error)


def _not_unpacked(source: str, found: object) -> UnreadableInputError:
    what = str(found).partition("\n")[0].rstrip(".")
    return UnreadableInputError(
        f"{paths.shown(source)} cannot be unpacked here ({what}): wanted it written again with"
        " another codec (zstd, say), or left out of --input"
    )


def _encrypted(source: str) -> UnreadableInputError:
    return UnreadableInputError(
        f"{paths.shown(source)} is encrypted: wanted it written again without, or left out of"
        " --input"
    )


def _damage(error: Exception, where: str) -> str:
    """What is damaged, in one line; raises what is no damage but the machine's or the network's."""
    if isinstance(error, UnreachableError):
        raise error
    if isinstance(error, OSError) and error.errno is not None and is_from_the_system(error):
        raise error
    what = str(error).partition("\n")[0] or type(error).__name__
    return f"{where}: {what}"


def _group_rows(table, group: int, columns: list[str]) -> Iterator[dict[str, Any]]:
    batches = table.iter_batches(
        batch_size=_ROWS, row_groups=[group], columns=columns, use_threads=False
    )
    for batch in batches:
        cells = [_cells(column) for column in batch.columns]
        for row in zip(*cells, strict=True):
            yield dict(zip(batch.schema.names, row, strict=True))


def _cells(column) -> list:
    """The values of a pyarrow array, text as bytes: one string may be no UTF-8."""
    import pyarrow

    if isinstance(column, pyarrow.ExtensionArray):
        column = column.storage
    try:
        return column.cast(_as_bytes(column.type)).to_pylist()
    except (pyarrow.ArrowException, UnicodeDecodeError):
        return [_cell(value) for value in column]


def _cell(value) -> object:
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        return error.object  # the bytes


def _as_bytes(found):
    """A pyarrow type with its strings as bytes."""
    import pyarrow
    from pyarrow import types

    if types.is_string(found):
        return pyarrow.large_binary()
    if types.is_list(found):
        return pyarrow.list_(_as_bytes(found.value_type))
    if types.is_struct(found):
        return pyarrow.struct([field.with_type(_as_bytes(field.type)) for field in found])
    if types.is_map(found):
        return pyarrow.map_(_as_bytes(found.key_type), _as_bytes(found.item_type))
    return found


def _value_type(found) -> str:
    """The name of a pyarrow type; of what an extension stores."""
    import pyarrow

    is_extension = isinstance(found, pyarrow.BaseExtensionType)
    return str(found.storage_type if is_extension else found)


def _parquet_row(
    partition: Partition, row: dict, content: str, is_text: bool, number: int
) -> Document | Dropped:
    value = row[content]
    size = len(value) if isinstance(value, bytes) else 0
    if is_text and size:  # UTF-8, whatever a source in it says of the file that it once was
        with contextlib.suppress(UnicodeDecodeError):
            row[content] = value.decode()
    return schemas.document(partition.corpus, row, paths.shown(partition.source), number, size)


def avro(partition: Partition) -> Iterator[Document | Dropped]:
    """The records of an Avro file; errors as `read.documents` has them."""
    if not partition.size:
        return
    with open_file(partition.source) as file:
        header, schema = _avro_header(file, partition.source)
        schemas.columns(schema, partition.source)
        number = 0
        for block, size in _blocks(file, header[-_MARKER_BYTES:], len(header), partition.size):
            damage = "a block lacks its end"
            if block is not None:
                try:
                    rows = _block_rows(header + block)
                except Exception as error:  # of many kinds, none of them a common one
                    if "need to install" in str(error):
                        raise _not_unpacked(partition.source, error) from error
                    damage = _damage(error, f"the block after record {number}")
                else:
                    for row in rows:
                        yield _avro_row(partition, row, number)
                        number += 1
                    continue
            yield Dropped(DAMAGED, size, paths.shown(partition.source), number, damage)
            number += 1


def _avro_header(file: BinaryIO, source: str) -> tuple[bytes, dict[str, str]]:
    """The bytes before the first block, and the type of each field."""
    import fastavro

    try:
        found = fastavro.reader(file)
        codec = found.metadata.get("avro.codec", "null")
        fields = found.writer_schema
        fields = fields.get("fields", ()) if isinstance(fields, dict) else ()
        schema = {field["name"]: _avro_type(field["type"]) for field in fields}
        size = file.tell()
        file.seek(0)
        header = file.read(size)
    except Exception as error:  # of many kinds, none of them a common one
        raise DamagedInputError(source, f"no Avro: {_damage(error, 'its header')}") from error
    if codec not in AVRO_CODECS:
        raise _not_unpacked(source, f"found codec {codec!r}, wanted {', '.join(AVRO_CODECS)}")
    return header, schema


def _avro_type(found: object) -> str:
    """The name of an Avro type; of a union, of what is not null in it."""
    if isinstance(found, list):
        return " or ".join(_avro_type(one) for one in found if one != "null") or "null"
    return str(found.get("type")) if isinstance(found, dict) else str(found)


def _blocks(
    file: BinaryIO, marker: bytes, start: int, end: int
) -> Iterator[tuple[bytes | None, int]]:
    """(block with its marker, bytes) of an Avro file whose header was read.

    The block is None for bytes without a whole one, up to the next marker or the end of the file.
    """
    while start < end:
        block = _block(file, marker, end - start)
        size = len(block) if block else _to_marker(file, marker, start, end)
        yield block, size
        start += size


def _block(file: BinaryIO, marker: bytes, at_most: int) -> bytes | None:
    """A block as it lies in a file: its number of records, its size, its bytes, the marker."""
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
    if not 0 <= size <= min(at_most, _MAX_BLOCK_BYTES):
        return None
    body = file.read(size + _MARKER_BYTES)
    return bytes(head) + body if body[size:] == marker else None


def _to_marker(file: BinaryIO, marker: bytes, start: int, end: int) -> int:
    """Bytes from `start` to behind the next marker, where the file is then, or to the end."""
    file.seek(start)
    held, at = b"", start
    while chunk := file.read(_CHUNK):
        held += chunk
        if (place := held.find(marker)) >= 0:
            file.seek(at + place + _MARKER_BYTES)
            return at + place + _MARKER_BYTES - start
        at += len(held) - _MARKER_BYTES + 1
        held = held[1 - _MARKER_BYTES :]
    return end - start


def _block_rows(file: bytes) -> list[dict[str, Any]]:
    """The records of a block, which is a file of its own: what fails in it ends no other.

    Raises any exception if it cannot be unpacked or decoded, to its end.
    """
    import fastavro

    (block,) = fastavro.block_reader(io.BytesIO(file), handle_unicode_errors="surrogateescape")
    # Snappy's blocks end with a checksum, which fastavro does not look at.
    checksum = zlib.crc32(block.bytes_.getvalue()).to_bytes(4, "big")
    if block.codec == "snappy" and file[-_MARKER_BYTES - 4 : -_MARKER_BYTES] != checksum:
        raise ValueError("its checksum is another")
    rows = [*block]
    if more := len(block.bytes_.read()):
        raise ValueError(f"{more} bytes are behind its last record")
    return rows


def _avro_row(partition: Partition, row: dict, number: int) -> Document | Dropped:
    size = sum(len(value) for value in row.values() if isinstance(value, (str, bytes)))
    return schemas.document(partition.corpus, row, paths.shown(partition.source), number, size)
