"""What a task trains, evaluates and decodes with: the language model and its losses."""

import numpy as np
from praxis import base_input, base_model, decoder_hparams, py_utils
from praxis.layers import models


class CodeGenModel(models.LanguageModel):
    """praxis' language model, fed by batches that say what is padding and what is loss.

    Training and evaluation read `ids`, `labels`, `weights`, `paddings`, `segment_ids` and
    `segment_pos`, all [B, T]:

    attends:    [B, T, T] = causal and same segment_ids
    positions:  [B, T]    = segment_pos
    log_pplx:   []        = sum(weights * cross-entropy(logits, labels)) / sum(weights)
    total_loss: []        = log_pplx + z_loss * mean of logsumexp(logits)^2 under weights

    Decoding reads `ids` [B, P], `paddings` [B, P] and `prefix_lengths` [B]; each row's prompt
    stands at its left. No token id means padding anywhere: id 0 is '!' in GPT-2's vocabulary.
    """

    def process_decode_out(
        self, input_obj: base_input.BaseInput, decode_out: py_utils.NestedMap
    ) -> base_model.ProcessDecodeOut:
        """Turns one decoded batch into rows of plain numbers; text is made by who reads them.

        Args:
            input_obj: not used.
            decode_out: what `decode` returned, as numpy arrays: `ids` [B, P], `prefix_lengths`
                [B], and with a leading axis of samples, [B, K, …], or without one: `output_ids`
                [B, K, P + M], `logprobs` [B, K, P + M], `decode_lengths` [B, K].

        Returns:
            - weighted scalars: `decoded_length`, the mean number of new tokens.
            - a pair (key, row) for each real row of the batch; rows that fill a last batch up
              (`eval_sample_weights` 0) are left out. The key is the prompt's ids; a seqio input
              that enumerates its examples puts its own in its place. A row holds `prefix_ids`,
              `prefix_length`, and a list for each of `decoded_ids`, `logprobs`: one array a sample,
              without the prompt, up to and with the end-of-text token when one was reached.
            - no clu metrics.
        """
        del input_obj
        batch = len(decode_out.ids)
        output_ids = decode_out.output_ids.reshape(batch, -1, decode_out.output_ids.shape[-1])
        logprobs = decode_out.logprobs.reshape(output_ids.shape)
        decode_lengths = decode_out.decode_lengths.reshape(batch, -1)
        prefix_lengths = decode_out.prefix_lengths.reshape(batch, -1)[:, 0]
        is_real = decode_out.get("eval_sample_weights", np.ones(batch))

        rows = []
        for i in np.flatnonzero(is_real):
            start = int(prefix_lengths[i])
            prefix_ids = decode_out.ids[i, :start]
            rows.append(
                (
                    " ".join(map(str, prefix_ids)),
                    {
                        "prefix_ids": prefix_ids,
                        "prefix_length": start,
                        "decoded_ids": [
                            ids[start:end]
                            for ids, end in zip(output_ids[i], decode_lengths[i], strict=True)
                        ],
                        "logprobs": [
                            values[start:end]
                            for values, end in zip(logprobs[i], decode_lengths[i], strict=True)
                        ],
                    },
                )
            )
        new_tokens = [len(ids) for _, row in rows for ids in row["decoded_ids"]]
        mean = np.float32(np.mean(new_tokens) if new_tokens else 0.0)
        metrics = py_utils.NestedMap(decoded_length=(mean, np.float32(len(new_tokens))))
        return metrics, rows, py_utils.NestedMap()


def greedy_decoder(
    *, prompt_length: int, max_new_tokens: int, eos_id: int
) -> decoder_hparams.GreedyDecoderHParams:
    """Returns the settings for always taking the likeliest token.

    Args:
        prompt_length: P, the width of the batch's `ids`; shorter prompts are fine.
        max_new_tokens: M, at most so many tokens after each prompt.
        eos_id: the token that ends a row; what follows it is filled with id 0, so cut at
            `decode_lengths`, which counts prompt, new tokens and the end token.
    """
    return decoder_hparams.GreedyDecoderHParams(
        **_lengths(prompt_length, max_new_tokens), eos_id=eos_id
    )


def sample_decoder(
    *,
    prompt_length: int,
    max_new_tokens: int,
    eos_id: int,
    temperature: float,
    top_p: float,
    num_samples: int,
) -> decoder_hparams.SampleDecoderHParams:
    """Returns the settings for drawing tokens from the likeliest that add up to `top_p`.

    Args:
        prompt_length, max_new_tokens, eos_id: as in `greedy_decoder`.
        temperature: the logits are divided by it.
        top_p: probability, above 0 and at most 1.
        num_samples: K, continuations of each prompt, kept in the order drawn.
    """
    return decoder_hparams.SampleDecoderHParams(
        **_lengths(prompt_length, max_new_tokens),
        eos_id=eos_id,
        temperature=temperature,
        p=top_p,
        # praxis draws from the 40 likeliest unless told otherwise.
        k=0,
        num_samples=num_samples,
        sort_samples=False,
    )


def _lengths(prompt_length: int, max_new_tokens: int) -> dict[str, int | bool]:
    """How far to decode: with one forward pass over the prompt, M counts new tokens alone."""
    return {
        "fprop_for_prefix": True,
        "seqlen": prompt_length + max_new_tokens,
        "max_decode_steps": max_new_tokens,
    }
