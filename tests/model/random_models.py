"""Random CodeGen networks, the same weights in transformers and in Pax."""

import dataclasses

import numpy as np
import torch
import transformers
from praxis import base_layer, pax_fiddle, py_utils

from codegen_pax import model
from codegen_pax.weights import layouts
from tests.weights import in_memory


@dataclasses.dataclass(frozen=True)
class Shape:
    """The size of a random network, and of a batch to try it on."""

    layers: int
    heads: int
    head_dims: int
    rotary_dims: int
    vocab_size: int
    batch: int = 1
    length: int = 1

    @property
    def model_dims(self) -> int:
        return self.heads * self.head_dims

    def dimensions(self, embedding_bias: bool = False) -> layouts.Dimensions:
        return layouts.Dimensions(
            self.layers, self.model_dims, self.heads, self.vocab_size, embedding_bias
        )

    def language_model(self, embedding_bias: bool = False, **settings) -> pax_fiddle.Config:
        return model.language_model(
            layers=self.layers,
            model_dims=self.model_dims,
            heads=self.heads,
            head_dims=self.head_dims,
            rotary_dims=self.rotary_dims,
            vocab_size=self.vocab_size,
            embedding_bias=embedding_bias,
            **settings,
        )

    def random_ids(self, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return rng.integers(0, self.vocab_size, (self.batch, self.length), dtype=np.int32)


def reference(shape: Shape, seed: int = 0) -> transformers.CodeGenForCausalLM:
    """Returns a network of transformers whose every weight, bias and norm scale is random."""
    config = transformers.CodeGenConfig(
        vocab_size=shape.vocab_size,
        n_positions=512,
        n_embd=shape.model_dims,
        n_layer=shape.layers,
        n_head=shape.heads,
        rotary_dim=shape.rotary_dims,
        bos_token_id=None,
        eos_token_id=None,
    )
    network = transformers.CodeGenForCausalLM(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim == 2:
                weight.copy_(noise if "wte" in name else noise / weight.shape[1] ** 0.5)
            else:
                is_scale = name.endswith(("ln_1.weight", "ln_f.weight"))
                weight.copy_(is_scale + 0.3 * noise)
    return network


def variables(network: transformers.CodeGenForCausalLM, shape: Shape) -> dict:
    """Returns the same weights as variables of `model.language_model`."""
    arrays = {name: weight.numpy() for name, weight in network.state_dict().items()}
    return in_memory.from_hugging_face(arrays, shape.dimensions())


def reference_logits(network: transformers.CodeGenForCausalLM, ids: np.ndarray) -> np.ndarray:
    """Returns the logits [B, T, V] of transformers."""
    with torch.no_grad():
        return network(torch.tensor(ids, dtype=torch.long)).logits.numpy()


def relative_difference(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest absolute difference, relative to the largest absolute value."""
    return float(np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max())


def training_model(shape: Shape, **settings) -> model.CodeGenModel:
    """Returns what a task trains."""
    lm = shape.language_model(**settings)
    return base_layer.instantiate(pax_fiddle.Config(model.CodeGenModel, name="model", lm_tpl=lm))


def training_batch(ids: np.ndarray) -> py_utils.NestedMap:
    """Returns whole rows [B, T + 1] as a batch: every token but the first is predicted."""
    rows, length = ids.shape[0], ids.shape[1] - 1
    return py_utils.NestedMap(
        ids=ids[:, :-1],
        labels=ids[:, 1:],
        weights=np.ones((rows, length), np.float32),
        paddings=np.zeros((rows, length), np.float32),
        segment_ids=np.ones((rows, length), np.int32),
        segment_pos=np.tile(np.arange(length, dtype=np.int32), (rows, 1)),
    )
