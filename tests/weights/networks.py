"""Small random networks of transformers, saved as people have them, and the same in Pax."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
import transformers

from codegen_pax.weights import layouts
from codegen_pax.weights.tensors import FileReader


@dataclasses.dataclass(frozen=True)
class Network:
    """Sizes as the table of sizes has them."""

    layers: int = 3
    model_dims: int = 32
    heads: int = 8
    rotary_dims: int = 2
    context: int = 64
    vocab_size: int = 96

    def dims(self, embedding_bias: bool = False) -> layouts.Dimensions:
        return layouts.Dimensions.of(self, embedding_bias=embedding_bias)

    def hugging_face(self, kind: str = "float32", seed: int = 0, model: str = "CodeGen"):
        """A network of transformers whose every number is random, negative zeros among them."""
        config = getattr(transformers, f"{model}Config")(
            vocab_size=self.vocab_size,
            n_positions=self.context,
            n_embd=self.model_dims,
            n_layer=self.layers,
            n_head=self.heads,
            rotary_dim=self.rotary_dims,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
        network = getattr(transformers, f"{model}ForCausalLM")(config).eval()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in network.parameters():
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
                weight.view(-1)[0] = -0.0
        return network.to(getattr(torch, kind))


def logits(network, ids: np.ndarray) -> np.ndarray:
    """Of a network of transformers, [B, T, V]."""
    with torch.no_grad():
        return network(torch.tensor(ids)).logits.float().numpy()


def save_bin(network, folder: Path, shards: int = 1, **settings) -> None:
    """Saves a network as old versions of transformers did."""
    network.config.save_pretrained(folder)
    state = network.state_dict()
    names = [*state]
    if shards == 1:
        torch.save(state, folder / "pytorch_model.bin", **settings)
        return
    where = {}
    for number in range(shards):
        file = f"pytorch_model-{number + 1:05d}-of-{shards:05d}.bin"
        part = {name: state[name] for name in names[number::shards]}
        torch.save(part, folder / file, **settings)
        where |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": where}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def save_jaxformer(arrays: dict[str, np.ndarray], folder: Path, step: int = 7) -> None:
    """Saves parameters, given by full name, as jaxformer does: without names, JAX's order."""
    import jax

    nested: dict = {}
    for name, array in arrays.items():
        part, _, rest = name.partition("/")
        module, _, parameter = rest.rpartition("/")
        nested.setdefault(part, {}).setdefault(module, {})[parameter] = array
    (folder / "model").mkdir(parents=True)
    with open(folder / "model" / "0.npz", "wb") as file:
        np.savez(file, *jax.tree.leaves(nested))
    (folder / "ckpt.json").write_text(json.dumps({"process_count": 1, "step": step}))


def assert_holds(files: FileReader, state: dict) -> None:
    """Every tensor, whole and in two pieces, is that of a state dict of PyTorch."""
    assert files.tensors.keys() == state.keys()
    for name, tensor in state.items():
        bits = tensor.contiguous().view(torch.uint8).numpy()
        shape, rows = tuple(tensor.shape[1:]), tensor.shape[0]
        assert files.read_rows(name, 0, rows, shape).tobytes() == bits.tobytes()
        for start, stop in ((0, rows // 2), (rows // 2, rows)):
            actual = np.ascontiguousarray(files.read_rows(name, start, stop, shape))
            assert (
                actual.tobytes()
                == tensor[start:stop].contiguous().view(torch.uint8).numpy().tobytes()
            )
