"""The CodeGen network, as praxis layers.

Letters of array shapes, here and in every docstring of the project:

    B  batch            T  target length    S  source length
    D  model dim        N  heads            H  head dim
    F  feed-forward dim                     V  vocabulary
"""

from codegen_pax.model.decoding import greedy_decoder, sample_decoder
from codegen_pax.model.network import CodeGenModel, language_model, shard

__all__ = ["CodeGenModel", "greedy_decoder", "language_model", "sample_decoder", "shard"]
