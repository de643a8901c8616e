"""What a task trains, evaluates and decodes with: the language model and its losses."""

import numpy as np
from praxis import base_input, base_model, py_utils
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
