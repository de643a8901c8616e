"""A cluster's runner tries a step again after it has failed: the same comes out."""

import json

import pytest

from codegen_pax.data.prepare import examine, order, pipeline, tokenise
from codegen_pax.data.prepare.settings import WORK, Settings
from codegen_pax.data.sources import discovery, partitions

TRAIN = ("", "train")


def test_a_step_that_is_tried_again_gives_the_same(tmp_path):
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(json.dumps({"text": f"text {n} " * 20}) + "\n" for n in range(50)))
    settings = Settings("pile", str(tmp_path / "out"), row_length=32, validation=0.0)
    (partition,) = partitions.plan("pile", discovery.find("pile", [str(raw)]))
    pipeline.begin(settings)

    def segments(tokenised):
        return [segment for _, segment in tokenised.segments]

    assert examine.examine(partition, settings) == examine.examine(partition, settings)
    keyed = (partition.number, {"partition": [partition], "drops": []})
    first, again = (tokenise.tokenise(keyed, settings, {TRAIN: 1}) for _ in range(2))
    assert first == again
    shards = []
    for tokenised in (first, again):
        keyed = ((*TRAIN, 0), segments(tokenised))
        ((_, ordered),) = order.order(keyed, settings, {TRAIN: 1}, {})
        (made,), said = order.finish((TRAIN, [ordered]), settings, {TRAIN: 1}, {})[1]
        shards.append((made, said, (tmp_path / "out" / made.name).read_bytes()))
    assert shards[0] == shards[1] and shards[0][0].rows > 0
    left = {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")}
    assert left == {shards[0][0].name, shards[0][0].documents}


def test_an_attempt_that_is_given_up_leaves_nothing_in_the_corpus(tmp_path, monkeypatch):
    settings = Settings("pile", str(tmp_path / "out"), row_length=32)
    pipeline.begin(settings)

    def full(*arguments, **options):
        raise OSError("No space left on device")

    keyed = (TRAIN, [])
    for module, name in ((type(settings.work), "replace"), (order.parquet, "write_table")):
        with monkeypatch.context() as broken, pytest.raises(OSError, match="No space left"):
            broken.setattr(module, name, full)
            order.finish(keyed, settings, {TRAIN: 2}, {})
    _, (shards, _) = order.finish(keyed, settings, {TRAIN: 2}, {})
    wanted = {name for shard in shards for name in (shard.name, shard.documents)}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {WORK, *wanted}
