"""What a lineage says of its data: of prepared corpora, of missing ones, of installed text."""

import hashlib
import json
import platform

import pytest
from etils import epath

import tasks  # noqa: F401  (registers the tasks)
from codegen_pax.cli.core.main import main
from codegen_pax.data.format import manifest
from codegen_pax.data.prepared import set_corpora_folder
from codegen_pax.data.stream.origins import origins
from tasks.bigquery import LANGUAGES
from tests.data.prepared_corpora import write_corpus

FILES = {"python": "py", "go": "go"}


@pytest.fixture
def data(tmp_path, monkeypatch):
    set_corpora_folder(tmp_path)
    return tmp_path


def test_of_a_corpus_that_was_really_prepared(data):
    """Three licences, of which one is not allowed; two of six languages."""
    records = [
        {
            "content": "".join(f"line {n} {number} of {language}\n" for n in range(30)),
            "path": f"src/{number}.{ending}",
            "repo_name": "owner/name",
            "license": licence,
        }
        for language, ending in FILES.items()
        for number, licence in enumerate(["mit", "mit", "apache-2.0", "mit", "gpl-3.0"])
    ]
    raw = data / "raw.jsonl"
    raw.write_text("".join(json.dumps(record) + "\n" for record in records))
    folder = data / "bigquery"
    options = ("--row-length=16", "--workers=1", "--languages", "python", "go")
    status = main(["prepare", "bigquery", f"--input={raw}", f"--output={folder}", *options])
    assert status == 0
    found = {origin["task"]: origin for origin in origins("codegen_bigquery")}
    assert set(found) == {f"codegen_bigquery_{language}" for language in LANGUAGES}
    said = manifest.load(epath.Path(folder))
    for language in FILES:
        rows = sum(shard.rows for shard in said.parts[language]["train"])
        assert found[f"codegen_bigquery_{language}"] == {
            "task": f"codegen_bigquery_{language}",
            "corpus": "bigquery",
            "part": language,
            "folder": str(folder),
            "manifest_sha256": hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest(),
            "fingerprint": said.fingerprint("train", language),
            "rows": rows,
            "tokens": rows * 16,
            "licences": {"MIT": 3, "Apache-2.0": 1},
            "licences_checked": True,
            "vocabulary": "codegen",
        }
    assert found["codegen_bigquery_python"]["rows"] > 0
    missing = found["codegen_bigquery_rust"]
    assert set(missing) == {"task", "missing"}
    assert "it has no part 'rust': found" in missing["missing"]


def test_of_a_corpus_in_one_part_all_languages_count(data):
    write_corpus(data / "pile", {"": {"train": 4, "validation": 1}}, vocabulary="gpt2")
    path = data / "pile" / "manifest.json"
    said = json.loads(path.read_text())
    kept = {"in": [9, 9, 0], "kept": [5, 5, 5]}
    said["counts"]["documents"] = {
        "prose": {"": kept, "MIT": {"in": [1, 1, 0], "duplicate": [1, 1, 0]}},
        "other": {"": {"in": [2, 2, 0], "kept": [2, 2, 2]}, "ISC": kept | {"kept": [9, 9, 9]}},
    }
    path.write_text(json.dumps(said))
    (found,) = origins("codegen_pile")
    assert found["licences"] == {"ISC": 9, "not looked at": 7} and found["rows"] == 4


@pytest.mark.parametrize("setting", [None, "nowhere"])
def test_a_corpus_that_is_not_there_is_said_in_one_line(setting, data, monkeypatch):
    if setting is None:
        set_corpora_folder(None)
    (found,) = origins("codegen_bigpython")
    assert set(found) == {"task", "missing"}
    assert found["missing"].startswith("cannot read bigpython: ") and "\n" not in found["missing"]
    assert "codegen-pax prepare bigpython" in found["missing"]


def test_of_installed_text_and_of_any_other_source():
    assert origins("codegen_nano_mono") == [
        {
            "task": "codegen_nano_mono",
            "source": "installed",
            "corpus": "standard library",
            "python": platform.python_version(),
        }
    ]
    several = origins("codegen_nano_multi")
    assert len(several) == 9 and {one["source"] for one in several} == {"installed"}
    assert origins("codegen_nano_prompts") == [
        {"task": "codegen_nano_prompts", "source": "tasks.decoding._Texts"}
    ]
