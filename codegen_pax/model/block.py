"""One block: attention and feed-forward side by side, behind one layer norm."""

from praxis import py_utils, pytypes
from praxis.layers import transformers


class Block(transformers.Transformer):
    """A Transformer layer whose two halves read the same normalised input.

    normed:    [B, T, D] = layer_norm(inputs)
    attention: [B, T, D] = self_attention(normed)
    forward:   [B, T, D] = ff_layer(normed)
    output:    [B, T, D] = inputs + (attention + forward)

    praxis feeds the feed-forward from the attention's output and normalises again; here `ff_layer`
    must come without a norm or skip connection of its own, as `network.language_model` makes it.
    Source: salesforce/jaxformer, models/decoder/inter/modules.py, class Block.
    """

    def __call__(
        self,
        inputs: pytypes.JTensor,
        paddings: pytypes.JTensor,
        attention_mask: pytypes.JTensor,
        cross_inputs: pytypes.JTensor | None = None,
        cross_attention_mask: pytypes.JTensor | None = None,
        segment_pos: pytypes.JTensor | None = None,
        segment_ids: pytypes.JTensor | None = None,
    ) -> tuple[pytypes.JTensor, py_utils.NestedMap]:
        """Applies the block to whole sequences.

        Args:
            inputs: [B, T, D].
            paddings: [B, T], 1 at padding; read by the feed-forward alone.
            attention_mask: [B, 1, T, T], added to the scores: causal, padding and documents.
            cross_inputs, cross_attention_mask: not used; there is no cross-attention.
            segment_pos: [B, T], the place of each token in its document.
            segment_ids: not used; `attention_mask` already keeps documents apart.

        Returns:
            The output [B, T, D], and the attention's weights [B, N, T, T] as `self_atten`.
        """
        del cross_inputs, cross_attention_mask, segment_ids
        normed = self.layer_norm(inputs)
        attention, weights = self.self_attention(
            normed,
            normed,
            normed,
            atten_mask=attention_mask,
            query_segment_pos=segment_pos,
            key_segment_pos=segment_pos,
        )
        outputs = inputs + (attention + self.ff_layer(normed, paddings=paddings))
        return outputs, py_utils.NestedMap(self_atten=weights)

    def extend_step(
        self,
        inputs: pytypes.JTensor,
        *,
        time_step: pytypes.JTensor,
        segment_pos: pytypes.JTensor | None = None,
        attention_mask: pytypes.JTensor,
        cross_attention_mask: pytypes.JTensor | None = None,
    ) -> pytypes.JTensor:
        """Applies the block to the next token of each row, reading the cached keys and values.

        Args:
            inputs: [B, D].
            time_step: scalar, the column of the cache that this token fills.
            segment_pos: [B], the place of the token in its document; None means `time_step`.
            attention_mask: [B, 1, S], added to the scores.
            cross_attention_mask: not used; there is no cross-attention.

        Returns:
            The output [B, D].
        """
        del cross_attention_mask
        normed = self.layer_norm(inputs)
        attention = self.self_attention.extend_step(
            normed, atten_mask=attention_mask, time_step=time_step, segment_pos=segment_pos
        )
        return inputs + (attention + self.ff_layer.extend_step(normed, time_step=time_step))
