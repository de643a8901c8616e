"""Completions of prompts: those that a run has decoded, and new ones from a checkpoint."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from etils import epath
from jax import lax

from codegen_pax.errors import MissingFileError
from codegen_pax.model import generation, unstacked
from codegen_pax.runs.checkpoint_arrays import Variables, check_shapes, read_variables

# Prompts and continuations are padded to a multiple of this many tokens.
LENGTH_STEP = 64
# The tokens that are chosen between two looks at whether all texts have ended.
STEPS = 16


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


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How prompts are continued.

    Attributes:
        new_tokens: The largest number of new tokens.
        eos_id: The token that ends a text.
        temperature: The logits are divided by it; 0 takes the likeliest token.
        top_p: The probability mass of the nucleus.
        samples: The continuations of each prompt.
        seed: The seed of the draws.
    """

    new_tokens: int
    eos_id: int
    temperature: float = 0.0
    top_p: float = 1.0
    samples: int = 1
    seed: int = 0


def continue_prompts(
    checkpoint: epath.PathLike,
    shapes: Mapping[str, Sequence[int]],
    head_dims: int,
    rotary_dims: int,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    dtype: str = "float32",
) -> list[list[np.ndarray]]:
    """Continues prompts with the weights of a checkpoint, on one device, without Pax.

    Args:
        checkpoint: The directory of the checkpoint.
        shapes: The shapes of its network's weights, by name.
        head_dims: H, the dimensions of a head.
        rotary_dims: The leading dimensions of each head that are rotated by position.
        prompts: The ids of each prompt, none of them empty.
        decoding: How to choose tokens.
        dtype: The type of activations on an accelerator; a CPU is faster in float32.

    Returns:
        For each prompt and each sample, the new ids up to and including the end of text.

    Raises:
        FileNotFoundError: The checkpoint has no weights.
        ValueError: A file is not what was saved, a weight is not finite, or the weights are those
            of another network.
    """
    variables = Variables(checkpoint, contents=True)
    check_shapes(f"{checkpoint}:", variables.shapes(), shapes)
    params = read_variables(variables)["params"]["lm"]
    ids = np.zeros((len(prompts), _round_up(max(map(len, prompts)))), np.int32)
    for row, prompt in zip(ids, prompts, strict=True):
        row[: len(prompt)] = prompt
    options = generation.Options(
        unstacked.Form(
            head_dims,
            rotary_dims,
            dtype="float32" if jax.default_backend() == "cpu" else dtype,
        ),
        eos_id=decoding.eos_id,
        new_tokens=_round_up(decoding.new_tokens + STEPS),  # the last round may go further
        samples=decoding.samples,
        prefill_tokens=generation.PREFILL_TOKENS,
    )
    is_drawn = decoding.temperature > 0
    weights, state = jax.jit(generation.start, static_argnames="options")(
        params,
        ids,
        np.array([len(prompt) for prompt in prompts], np.int32),
        jax.random.PRNGKey(decoding.seed),
        generation.Choice(np.float32(decoding.temperature), np.float32(decoding.top_p))
        if is_drawn
        else None,
        options=options,
    )
    del params  # the layers are split off, and a network need not be held twice
    for _ in range(1, decoding.new_tokens, STEPS):
        if np.all(state.done):
            break
        state = _advance(weights, state, options)
    generated = generation.result(state, options)
    new_ids, lengths = np.asarray(generated.ids), np.asarray(generated.lengths)
    return [
        [ids[: min(length, decoding.new_tokens)] for ids, length in zip(rows, ends, strict=True)]
        for rows, ends in zip(new_ids, lengths, strict=True)
    ]


@functools.partial(jax.jit, static_argnames="options", donate_argnames="state")
def _advance(
    weights: generation.Weights, state: generation.State, options: generation.Options
) -> generation.State:
    """Chooses the next STEPS tokens.

    The number is fixed, as jaxlib 0.5.3 runs a loop whose end depends on data no time at all where
    it reads the compiled program of a CPU from the cache.
    """
    return lax.fori_loop(
        0, STEPS, lambda _, state: generation.advance(weights, state, options), state
    )


def _round_up(length: int) -> int:
    """Rounds a length up, so that the next prompt finds a program of its lengths compiled."""
    return -(-length // LENGTH_STEP) * LENGTH_STEP
