"""Files that are something else than their name says, and the encodings of source code."""

import codecs
import gzip
import json
import lzma
import pickle

import pytest
import zstandard

from codegen_pax import git_lfs
from codegen_pax.data.format.documents import Document
from codegen_pax.data.sources import (
    errors,
    json_records,
    schemas,
    sniffing,
)
from tests.data.read_inputs import read_all

PAIRS = [{"instruction": f"Add {n} to {n}.", "output": f"{2 * n}"} for n in range(40)]
POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
JSON = json.dumps(PAIRS).encode()
LINES = "".join(json.dumps(pair) + "\n" for pair in PAIRS).encode()
FOREIGN = {
    "a.jsonl": (POINTER.encode(), "a git-LFS pointer; `git lfs pull`"),
    "b.jsonl": (gzip.compress(LINES), "gzip; name it .gz"),
    "c.json": (zstandard.ZstdCompressor().compress(LINES), "Zstandard; name it .zst"),
    "d.jsonl": (b"PK\x03\x04" + bytes(99), "a zip archive; unpack it"),
    "d.json": (b"a.json".ljust(257, b"\0") + b"ustar" + bytes(9_000), "a tar archive; unpack it"),
    "e.jsonl": (lzma.compress(LINES), "xz; unpack it"),
    "e.json": (lzma.compress(LINES, lzma.FORMAT_ALONE), "LZMA; unpack it"),
    "f.json": (LINES.decode().encode("utf-16"), "UTF-16 text; write it as UTF-8"),
    "g.jsonl": (LINES.decode().encode("utf-16-le"), "UTF-16 text"),
    "h.jsonl": (LINES.decode().encode("utf-16-be"), "UTF-16 text"),
    "i.jsonl": (JSON.decode().encode("utf-32"), "UTF-32 text"),
    "j.jsonl": (JSON.decode().encode("utf-32-be"), "UTF-32 text"),
    "k.json": (b"\n<!DOCTYPE html>\n<html lang=en><body>Not found", "an HTML page; fetch it again"),
    "l.json": (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "XML or HTML"),
    "m.jsonl": (b'instruction,output\na,b\n"c, d",e\n', "comma-separated values"),
    "n.jsonl": (b"instruction\toutput\na\tb\nc, d\te\n", "tab-separated values"),
    "o.jsonl": (b"{'instruction': 'a', 'output': 'b'}\n" * 3, "Python's own notation"),
    "p.json": (b"- instruction: a\n  output: b\n", "YAML"),
    "q.json": (pickle.dumps(PAIRS), "a Python pickle"),
    "r.json": (b"PAR1" + bytes(99), "Parquet; name it .parquet"),
    "s.jsonl": (b"Obj\x01" + bytes(99), "Avro; name it .avro"),
    "s.json": (b"ORC" + bytes(99), "ORC; write it as Parquet"),
    "t.json": (json.dumps(LINES.decode()).encode(), "JSON inside strings of JSON; write its rec"),
    "t.jsonl": (b"Dear all,\nhere they are.\n", "plain text; write it as JSON lines"),
    "u.jsonl.gz": (LINES, "JSON; name it without .gz"),
    "v.jsonl.zst": (gzip.compress(LINES), "gzip; name it .gz"),
    "w.jsonl.gz": (POINTER.encode(), "a git-LFS pointer"),
    "x.jsonl.gz": (gzip.compress(gzip.compress(LINES)), "gzip in gzip; unpack it once"),
    "y.jsonl.zst": (b"<html></html>", "an HTML page"),
}


def test_files_that_are_something_else_are_all_named_at_once(tmp_path):
    for name, (content, _) in FOREIGN.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(errors.ForeignInputError) as error:
            read_all("instruction", tmp_path / name)
        message = f"cannot read {tmp_path / name}: it looks like {FOREIGN[name][1]}"
        assert str(error.value).startswith(message)
    (tmp_path / "good.jsonl").write_bytes(LINES)
    with pytest.raises(errors.InputsError, match=r"^29 inputs cannot .*a.jsonl.*; and 19 more$"):
        read_all("instruction", tmp_path)


@pytest.mark.parametrize("name", ["x.parquet", "x.avro"])
def test_tables_that_are_something_else(tmp_path, name):
    path = tmp_path / name
    for content, looks in (
        (POINTER.encode(), "a git-LFS pointer"),
        (LINES, "JSON"),
        (b"<html>", "an HTML"),
    ):
        path.write_bytes(content)
        with pytest.raises(errors.ForeignInputError, match=f"{name}: it looks like {looks}"):
            read_all("bigquery", path)


def test_lines_stay_lines(tmp_path):
    """One damaged line, wherever it is, does not make another layout of a file."""
    good = json.dumps(PAIRS[0]).encode()
    for content in (
        b'{"instruction": "cut\n' + good,
        b"{\n" + good + b"\n" + good,
        good + b"\n}",
        b"[]\n" + good,
        b'{"messages": [{"role": "user"}]}\n' * 2,
        b'{"instruction": "a", "output": "b", "data": [{"c": 1}]}\n' * 2,
        b"not JSON\n" + good,
        b"\xef\xbb\xbf" + good,
    ):
        (tmp_path / "x.jsonl").write_bytes(content)
        assert sniffing.json_framing(str(tmp_path / "x.jsonl")) == sniffing.Framing.LINES, content
    long = b'{"text": "' + b"x" * (2 << 20) + b'"}\n'
    (tmp_path / "x.jsonl").write_bytes(long * 2)
    assert sniffing.json_framing(str(tmp_path / "x.jsonl")) == sniffing.Framing.LINES
    assert len(list(json_records.lines(str(tmp_path / "x.jsonl")))) == 2


READ = {
    "plain": ("a.py", b"x = '\xc3\xa9'\n", "x = 'é'\n"),
    "a mark": ("a.py", b"\xef\xbb\xbfx = 1\n", "x = 1\n"),
    "a mark of another language": ("a.go", b"\xef\xbb\xbfpackage a\n", "package a\n"),
    "a mark and what agrees": ("a.py", b"\xef\xbb\xbf# coding: utf-8\n", "# coding: utf-8\n"),
    "latin-1": ("a.py", b"# -*- coding: latin-1 -*-\n'\xe9'\n", "# -*- coding: latin-1 -*-\n'é'\n"),
    "in the second line": (
        "a.py",
        b"#!/bin/x\n# vim: set fileencoding=koi8-r :\n'\xc1'\n",
        "#!/bin/x\n# vim: set fileencoding=koi8-r :\n'а'\n",
    ),
    "of two bytes": ("a.pyi", b"# coding=gbk\n'\xc4\xe3'\n", "# coding=gbk\n'你'\n"),
    "shift_jis": ("a.PY", b"# coding: shift_jis\n'\x83\x5c'\n", "# coding: shift_jis\n'ソ'\n"),
    "a script without an ending": (
        "bin/run",
        b"#!/usr/bin/env python3\n#coding:cp1252\n'\x80'\n",
        "#!/usr/bin/env python3\n#coding:cp1252\n'€'\n",
    ),
    "utf-16": ("a.cs", codecs.BOM_UTF16_LE + "é\n".encode("utf-16-le"), "é\n"),
    "utf-16, big end first": ("a.py", codecs.BOM_UTF16_BE + "x\n".encode("utf-16-be"), "x\n"),
    "utf-32": ("a.js", codecs.BOM_UTF32_LE + "x\n".encode("utf-32-le"), "x\n"),
    "utf-32, big end first": ("a.js", codecs.BOM_UTF32_BE + "x\n".encode("utf-32-be"), "x\n"),
    "Cython": ("a.pyx", b"# coding: latin-1\n'\xe9'\n", "# coding: latin-1\n'é'\n"),
    "lines of an old Mac": ("a.py", b"\r# coding: latin-1\r'\xe9'\r", "\r# coding: latin-1\r'é'\r"),
    "too late to count": ("a.py", b"x = 1\n\n# coding: latin-1\n", "x = 1\n\n# coding: latin-1\n"),
    "empty": ("a.py", b"", ""),
    "a mark alone": ("a.py", b"\xef\xbb\xbf", ""),
}
REFUSED = {
    "unknown_encoding": [
        b"# coding: nope\n",
        b"# coding: rot13\n",
        b"# coding: zlib\n",
        b"# coding: hex\n",
        b"# coding: idna\n",
        b"# coding: " + b"x" * 999 + b"\n",
    ],
    "contradictory_encoding": [
        b"\xef\xbb\xbf# coding: latin-1\n",
        b"# coding: cp037\n",
        b"# coding: utf-16\nx",
    ],
    "invalid_encoding": [
        b"# coding: ascii\n\xe9",
        b"# coding: gbk\n\xff",
        b"# coding: utf-16\nxx",
        codecs.BOM_UTF16_LE + b"x",
    ],
    "invalid_utf8": [
        b"\xe9\n",
        b"x = 1\n\n# coding: latin-1\n'\xe9'\n",
        b"# \xe9\n# coding: latin-1\n",
        b"# coding: utf-8\n\xe9",
        b"\xef\xbb\xbf\xe9",
    ],
}


@pytest.mark.parametrize("name", READ)
def test_files_are_read_in_the_encoding_that_they_say(name):
    path, raw, expected = READ[name]
    assert sniffing.decode_source(raw, path) == expected


@pytest.mark.parametrize("rule", REFUSED)
def test_encodings_that_cannot_be_are_refused_under_a_rule(rule):
    for raw in REFUSED[rule]:
        with pytest.raises(sniffing.EncodingError, match=f"^{rule}$"):
            sniffing.decode_source(raw, "a.py")


def test_other_languages_have_no_such_line():
    with pytest.raises(sniffing.EncodingError, match=r"^invalid_utf8$"):
        sniffing.decode_source(b"// coding: latin-1\n'\xe9'", "a.js")


def test_python_refuses_what_is_refused():
    """Python itself compiles what is read, and none of what contradicts itself."""
    names = ["latin-1", "of two bytes", "a mark and what agrees", "lines of an old Mac"]
    for _, raw, _ in map(READ.get, names):
        compile(raw, "a.py", "exec")
    for rule in ("unknown_encoding", "contradictory_encoding"):
        for raw in REFUSED[rule]:
            if b"idna" not in raw:
                with pytest.raises(SyntaxError):
                    compile(raw, "a.py", "exec")


@pytest.mark.parametrize("content", ["\ufeffx = 1\n", b"\xef\xbb\xbfx = 1\n", b"x = 1\n"])
def test_a_mark_in_a_table_is_no_text(content):
    record = {"content": content, "path": "a.py"}
    actual = schemas.to_document("bigquery", record, "t", 0, 1)
    assert actual == Document("x = 1\n", "t", 0, path="a.py")
    if isinstance(content, str):
        assert schemas.to_document("pile", {"text": content}, "t", 0, 1).text == "x = 1\n"


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        (POINTER, True),
        (POINTER.replace("\n", "\r\n"), True),
        (POINTER.replace("git-lfs.github", "hawser.github"), True),
        (POINTER.replace("oid", "ext-0-foo sha256:" + "b" * 64 + "\noid"), True),
        (POINTER.removesuffix("\n"), True),
        (POINTER + "x = 1\n", False),
        (f"# {POINTER}", False),
        (POINTER.partition("oid")[0], False),
        (POINTER + "\n" * 2_000, False),
    ],
)
def test_pointers_of_git_lfs(text, is_one):
    assert git_lfs.is_pointer(text) == is_one
