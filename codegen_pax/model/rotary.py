"""Rotary positions on the first dimensions of each head, in interleaved pairs."""

import jax.numpy as jnp
import numpy as np
from praxis import pytypes
from praxis.layers import embedding_softmax

from codegen_pax.errors import InvalidValueError


class PartialRotaryEmbedding(embedding_softmax.RotaryPositionalEmbedding):
    """Turns the pairs (x0, x1), (x2, x3), … of the first R dimensions; the rest passes through.

    frequency: [R/2]          = max_timescale ** -(0, 2, 4, … / R)
    angle:     [B, T, 1, R/2] = position * frequency
    even:      [B, T, N, R/2] = x[0::2] * cos(angle) - x[1::2] * sin(angle)
    odd:       [B, T, N, R/2] = x[1::2] * cos(angle) + x[0::2] * sin(angle)
    output:    [B, T, N, H]   = concat(interleave(even, odd), x[R:])

    praxis' own layer turns all H dimensions, and pairs x[i] with x[i + H/2].
    Source: salesforce/CodeGen, jaxformer/hf/codegen/modeling_codegen.py.

    Attributes:
        rotary_dims: R, how many of the H dimensions of a head are turned; even, at most H.
    """

    rotary_dims: int = 0

    def setup(self) -> None:
        super().setup()
        if self.rotary_dims % 2 or not 0 < self.rotary_dims <= self.embedding_dims:
            raise InvalidValueError(
                f"rotary_dims must be even, above 0 and at most the head's "
                f"{self.embedding_dims} dimensions; found {self.rotary_dims}"
            )

    def __call__(
        self, inputs: pytypes.JTensor, position: pytypes.JTensor | None = None
    ) -> pytypes.JTensor:
        """Turns queries or keys.

        Args:
            inputs: [B, T, N, H].
            position: [B, T], the place of each token in its document; None counts from 0.

        Returns:
            [B, T, N, H], in the type of `inputs`; angles are float32.
        """
        batch, length, heads, _ = inputs.shape
        if position is None:
            position = jnp.arange(length)[jnp.newaxis, :]
        frequency = self.max_timescale ** -(np.arange(0, self.rotary_dims, 2) / self.rotary_dims)
        angle = position[:, :, jnp.newaxis, jnp.newaxis] * jnp.asarray(frequency, jnp.float32)
        sin, cos = jnp.sin(angle), jnp.cos(angle)

        pairs = inputs[..., : self.rotary_dims].reshape(batch, length, heads, -1, 2)
        even, odd = pairs[..., 0], pairs[..., 1]
        turned = jnp.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1)
        turned = turned.reshape(batch, length, heads, self.rotary_dims).astype(inputs.dtype)
        return jnp.concatenate([turned, inputs[..., self.rotary_dims :]], axis=-1)
