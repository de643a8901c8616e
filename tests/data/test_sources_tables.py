"""Parquet and Avro as people have them: every codec, any cell, and what damage costs."""

import io
import struct

import fastavro
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from pyarrow.parquet import encryption

from codegen_pax.data.format.documents import Dropped
from codegen_pax.data.sources import errors, tables
from tests.data.read_inputs import read_all

ROWS = [{"content": f"x = {n}\n" * 9, "path": f"{n % 7}.py", "license": "mit"} for n in range(600)]
FIELDS = [{"name": name, "type": "string"} for name in ROWS[0]]
SCHEMA = {"type": "record", "name": "file", "fields": FIELDS}


def texts(actual):
    return [one.rule if isinstance(one, Dropped) else one.text for one in actual]


def avro(path, rows=ROWS, codec="null", sync_interval=2_000):
    with path.open("wb") as file:
        fastavro.writer(file, SCHEMA, rows, codec=codec, sync_interval=sync_interval)
    return path.read_bytes()


# Those of the Avro 1.12 specification, and lz4.
@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "snappy", "xz", "zstandard", "lz4"])
def test_avro_in_every_codec(tmp_path, codec):
    avro(tmp_path / "a.avro", codec=codec)
    assert texts(read_all("bigquery", tmp_path / "a.avro")) == [row["content"] for row in ROWS]
    assert codec in tables.AVRO_CODECS


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
def test_parquet_in_every_codec(tmp_path, codec):
    parquet.write_table(
        pyarrow.Table.from_pylist(ROWS),
        tmp_path / "a.parquet",
        compression=codec,
        row_group_size=99,
    )
    assert texts(read_all("bigquery", tmp_path / "a.parquet")) == [row["content"] for row in ROWS]


def of_codec(number):
    """A Parquet file of one page a column that says its codec is `number`; nothing is packed."""
    sink = io.BytesIO()
    table = pyarrow.table({"content": ["x = 1\n"], "path": ["a.py"]})
    parquet.write_table(table, sink, compression="snappy", use_dictionary=False)
    message = b"\x15\x02\x16\x02\x16"  # codec 1, one value
    assert sink.getvalue().count(message) == 2
    return sink.getvalue().replace(message, bytes([0x15, 2 * number, 0x16, 2, 0x16]))


def test_a_codec_that_the_libraries_lack_is_named(tmp_path):
    (tmp_path / "a.parquet").write_bytes(of_codec(3))
    data = avro(tmp_path / "a.avro")
    (tmp_path / "a.avro").write_bytes(
        data.replace(b"\x14avro.codec\x08null", b"\x14avro.codec\x06lzo")
    )
    for name in ("a.parquet", "a.avro"):
        with pytest.raises(
            errors.UnreadableInputError, match=rf"(?i){name} cannot be.*lzo"
        ) as message:
            read_all("bigquery", tmp_path / name)
        assert "damaged" not in str(message.value) and "zstd" in str(message.value)


def test_a_library_that_is_not_installed_is_named(tmp_path, monkeypatch):
    avro(tmp_path / "a.avro", codec="snappy")

    def missing(*arguments, **options):
        raise ValueError("snappy codec is supported but you need to install cramjam")

    monkeypatch.setattr(fastavro, "block_reader", missing)
    with pytest.raises(errors.UnreadableInputError, match=r"a.avro cannot .* install cramjam"):
        read_all("bigquery", tmp_path / "a.avro")


def text(values):
    """Strings that need not be UTF-8, as a damaged writer leaves them."""
    actual = pyarrow.array(values, pyarrow.binary())
    return pyarrow.Array.from_buffers(pyarrow.string(), len(values), actual.buffers())


BAD = text([b"mit", b"\xff", b"isc"])
ONE_EACH = pyarrow.array([0, 1, 2, 3], pyarrow.int32())
PLACES = pyarrow.array([0, 1, 2], pyarrow.int32())
NAMES = text([b"spdx_id"] * 3)
LICENCES = {
    "plain": BAD,
    "dictionary": pyarrow.DictionaryArray.from_arrays(PLACES, BAD),
    "list": pyarrow.ListArray.from_arrays(ONE_EACH, BAD),
    "category": pyarrow.DictionaryArray.from_arrays(PLACES.cast(pyarrow.int8()), BAD),
    "list of dictionary": pyarrow.ListArray.from_arrays(
        ONE_EACH, pyarrow.DictionaryArray.from_arrays(PLACES, BAD)
    ),
    "struct": pyarrow.StructArray.from_arrays([BAD, NAMES], ["key", "url"]),
    "map": pyarrow.MapArray.from_arrays(ONE_EACH, NAMES, BAD),
}


@pytest.mark.parametrize("kind", LICENCES)
def test_a_broken_cell_costs_its_row_and_no_other(tmp_path, kind):
    contents = text([b"x = 1\n", b"y = 2\n", b"\xff\n"])
    columns = {
        "content": pyarrow.DictionaryArray.from_arrays(PLACES, contents),
        "path": text([b"a.py", b"b\xff.py", b"c.py"]),
        "license": LICENCES[kind],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    first, second, third = read_all("bigquery", tmp_path / "a.parquet")
    assert (first.text, first.path, first.licence) == ("x = 1\n", "a.py", "mit")
    assert (second.text, second.path, second.licence) == ("y = 2\n", r"b\xff.py", "\ufffd")
    assert third.rule == "invalid_utf8"


def test_text_is_text_whatever_encoding_a_source_in_it_names(tmp_path):
    source = "# -*- coding: latin-1 -*-\n'\xe9'\n"
    bytes_of_files = pyarrow.array([source.encode("latin-1")])
    for column in (pyarrow.array([source]), bytes_of_files):
        parquet.write_table(
            pyarrow.table({"content": column, "path": ["a.py"]}), tmp_path / "a.parquet"
        )
        assert texts(read_all("bigquery", tmp_path / "a.parquet")) == [source]


@pytest.mark.parametrize("has_plain_footer", [True, False])
def test_an_encrypted_table_is_not_called_damaged(tmp_path, has_plain_footer):
    class Keys(encryption.KmsClient):
        def __init__(self, config):
            super().__init__()

        def wrap_key(self, key, name):
            return key.hex()

    how = encryption.EncryptionConfiguration(
        footer_key="k", column_keys={"k": ["content"]}, plaintext_footer=has_plain_footer
    )
    keys = encryption.CryptoFactory(Keys)
    secret = keys.file_encryption_properties(encryption.KmsConnectionConfig(), how)
    path, table = tmp_path / "a.parquet", pyarrow.Table.from_pylist(ROWS)
    with parquet.ParquetWriter(path, table.schema, encryption_properties=secret) as writer:
        writer.write_table(table)
    with pytest.raises(errors.UnreadableInputError, match=r"a\.parquet is encrypted: write it"):
        read_all("bigquery", path)


def test_a_broken_string_of_avro_costs_its_row(tmp_path):
    data = avro(tmp_path / "a.avro", ROWS[:3], sync_interval=1 << 20)
    broken = data.replace(b"x = 1\n" * 9, b"\xff = 1\n" + b"x = 1\n" * 8)
    (tmp_path / "a.avro").write_bytes(broken)
    expected = [ROWS[0]["content"], "invalid_utf8", ROWS[2]["content"]]
    assert texts(read_all("bigquery", tmp_path / "a.avro")) == expected


def test_a_damaged_page_costs_the_rest_of_its_row_group(tmp_path):
    path = tmp_path / "a.parquet"
    table = pyarrow.Table.from_pylist(ROWS)
    parquet.write_table(
        table, path, row_group_size=100, use_dictionary=False, write_page_checksum=True
    )
    column = parquet.ParquetFile(path).metadata.row_group(2).column(0)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 9] ^= 0xFF
    path.write_bytes(data)
    actual = read_all("bigquery", path)
    assert texts(actual) == [
        "damaged" if 200 <= number < 300 else row["content"] for number, row in enumerate(ROWS)
    ]
    assert [one.record for one in actual] == list(range(600))
    assert actual[200].damage.startswith("row group 2: ")


@pytest.mark.parametrize("place", ["body", "count", "size", "marker"])
@pytest.mark.parametrize("codec", ["snappy", "bzip2"])
def test_a_damaged_block_of_avro_costs_itself(tmp_path, codec, place):
    data = bytearray(avro(tmp_path / "a.avro", codec=codec, sync_interval=10_000))
    marker = bytes(data[-16:])
    start = data.index(marker, data.index(marker) + 1) + 16  # of the second block
    size = next(n for n in range(start, start + 9) if data[n] < 0x80) + 1  # behind the count
    end = data.index(marker, start)
    data[{"count": start, "size": size, "body": start + 99, "marker": end}[place]] ^= 0x42
    (tmp_path / "a.avro").write_bytes(data)
    actual = read_all("bigquery", tmp_path / "a.avro")
    damaged = [one for one in actual if isinstance(one, Dropped)]
    assert {one.rule for one in damaged} == {"damaged"} and all(one.damage for one in damaged)
    lost = [row["content"] for row in ROWS if row["content"] not in texts(actual)]
    first = int(lost[0][4:].split("\n")[0])
    assert lost == [row["content"] for row in ROWS[first : first + len(lost)]]
    assert 0 < len(lost) < 600 - 2 * (600 // 7) and len(damaged) <= 2


def whole(name):
    """A small file of 60 rows in several row groups or blocks."""
    sink = io.BytesIO()
    if name == "a.avro":
        fastavro.writer(sink, SCHEMA, ROWS[:60], codec="deflate", sync_interval=500)
    else:
        table = pyarrow.Table.from_pylist(ROWS[:60])
        parquet.write_table(table, sink, row_group_size=20, write_page_checksum=True)
    return sink.getvalue()


WHOLE = {name: whole(name) for name in ("a.parquet", "a.avro")}


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(sorted(WHOLE)), st.floats(0, 1, exclude_max=True), st.integers(0, 8))
def test_no_damage_is_worse_than_a_counted_loss(tmp_path_factory, name, where, bit):
    data = bytearray(WHOLE[name])
    place = int(where * len(data))
    data = (
        data[:place]
        if bit == 8
        else data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
    )
    path = tmp_path_factory.mktemp("damage") / name
    path.write_bytes(data)
    try:
        actual = read_all("bigquery", path)
    except errors.UnreadableInputError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return
    if name == "a.parquet":
        assert len(actual) in (0, 60)
    rules = {one.rule for one in actual if isinstance(one, Dropped)}
    assert rules <= {"damaged", "invalid_utf8", "nul_bytes", "null_content"}


def test_hadoops_lz4_is_read(tmp_path):
    """LZ4's first form in Parquet, which only Hadoop writes: the last page is packed by hand."""
    sink = io.BytesIO()
    table = pyarrow.table({"path": ["a.py"], "content": ["x = 1\n"]})
    plain = {"use_dictionary": False, "write_statistics": False, "store_schema": False}
    parquet.write_table(table, sink, compression="none", **plain)
    page = b"\x02\0\0\0\x02\x01" + struct.pack("<i", 6) + b"x = 1\n"  # it is there, and is this
    run = bytes([0xF0, len(page) - 15]) + page  # LZ4: a run of literals
    packed = struct.pack(">ii", len(page), len(run)) + run
    data, more = sink.getvalue(), 2 * (len(packed) - len(page))  # numbers are in zigzag
    for old, new in (
        (page, packed),
        (b"\x15\0\x15\x20\x15\x20,", b"\x15\0\x15\x20\x15" + bytes([0x20 + more]) + b","),
        (
            b"content\x15\0\x16\x02\x16\x46\x16\x46",  # codec 0, one value, bytes plain and packed
            b"content\x15\x0a\x16\x02\x16\x46\x16" + bytes([0x46 + more]),
        ),
    ):
        assert data.count(old) == 1
        data = data.replace(old, new)
    (tmp_path / "a.parquet").write_bytes(data)
    assert texts(read_all("bigquery", tmp_path / "a.parquet")) == ["x = 1\n"]
