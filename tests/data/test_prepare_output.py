"""The output folder: begun with all that the steps need, checked, and finished once."""

import dataclasses
import importlib.metadata
import json

import pytest

from codegen_pax.data.format import manifest
from codegen_pax.data.prepare import output, pipeline, work_files
from codegen_pax.data.prepare.settings import WORK_FOLDER, Settings
from codegen_pax.data.rules import decontamination
from codegen_pax.data.sources import discovery, partitions

TEXTS = [f"text {n}\n" for n in range(9)]
LINES = [json.dumps({"text": text}) + "\n" for text in TEXTS]


@pytest.fixture
def begun(tmp_path):
    """An input, its one partition, and the settings of a run that has begun."""
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(LINES))
    settings = Settings("pile", str(tmp_path / "out"), row_length=8, validation=0.0)
    (partition,) = partitions.plan("pile", discovery.find("pile", [str(raw)]))
    output.begin(settings)
    return raw, partition, settings


def test_versions_are_asked_before_the_run(begun, monkeypatch):
    raw, partition, settings = begun
    expected = importlib.metadata.version("tokenizers")

    def gone(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", gone)
    with pytest.raises(output.PackageMissingError, match=r"apache-beam, .* is not installed;"):
        output.begin(settings)
    pipeline.run(settings, discovery.find("pile", [str(raw)]), [partition])
    assert output.finish(settings).versions["tokenizers"] == expected


def test_two_files_of_problems_of_one_name_are_two(tmp_path):
    asked = [f"Return the {what} of the numbers that are given in several lists." for what in "ab"]
    paths = []
    for number, text in enumerate(asked):
        (tmp_path / str(number)).mkdir()
        paths.append(tmp_path / str(number) / "problems.jsonl")
        paths[-1].write_text(json.dumps({"id": 1, "text": text}) + "\n")
    settings = Settings("pile", str(tmp_path / "out"), benchmarks=tuple(map(str, paths)))
    output.begin(settings)
    problems = decontamination.load(settings.benchmark_copies)
    assert all(problems.match(text) for text in asked)


def test_an_output_that_is_there_is_kept(begun, tmp_path):
    raw, partition, settings = begun
    pipeline.run(settings, discovery.find("pile", [str(raw)]), [partition])
    made, folder = output.finish(settings), settings.work_root.parent
    with pytest.raises(output.OutputError, match="holds a finished corpus already"):
        output.begin(settings)
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("x")
    with pytest.raises(output.OutputError, match=r"not empty \(found thesis.txt\)"):
        output.begin(dataclasses.replace(settings, output=str(other)))
    assert (other / "thesis.txt").exists() and manifest.load(folder) == made
    # What a killed run left is ours, and is begun again.
    (folder / "manifest.json").unlink()
    (folder / WORK_FOLDER).mkdir()
    output.begin(settings)
    assert [path.name for path in folder.iterdir()] == [WORK_FOLDER]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_counts_that_are_wrong_leave_no_manifest(begun, place):
    raw, partition, settings = begun
    pipeline.run(settings, discovery.find("pile", [str(raw)]), [partition])
    result = settings.work_folder / output.RESULT
    message = json.loads(result.read_text())
    message["counts"]["text"][""][manifest.KEPT][place] += 1
    result.write_text(json.dumps(message))
    with pytest.raises(manifest.CountsError, match="do not add up"):
        output.finish(settings)
    assert not (settings.work_root.parent / manifest.FILE).exists()


def test_a_run_that_was_stopped_does_not_disturb_the_next(begun):
    raw, partition, settings = begun
    stopped, folder = settings, settings.work_root.parent
    files = discovery.find("pile", [str(raw)])
    pipeline.run(stopped, files, [partition])
    following = Settings("pile", str(folder), row_length=8, validation=0.0)
    assert following.run != stopped.run and following == stopped
    output.begin(following)
    assert not stopped.work_folder.exists()
    # Its workers go on elsewhere, and leave files of the same names as those of the next.
    work_files._make_folder.cache_clear()
    pipeline.run(stopped, files, [partition])
    assert "shards" in {path.name for path in stopped.work_folder.iterdir()}
    pattern = f"belongs to another run by now: found the run {following.run}, .* {stopped.run}"
    with pytest.raises(output.OutputError, match=pattern):
        output.finish(stopped)
    assert [path.name for path in folder.iterdir()] == [WORK_FOLDER]

    pipeline.run(following, files, [partition])
    made = output.finish(following)
    assert manifest.load(folder) == made and "run" not in made.settings
    shards = made.shards("train")
    names = {name for shard in shards for name in (shard.name, shard.documents)}
    assert {path.name for path in folder.iterdir()} == {manifest.FILE, *names}
