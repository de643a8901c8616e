"""The completions that a run has decoded, on files as Pax writes them."""

import json

import pytest

from codegen_pax.runs import completions


def test_the_last_decode_is_read(tmp_path):
    folder = tmp_path / "decoder_out" / "prompts"
    folder.mkdir(parents=True)
    for step in (20, 100):
        row = {"prefix_ids": [1], "decoded_ids": [[step, 7]]}
        name = f"decoder_out_{step}_shard_0.jsonl"
        (folder / name).write_text(json.dumps(row) + "\n")
    (row,) = completions.read_decoded(tmp_path)
    assert row["decoded_ids"] == [[100, 7]]
    text = completions.render([row], lambda ids: "/".join(map(str, ids)))
    assert "--- prompt 1\n1\n" in text and "--- completion (2 tokens)\n100/7\n" in text


def test_a_job_without_decoded_prompts_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no decoded prompts"):
        completions.read_decoded(tmp_path)
