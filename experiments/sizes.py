"""The sizes of CodeGen: one row a model. Standard library only, so that listing is instant.

Shapes are those of the released models (`config.json` of Salesforce/codegen-{350M,2B,6B,16B},
the same in salesforce/jaxformer `config/*.json`); parameter counts are those of the released
networks with the vocabulary padded to 51,200, and are asserted against the real network.
"""

from __future__ import annotations

from dataclasses import dataclass

from codegen_pax.errors import InvalidValueError
from experiments import checks
from experiments.choices import Remat

# The 50,295 ids of the code vocabulary padded to a multiple of 1,024 (jaxformer's
# `vocab_size`), so that the vocabulary divides over any mesh axis of a power of two.
VOCAB_SIZE = 51_200


@dataclass(frozen=True)
class Size:
    """One row of the table.

    Attributes:
      name: as in the experiment's name, `CodeGen<name><phase>`.
      layers: number of blocks.
      model_dims: D, width of the residual stream.
      heads: N, attention heads.
      head_dims: H, dims of one head; N * H = D.
      rotary_dims: how many of a head's dims are rotated; even.
      context: the most tokens that the network is for; a row of data has as many or fewer.
      embedded: runs on a laptop's CPU, on text every machine has; the real sizes read
        prepared corpora and refuse to start a later phase from random weights.
      vocab_size: V, the ids of the projection.
      remat: what the backward pass finds saved of a block, by praxis' name. Nothing, as jaxformer
        (`hk.remat` of each block), for the real sizes.

    Raises ValueError for a shape that no network has.
    """

    name: str
    layers: int
    model_dims: int
    heads: int
    head_dims: int
    rotary_dims: int
    context: int
    embedded: bool = False
    vocab_size: int = VOCAB_SIZE
    remat: Remat = Remat.SAVE_NOTHING

    def __post_init__(self):
        owner = f"size {self.name}"
        checks.word("size", "name", self.name)
        for name in ("layers", "model_dims", "heads", "head_dims", "rotary_dims", "vocab_size"):
            checks.store(self, name, checks.whole(owner, name, getattr(self, name)))
        checks.store(self, "context", checks.tokens(owner, "context", self.context))
        checks.flag(owner, "embedded", self.embedded)
        checks.store(self, "remat", checks.choice(owner, "remat", self.remat, Remat))
        if self.model_dims != self.heads * self.head_dims:
            raise InvalidValueError(
                f"{owner}: model_dims={self.model_dims}; wanted heads * head_dims, "
                f"{self.heads} * {self.head_dims} = {self.heads * self.head_dims}"
            )
        if self.rotary_dims % 2 or self.rotary_dims > self.head_dims:
            raise InvalidValueError(
                f"{owner}: rotary_dims={self.rotary_dims}; wanted an even number, at most "
                f"head_dims={self.head_dims}"
            )

    @property
    def parameters(self) -> int:
        """Of the released network: no embedding bias (see `Declaration.parameters`)."""
        return network_parameters(self.layers, self.model_dims, self.vocab_size)

    def flops_per_token(self, row_length: int | None = None) -> int:
        """Model FLOPs to train on one token, without recomputation.

        6 FLOPs a weight that is multiplied (2 forward, 4 backward; the embedding's table is
        looked up, not multiplied), and 12 * layers * T * D for the attention scores and
        their weighted sum, full T x T rather than half (arXiv 2204.02311, appendix B).

        Args:
          row_length: T, tokens in a row; the context if None.
        """
        multiplied = self.parameters - self.vocab_size * self.model_dims
        return 6 * multiplied + 12 * self.layers * (row_length or self.context) * self.model_dims


def network_parameters(layers: int, d: int, v: int = VOCAB_SIZE) -> int:
    """Parameters of the released network.

    Per block: layer norm 2d, qkv 3d^2, projection d^2, feed-forward 8d^2 + 5d (biases 4d and d).
    Outside: embedding V*d, final layer norm 2d, projection V*d + V.
    """
    block = 2 * d + 3 * d * d + d * d + 8 * d * d + 5 * d
    return layers * block + 2 * v * d + v + 2 * d


# Nano is ours: it exists to be trained in minutes on two CPU cores; nearly all of its
# arithmetic is the 51,200-way softmax, so it is narrow. What was tried is in the README.
SIZES: dict[str, Size] = {
    size.name: size
    for size in (
        #    name    layers  D     N   H    rotary context      parameters: 13,553,664
        Size("Nano", 2, 128, 4, 32, 16, 256, embedded=True, remat=Remat.SAVE_EVERYTHING),
        Size("350M", 20, 1024, 16, 64, 32, 2048),  # 356,712,448
        Size("2B", 32, 2560, 32, 80, 64, 2048),  # 2,779,356,160
        Size("6B", 33, 4096, 16, 256, 64, 2048),  # 7,064,213,504
        Size("16B", 34, 6144, 24, 256, 64, 2048),  # 16,032,155,648
    )
}
