"""The CodeGen network, as praxis layers.

Letters of array shapes, here and in every docstring of the project:

    B  batch            T  target length    S  source length
    D  model dim        N  heads            H  head dim
    F  feed-forward dim                     V  vocabulary

`generation` imports JAX alone; the names below are imported with praxis when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codegen_pax.model.decoding import greedy_decoder, sample_decoder
    from codegen_pax.model.network import CodeGenModel, language_model, shard

__all__ = ["CodeGenModel", "greedy_decoder", "language_model", "sample_decoder", "shard"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "decoding" if name.endswith("_decoder") else "network"
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
