"""What a run has from outside may change while it works: that is told, or makes no difference."""

import importlib.metadata
import json

import pytest

from codegen_pax.data.prepare import examine, local, pipeline, tokenise
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.rules import decontamination
from codegen_pax.data.sources import discovery, errors, partitions

TEXTS = [f"text {n}\n" for n in range(9)]
LINES = [json.dumps({"text": text}) + "\n" for text in TEXTS]


@pytest.fixture
def begun(tmp_path):
    """An input, its one partition, and the settings of a run that has begun."""
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(LINES))
    settings = Settings("pile", str(tmp_path / "out"), row_length=8, validation=0.0)
    (partition,) = partitions.plan("pile", discovery.find("pile", [str(raw)]))
    pipeline.begin(settings)
    return raw, partition, settings


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            [*LINES[:4], LINES[4].replace("4", "5"), *LINES[5:]],
            "the line at byte {place} is another",
        ),
        ([*LINES[:4], "[]\n", *LINES[5:]], "the line at byte {place} is another"),
        (LINES[1:], "the line at byte 0 is another"),
        (LINES[:4], "it holds fewer records"),
        ([], "it holds fewer records"),
    ],
)
def test_an_input_that_changed_between_the_looks_is_named(begun, lines, said):
    raw, partition, settings = begun
    examine.examine(partition, settings)
    raw.write_text("".join(lines))
    said = said.format(place=sum(map(len, LINES[:4])))
    with pytest.raises(errors.ChangedInputError, match=rf"raw.jsonl changed while .*{said}"):
        keyed = (partition.number, {"partition": [partition], "drops": []})
        tokenise.tokenise(keyed, settings, {("", "train"): 1})


def test_versions_are_asked_before_the_run(begun, monkeypatch):
    raw, partition, settings = begun
    wanted = importlib.metadata.version("tokenizers")

    def gone(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", gone)
    with pytest.raises(pipeline.PackageMissingError, match=r"apache-beam, .* is not installed;"):
        pipeline.begin(settings)
    local.run_here(settings, discovery.find("pile", [str(raw)]), [partition])
    assert pipeline.finish(settings).versions["tokenizers"] == wanted


def test_two_files_of_problems_of_one_name_are_two(tmp_path):
    asked = [f"Return the {what} of the numbers that are given in several lists." for what in "ab"]
    paths = []
    for number, text in enumerate(asked):
        (tmp_path / str(number)).mkdir()
        paths.append(tmp_path / str(number) / "problems.jsonl")
        paths[-1].write_text(json.dumps({"id": 1, "text": text}) + "\n")
    settings = Settings("pile", str(tmp_path / "out"), benchmarks=tuple(map(str, paths)))
    pipeline.begin(settings)
    problems = decontamination.load(settings.problems)
    assert all(problems.match(text) for text in asked)
