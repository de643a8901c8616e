"""Near duplicates over a whole corpus: who is compared with whom, and what is dropped."""

import itertools
import json

import datasketch
import numpy as np
import pytest
from etils import epath

from codegen_pax.data.prepare import duplicates, output, pipeline, steps
from codegen_pax.data.prepare.examine import BAND, signature_file
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.rules import near_duplicates
from codegen_pax.data.sources import discovery, partitions


def text(name, changed=0):
    """A text of 200 lines of five tokens each, the last `changed` of which are its own."""
    lines = [f"{name} one{n} two{n} three{n} = {n}" for n in range(200 - changed)]
    return "\n".join([*lines, *(f"{name} {changed} other{n} = {n}" for n in range(changed))]) + "\n"


def similar_pairs(texts):
    """The indices of each two texts that are near duplicates, empty ones left out."""
    signatures = {
        n: near_duplicates.signature(text) for n, text in enumerate(texts) if text.strip()
    }
    return [
        (first, other)
        for first, other in itertools.combinations(signatures, 2)
        if near_duplicates.are_similar(signatures[first][None], signatures[other][None])
    ]


TEXTS = [
    *(text(name, changed) for name in "abcdef" for changed in (0, 3, 6, 60)),
    *(text(name) for name in "ghijkl"),
    *(mark * 5 for mark in "\n \t"),
    "x = 1\n",
    "x = 2\n",
]


@pytest.mark.parametrize(("ranges", "at_most"), [(1, partitions.PARTITION_BYTES), (3, 5_000)])
def test_the_first_of_each_cluster_is_kept(tmp_path, ranges, at_most):
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    settings = Settings("pile", str(tmp_path / "out"), near_duplicates=True, ranges=ranges)
    actual = discovery.find("pile", [str(raw)])
    pieces = partitions.plan("pile", actual, at_most)
    assert (len(pieces) > 10) == (ranges > 1)
    output.begin(settings)
    pipeline.run(settings, actual, pieces)
    dropped = near_duplicates.all_but_first(similar_pairs(TEXTS))
    assert len(dropped) == 12  # two of each of six
    made = output.finish(settings)
    (counts,) = made.counts["documents"]["text"].values()
    assert counts["near_duplicate"][:2] == [12, sum(len(TEXTS[n]) for n in dropped)]
    assert counts["kept"][0] == len(TEXTS) - 12


def test_those_unlike_the_first_of_a_band_are_compared_with_one_another(tmp_path, monkeypatch):
    monkeypatch.setattr(duplicates, "PAIRS_AT_ONCE", 2)
    settings = Settings("pile", str(tmp_path))
    # Place and partition of each, all in one band: b and c come in pairs behind a, d is alone.
    texts = [text("a"), text("b"), text("c"), text("d"), text("c", 3), text("b", 3)]
    where = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    files = []
    for partition, group in itertools.groupby(
        zip(where, texts, strict=True), lambda one: one[0][0]
    ):
        signatures = [near_duplicates.signature(text).tobytes() for _, text in group]
        steps.write(signature_file(settings, partition), b"".join(signatures))
        files.append(str(settings.work_folder / "bands" / "00000" / f"{partition:06d}-0000"))
        steps.write(files[-1], np.array([(7, place) for place in (0, 1)], BAND).tobytes())
    path = duplicates.find_near_pairs((0, files), settings)
    pairs = np.frombuffer(epath.Path(path).read_bytes(), duplicates.PAIR).tolist()
    assert pairs == [((0, 1), (2, 1)), ((1, 0), (2, 0))]


def test_bands_are_those_that_datasketch_chooses():
    options = {"threshold": near_duplicates.THRESHOLD, "num_perm": near_duplicates.PERMUTATIONS}
    index = datasketch.MinHashLSH(**options, weights=(0.1, 0.9))
    assert (index.b, index.r) == (near_duplicates.BANDS, near_duplicates.BAND_VALUES)
