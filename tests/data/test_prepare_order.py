"""A cluster's runner tries a step again after it has failed: the same comes out."""

import json

import pytest

from codegen_pax.data.prepare import examine, order, output, tokenise
from codegen_pax.data.prepare.settings import WORK_FOLDER, Settings
from tests.data.prepared_corpora import find, survey_corpus

TRAIN = ("", "train")


def test_a_step_that_is_tried_again_gives_the_same(tmp_path):
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(json.dumps({"text": f"text {n} " * 20}) + "\n" for n in range(50)))
    settings = Settings("pile", str(tmp_path / "out"), row_length=32, validation=0.0)
    first = survey_corpus(settings, raw)
    (batch,) = first.batches
    (partition,) = find(settings, raw)[1]
    assert examine.examine(partition, settings).chunks == list(batch.chunks)
    made, again = (tokenise.tokenise((batch, []), settings, {TRAIN: 1}) for _ in range(2))
    assert made == again
    shards = []
    for tokenised in (made, again):
        bucket_segments = ((*TRAIN, 0), [segment for _, segment in tokenised.segments])
        ((_, result),) = order.write_bucket(bucket_segments, settings, {TRAIN: 1}, {})
        split = order.finish_split((TRAIN, [result]), settings, {TRAIN: 1}, {})
        (shard,) = split.shards
        shards.append((split, (order.shards_folder(settings) / shard.name).read_bytes()))
    assert shards[0] == shards[1] and shard.rows > 0
    left = {path.name for path in order.shards_folder(settings).iterdir()}
    assert left == {shard.name, shard.documents}


def test_an_attempt_that_is_given_up_leaves_nothing_in_the_corpus(tmp_path, monkeypatch):
    settings = Settings("pile", str(tmp_path / "out"), row_length=32)
    output.begin(settings)

    def full(*arguments, **options):
        raise OSError("No space left on device")

    keyed = (TRAIN, [])
    for module, name in ((type(settings.work_folder), "replace"), (order.parquet, "write_table")):
        with monkeypatch.context() as broken, pytest.raises(OSError, match="No space left"):
            broken.setattr(module, name, full)
            order.finish_split(keyed, settings, {TRAIN: 2}, {})
    shards = order.finish_split(keyed, settings, {TRAIN: 2}, {}).shards
    expected = {name for shard in shards for name in (shard.name, shard.documents)}
    left = {path.name for path in order.shards_folder(settings).iterdir()}
    assert expected == {name for name in left if not name.endswith(".unfinished")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {WORK_FOLDER}
