"""The documents of a split, one after another."""

from __future__ import annotations

import json
from collections.abc import Iterator

from codegen_pax.corpus.documents import Document, Dropped
from codegen_pax.corpus.raw import records
from codegen_pax.corpus.raw.inputs import TABLES, DamagedInputError
from codegen_pax.corpus.raw.lines import lines
from codegen_pax.corpus.raw.splits import Split
from codegen_pax.corpus.raw.storage import open_file
from codegen_pax.errors import InvalidValueError

_ROWS = 256  # of a table, held at once
# The rules by which a record may be one of another kind of file, not a damaged one of this kind.
UNREADABLE = frozenset({"missing_field", "malformed_json", "wrong_type"})
_EXAMPLE = 80  # bytes of a line that is shown
_BINARY_PROBE = 8_000  # bytes; a NUL among them is what git calls binary


def documents(split: Split) -> Iterator[Document | Dropped]:
    """Every record of a split, in order, as a document or as why it is none.

    The memory it takes is that of one document, of `_ROWS` rows of a Parquet file, or of one block
    of an Avro file.

    Raises:
      DamagedInputError: the input ends early or is not what its name says.
      ValueError: a table in which a column that is needed is missing or holds no text.
    """
    if split.corpus == "tree":
        return _tree(split)
    if split.source.endswith(".parquet"):
        return _parquet(split)
    return _avro(split) if split.source.endswith(".avro") else _json_lines(split)


def _json_lines(split: Split) -> Iterator[Document | Dropped]:
    for number, size, line in lines(split.source, split.start, split.end):
        if line is None:
            yield Dropped("line_too_long", size, split.source, number)
            continue
        if line.strip():
            yield _json_line(split, number, size, line)


def check(corpus: str, source: str, readable: int, unreadable: int) -> None:
    """Raises ValueError for JSON lines of which not one has the fields that are needed.

    Args:
      corpus: what the input is read as.
      source: the input, as a whole: a piece of it may well hold nothing but one damaged line.
      readable: its records, documents or not.
      unreadable: those that are dropped by one of `UNREADABLE`.
    """
    if readable or not unreadable or source.endswith(TABLES):  # a table has columns, or an error
        return
    first = next((line for _, _, line in lines(source) if line and line.strip()), b"")
    wanted = {"pile": "text", "instruction": "instruction and output, or messages"}
    raise InvalidValueError(
        f"{source} holds nothing to read: all {unreadable:,} lines lack what was wanted"
        f" ({wanted.get(corpus, ' and '.join(records.REQUIRED))}); the first is"
        f" {first[:_EXAMPLE].decode('utf-8', 'replace')!r}"
    )


def _json_line(split: Split, number: int, size: int, line: bytes) -> Document | Dropped:
    if b"\0" in line:  # JSON has no place for it; a disk that failed leaves files of nothing else
        return Dropped("nul_bytes", size, split.source, number)
    try:
        record = json.loads(line)
    except UnicodeDecodeError:
        return Dropped("invalid_utf8", size, split.source, number)
    except (ValueError, RecursionError):
        return Dropped("malformed_json", size, split.source, number)
    return records.document(split.corpus, record, split.source, number, size)


def _parquet(split: Split) -> Iterator[Document | Dropped]:
    import pyarrow
    from pyarrow import parquet

    if not split.size:
        return
    with open_file(split.source) as file:
        try:
            table = parquet.ParquetFile(file, page_checksum_verification=True)
            schema = {field.name: _value_type(field.type) for field in table.schema_arrow}
            spelling = records.columns(schema, split.source)
            first = sum(table.metadata.row_group(n).num_rows for n in range(split.start))
            batches = table.iter_batches(
                batch_size=_ROWS,
                row_groups=list(range(split.start, split.end)),
                columns=list(spelling.values()),
                use_threads=False,
            )
            for batch in batches:
                # As bytes: for one string that is not UTF-8 pyarrow would fail on the whole batch.
                for row in batch.cast(_as_bytes(batch.schema)).to_pylist():
                    content = row[spelling["content"]]
                    size = len(content) if isinstance(content, bytes) else 0
                    row = {
                        name: value if name == spelling["content"] else _lenient(value)
                        for name, value in row.items()
                    }
                    yield records.document(split.corpus, row, split.source, first, size)
                    first += 1
        except (pyarrow.ArrowException, OSError) as error:
            raise DamagedInputError(split.source, error) from error


def _as_bytes(schema):
    """A pyarrow schema with its strings as bytes."""
    import pyarrow

    def plain(field):
        is_text = pyarrow.types.is_string(field.type) or pyarrow.types.is_large_string(field.type)
        return field.with_type(pyarrow.large_binary()) if is_text else field

    return pyarrow.schema([plain(field) for field in schema])


def _value_type(found) -> str:
    """The name of a pyarrow type; of a dictionary's values."""
    import pyarrow

    return str(found.value_type if pyarrow.types.is_dictionary(found) else found)


def _avro_type(found: object) -> str:
    """The name of an Avro type; of a union, of what is not null in it."""
    if isinstance(found, list):
        return " or ".join(_avro_type(one) for one in found if one != "null")
    return str(found.get("type")) if isinstance(found, dict) else str(found)


def _lenient(value: object) -> object:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _avro(split: Split) -> Iterator[Document | Dropped]:
    import fastavro

    if not split.size:
        return
    with open_file(split.source) as file:
        number = 0
        try:
            rows = fastavro.reader(file)
            fields = rows.writer_schema.get("fields", ())
            schema = {field["name"]: _avro_type(field["type"]) for field in fields}
        except Exception as error:  # of many kinds, none of them a common one
            raise DamagedInputError(split.source, f"no Avro: {error!r}") from error
        records.columns(schema, split.source)
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except Exception as error:
                raise DamagedInputError(split.source, f"record {number}: {error!r}") from error
            size = sum(len(value) for value in row.values() if isinstance(value, (str, bytes)))
            yield records.document(split.corpus, row, split.source, number, size)
            number += 1


def _tree(split: Split) -> Iterator[Document | Dropped]:
    root = split.source
    for file in split.files:
        with open_file(f"{root}/{file.path}") as content:
            raw = content.read(records.MAX_DOCUMENT_BYTES + 1)
        source = f"{root}/{file.path}"
        if b"\0" in raw[:_BINARY_PROBE]:
            yield Dropped("binary", file.size, source, 0)
            continue
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            rule = "document_too_large" if len(raw) > records.MAX_DOCUMENT_BYTES else "invalid_utf8"
            yield Dropped(rule, file.size, source, 0)
            continue
        name = root.rstrip("/").rpartition("/")[2]
        repository = f"{name}/{file.repository}" if file.repository else name
        path = file.path[len(file.repository) :].lstrip("/")
        found = Document(text, source, 0, path=path, repository=repository)
        rule = records.unusable(found)
        yield Dropped(rule, file.size, source, 0) if rule else found
