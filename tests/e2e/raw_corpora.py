"""A small corpus of each kind, in the raw formats that people have them in."""

import json
from pathlib import Path
from pydoc_data.topics import topics

import fastavro
import pyarrow
import zstandard
from pyarrow import parquet

PROGRAMS = {
    "python": ("py", "def step_{n}(x):\n    total = x * {n}\n    return total + {n}\n\n\n"),
    "java": ("java", "class Step{n} {{\n  int run(int x) {{ return x * {n} + {n}; }}\n}}\n\n"),
    "javascript": ("js", "function step{n}(x) {{\n  return x * {n} + {n};\n}}\n\n"),
    "go": ("go", "func Step{n}(x int) int {{\n\treturn x*{n} + {n}\n}}\n\n"),
    "cpp": ("cc", "template <> int step<{n}>(int x) {{ return x * {n} + {n}; }}\n\n"),
    "rust": ("rs", "fn step_{n}(x: i32) -> i32 {{\n    x * {n} + {n}\n}}\n\n"),
}
FILES = 30  # of each language


def write_pile(path: Path) -> None:
    """Prose that Python ships, a topic a document, as `.jsonl.zst`."""
    meta = {"pile_set_name": "Documentation"}
    records = [{"text": text, "meta": meta} for text in topics.values()]
    path.write_bytes(zstandard.ZstdCompressor().compress(_lines(records)))


def _code(languages) -> list[dict]:
    return [
        {
            "content": "".join(program.format(n=number * 40 + step) for step in range(40)),
            "path": f"src/file{number}.{ending}",
            "repo_name": f"owner/{language}{number}",
            "license": "mit",
        }
        for language in languages
        for ending, program in [PROGRAMS[language]]
        for number in range(FILES)
    ]


def write_bigquery(path: Path) -> None:
    """Generated files of six languages, as Parquet."""
    parquet.write_table(pyarrow.Table.from_pylist(_code(PROGRAMS)), path, row_group_size=50)


def write_bigpython(path: Path) -> None:
    """Python files, as Avro."""
    names = ("content", "path", "repo_name", "license")
    fields = [{"name": name, "type": "string"} for name in names]
    with path.open("wb") as file:
        fastavro.writer(
            file, {"type": "record", "name": "file", "fields": fields}, _code(["python"])
        )


def write_instruction(path: Path) -> None:
    """Pairs and conversations, as JSON lines."""
    pairs = [
        {"instruction": f"Add {n} to x.", "input": f"x = {n * n}", "output": f"print(x + {n})"}
        for n in range(60)
    ]
    messages = [
        {
            "messages": [
                {"role": "user", "content": f"What is {n} squared?"},
                {"role": "assistant", "content": f"{n * n}"},
                {"role": "user", "content": "And its double?"},
                {"role": "assistant", "content": f"{2 * n * n}"},
            ]
        }
        for n in range(60)
    ]
    path.write_bytes(_lines(pairs + messages))


def _lines(records) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


# Corpus -> (the raw file's name, what writes it).
RAW = {
    "pile": ("00.jsonl.zst", write_pile),
    "bigquery": ("github.parquet", write_bigquery),
    "bigpython": ("github.avro", write_bigpython),
    "instruction": ("instructions.jsonl", write_instruction),
}


def write(corpus: str, folder: Path) -> Path:
    """Writes the raw file of a corpus into `folder`; returns its path."""
    name, writer = RAW[corpus]
    writer(folder / name)
    return folder / name
