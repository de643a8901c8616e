"""Continues prompts with a checkpoint's weights, in this process and on its devices."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from etils import epath
from praxis import base_layer, decoder_hparams, pax_fiddle, py_utils

from codegen_pax import model
from codegen_pax.data.stream.batches import prompt_fields
from codegen_pax.runs.checkpoint_arrays import read_variables


def continue_prompts(
    network: pax_fiddle.Config[model.CodeGenModel],
    checkpoint: epath.PathLike,
    prompts: Sequence[Sequence[int]],
    decoder: decoder_hparams.DecoderHParams,
    seed: int,
) -> list[list[np.ndarray]]:
    """Decodes each prompt and returns what follows it.

    Args:
      network: the model; its own decoder is replaced.
      checkpoint: `<job>/checkpoints/checkpoint_<step>`.
      prompts: ids of each, none of them empty.
      decoder: how to choose tokens, with `seqlen - max_decode_steps` at least the longest prompt.
      seed: of the draws.

    Returns:
      For each prompt, for each sample, the new ids up to and with the end of text.
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
