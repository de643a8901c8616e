"""Completions of prompts: those that a run has decoded, and new ones from a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from etils import epath
from praxis import base_layer, decoder_hparams, pax_fiddle, py_utils

from codegen_pax import model
from codegen_pax.data.stream.batches import prompt_fields
from codegen_pax.errors import MissingFileError
from codegen_pax.runs.checkpoint_arrays import read_variables


def read_decoded(job: Path) -> list[dict]:
    """Reads the prompts of the last decoding of a job and their completions.

    Args:
        job: A directory in which `paxml.main --mode=decode_once`, or training, has decoded.

    Returns:
        The rows that `CodeGenModel.process_decode_out` wrote.

    Raises:
        FileNotFoundError: The job was never decoded.
    """
    files = sorted((job / "decoder_out").glob("*/decoder_out_*.jsonl"))
    if not files:
        raise MissingFileError(f"{job} has no decoded prompts; expected decoder_out/*/*.jsonl")
    last_step = max(map(_decoded_step, files))
    return [
        json.loads(line)
        for file in files
        if _decoded_step(file) == last_step
        for line in file.read_text().splitlines()
    ]


def _decoded_step(file: Path) -> int:
    """Returns 600 for `decoder_out_600_shard_0.jsonl`."""
    return int(file.stem.split("_")[2])


def render(rows: Sequence[dict], to_text: Callable[[Sequence[int]], str]) -> str:
    """Renders prompts and their completions as one text.

    Args:
        rows: The result of `read_decoded`.
        to_text: Converts ids to text.
    """
    parts = []
    for number, row in enumerate(rows, 1):
        for sample in row["decoded_ids"]:
            parts.append(
                f"--- prompt {number}\n{to_text(row['prefix_ids'])}\n"
                f"--- completion ({len(sample)} tokens)\n{to_text(sample)}\n"
            )
    return "\n".join(parts)


def continue_prompts(
    network: pax_fiddle.Config[model.CodeGenModel],
    checkpoint: epath.PathLike,
    prompts: Sequence[Sequence[int]],
    decoder: decoder_hparams.DecoderHParams,
    seed: int,
) -> list[list[np.ndarray]]:
    """Continues prompts with the weights of a checkpoint, on the devices of this process.

    Args:
        network: The model, whose own decoder is replaced.
        checkpoint: The directory of the checkpoint.
        prompts: The ids of each prompt, none of them empty.
        decoder: How to choose tokens. `seqlen - max_decode_steps` is at least the longest prompt.
        seed: The seed of the draws.

    Returns:
        For each prompt and each sample, the new ids up to and including the end of text.
    """
    config = network.clone()
    config.decoder_tpl = decoder
    lm = base_layer.instantiate(config)
    prompt_length = decoder.seqlen - decoder.max_decode_steps
    batch = py_utils.NestedMap(prompt_fields(prompts, prompt_length))

    @jax.jit
    def decode(variables, key, batch):
        hparams = base_layer.JaxContext.HParams(do_eval=True)
        with base_layer.JaxContext.new_context(hparams=hparams):
            (_, out, _), _ = lm.apply(
                variables,
                batch,
                method=lm.decode,
                mutable=[
                    base_layer.DECODE_CACHE,
                    base_layer.SUMMARIES,
                    base_layer.NON_TRAINABLE,
                ],
                rngs={base_layer.RANDOM: key},
            )
        return out

    out = decode(read_variables(checkpoint), jax.random.PRNGKey(seed), batch)
    _, rows, _ = lm.process_decode_out(None, jax.tree.map(np.asarray, out))
    return [row["decoded_ids"] for _, row in rows]
