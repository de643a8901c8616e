"""The rows of tables, Parquet and Avro, as documents.

The memory it takes is that of `_ROWS` rows of a Parquet file, or of one block of an Avro file.
"""

from __future__ import annotations

from collections.abc import Iterator

from codegen_pax.corpus.documents import Document, Dropped
from codegen_pax.corpus.raw import records
from codegen_pax.corpus.raw.inputs import DamagedInputError
from codegen_pax.corpus.raw.splits import Split
from codegen_pax.corpus.raw.storage import open_file

_ROWS = 256  # held at once


def parquet(split: Split) -> Iterator[Document | Dropped]:
    """The rows of some row groups of a Parquet file; errors as `read.documents` has them."""
    import pyarrow
    from pyarrow import parquet as pyarrow_parquet

    if not split.size:
        return
    with open_file(split.source) as file:
        try:
            table = pyarrow_parquet.ParquetFile(file, page_checksum_verification=True)
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


def avro(split: Split) -> Iterator[Document | Dropped]:
    """The records of an Avro file; errors as `read.documents` has them."""
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
