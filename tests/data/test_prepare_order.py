"""A cluster's runner tries a step again after it has failed: the same comes out."""

import json

import pytest

from codegen_pax.data.prepare import examine, order, output, tokenise
from codegen_pax.data.prepare.settings import WORK_FOLDER, Settings
from codegen_pax.data.sources import discovery, partitions

TRAIN = ("", "train")


def test_a_step_that_is_tried_again_gives_the_same(tmp_path):
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(json.dumps({"text": f"text {n} " * 20}) + "\n" for n in range(50)))
    settings = Settings("pile", str(tmp_path / "out"), row_length=32, validation=0.0)
    (partition,) = partitions.plan("pile", discovery.find("pile", [str(raw)]))
    output.begin(settings)

    assert examine.examine(partition, settings) == examine.examine(partition, settings)
    first, again = (tokenise.tokenise((partition, []), settings, {TRAIN: 1}) for _ in range(2))
    assert first == again
    shards = []
    for tokenised in (first, again):
        bucket_blocks = ((*TRAIN, 0), [block for _, block in tokenised.blocks])
        ((_, result),) = order.write_bucket(bucket_blocks, settings, {TRAIN: 1}, {})
        made = order.finish_split((TRAIN, [result]), settings, {TRAIN: 1}, {})
        (shard,) = made.shards
        shards.append((made, (tmp_path / "out" / shard.name).read_bytes()))
    assert shards[0] == shards[1] and shard.rows > 0
    left = {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")}
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
    assert {path.name for path in (tmp_path / "out").iterdir()} == {WORK_FOLDER, *expected}
