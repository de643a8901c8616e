"""A folder of Hugging Face's: which files hold its tensors, safetensors or PyTorch's own.

Trainers save a network's tensors under the names of what they had wrapped it in, and more besides:
names are brought back to those of `CodeGenForCausalLM`, and what is no plain network is named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import tokenizers

from codegen_pax import git_lfs
from codegen_pax.errors import InvalidValueError, MissingFileError
from codegen_pax.text import tokenizer
from codegen_pax.weights import adapter_config, hugging_face, layout, safetensors_files, torch_files
from codegen_pax.weights.tensors import Tensor

CONFIG = "config.json"

# Where transformers looks, in its order: one file, or an index of several.
_WHOLE: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    safetensors_files.WHOLE: safetensors_files.find,
    "pytorch_model.bin": torch_files.find,
}
_INDEXED = {
    safetensors_files.INDEX: safetensors_files.find,
    "pytorch_model.bin.index.json": torch_files.find,
}

# What stands in the names for a wrapper: of PyTorch's data parallelism, compiler, FSDP and
# activation checkpoints, of DeepSpeed, Lightning, PEFT and TRL.
_WRAPPERS = {
    "_checkpoint_wrapped_module",
    "_forward_module",
    "_fsdp_wrapped_module",
    "_orig_mod",
    "base_model",
    "model",
    "module",
    "pretrained_model",
}
# A network without its head has names without the part that the head's network has.
_HEADLESS = re.compile(r"(wte|h\.\d+|ln_f)\.")
# Tensors that tell what else was saved.
_STRANGERS = {
    r".*\.lora_(A|B|embedding_A|embedding_B|magnitude_vector)\b.*": "part of an adapter that is "
    "not merged: save it with PEFT's merge_and_unload, or by itself and give --adapter",
    r".*\.(SCB|absmax|quant_map|quant_state\b.*|nested_absmax|weight_format|qweight|qzeros|scales"
    r"|g_idx)": "of quantised weights: load them with transformers, dequantise() and save them",
    r"(score|classifier|v_head)\b.*": "the head of another task: save the CodeGenForCausalLM alone",
}
# What people have in a folder without weights that can be read.
_HINTS = {
    adapter_config.FILE: "it is an adapter's",
    "checkpoint-*": "it holds a trainer's checkpoints: name one of them",
    "global_step*": "it is DeepSpeed's: run its zero_to_fp32.py first",
    "*.distcp": "it is a distributed checkpoint of PyTorch's: save the model whole first",
    "*.gguf": "it holds llama.cpp's weights, which cannot be turned back",
    "flax_model.msgpack": "it holds Flax's weights: load them with from_flax=True and save them",
    "tf_model.h5": "it holds TensorFlow's weights: load them with from_tf=True and save them",
    "model.*.safetensors": "it holds a variant: give the file its plain name, model.safetensors",
}


def find(folder: Path) -> dict[str, Tensor]:
    """The weights of a folder by name; what is no weight (`layout.is_constant`) is left out.

    Raises:
        FileNotFoundError: there is no file of weights, or the index names one that is not there.
        ValueError: a file is damaged, is a pointer of git-LFS, does not hold what the index says,
            or holds an adapter, quantised weights or the head of another task.
    """
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is no directory; wanted one that transformers saved")
    for (whole, find_in), index in zip(_WHOLE.items(), _INDEXED, strict=True):
        if (folder / whole).is_file():
            return _weights(folder, find_in(folder / whole))
        if (folder / index).is_file():
            return _weights(folder, _indexed(folder, index))
    hint = next((said for name, said in _HINTS.items() if any(folder.glob(name))), "")
    raise MissingFileError(
        f"{folder} holds no weights: wanted one of {', '.join((*_WHOLE, *_INDEXED))}"
        + (f"; {hint}" if hint else "")
    )


def read_config(folder: Path) -> dict:
    """What `config.json` says.

    Raises:
        FileNotFoundError: there is none: shapes alone do not tell heads and rotary dimensions.
        ValueError: it is no JSON object.
    """
    path = folder / CONFIG
    if not path.is_file():
        if (folder / adapter_config.FILE).is_file():
            base = adapter_config.read(folder).base
            raise InvalidValueError(
                f"{folder} is an adapter of {base}: give the folder of that, and --adapter {folder}"
            )
        raise MissingFileError(f"{folder} has no {CONFIG}; wanted the one saved with the weights")
    return hugging_face.read_settings(path)


def check_tokenizer(folder: Path) -> None:
    """Refuses weights whose own tokenizer, if the folder has one, has other tokens than CodeGen's.

    One with fewer, as GPT-2's, is fine: the rest of the rows are there.

    Raises:
        ValueError: a token has another id, there is one that CodeGen has not, or a file is damaged.
    """
    known = tokenizer.load("codegen").get_vocab(with_added_tokens=True)
    for token, number in _tokens(folder).items():
        if known.get(token) != number:
            found = "another id" if token in known else "no such token"
            raise InvalidValueError(
                f"the tokenizer of {folder} has {token!r} as {number}, and CodeGen's has {found}: "
                "resize the embeddings to CodeGen's tokens and save them with its tokenizer"
            )


def _tokens(folder: Path) -> dict[str, int]:
    """Every token of a folder's tokenizer with its id, of the files that transformers reads."""
    path = folder / "tokenizer.json"
    git_lfs.check_fetched([path, folder / "vocab.json", folder / "added_tokens.json"])
    if path.is_file():
        try:
            return tokenizers.Tokenizer.from_file(str(path)).get_vocab(with_added_tokens=True)
        except Exception as error:  # the library raises it as it is
            raise InvalidValueError(f"{path} is no tokenizer: {error}") from error
    names = ("vocab.json", "added_tokens.json")
    found: dict[str, int] = {}
    for name in names:
        if (folder / name).is_file():
            found |= hugging_face.read_settings(folder / name)
    return found


def _indexed(folder: Path, index: str) -> dict[str, Tensor]:
    git_lfs.check_fetched([folder / index])
    try:
        where = dict(json.loads((folder / index).read_text())["weight_map"])
        files = sorted({*where.values()})
        names = [Path(file).name for file in files]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidValueError(f"{folder / index} is no index of tensors: {error!r}") from error
    git_lfs.check_fetched(folder / name for name in names)
    found: dict[str, Tensor] = {}
    for file, name in zip(files, names, strict=True):
        if name != file:
            raise InvalidValueError(
                f"{folder / index} names {file!r}; wanted a file of its own folder"
            )
        if not (folder / file).is_file():
            raise MissingFileError(f"{folder} has no {file}, which {index} names")
        held = _INDEXED[index](folder / file)
        of_file = [name for name, said in where.items() if said == file]
        strangers = (name for name in held if name not in of_file and not layout.is_constant(name))
        if stranger := next(strangers, None):
            raise InvalidValueError(
                f"{folder / file} holds {stranger}, which {index} does not place there: "
                "transformers would load it nevertheless"
            )
        for name in of_file:
            if name not in held:
                raise InvalidValueError(f"{folder / file} does not hold {name}, as {index} says")
            found[name] = held[name]
    return found


def _weights(folder: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights among tensors, by the names that CodeGenForCausalLM gives them."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if layout.is_constant(name):
            continue
        plain = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
        if _HEADLESS.match(plain):
            plain = f"transformer.{plain}"
        for pattern, said in _STRANGERS.items():
            if re.fullmatch(pattern, plain):
                raise InvalidValueError(f"{folder} holds {name}, {said}")
        if plain in found:
            raise InvalidValueError(f"{folder} holds {plain} twice, once as {name}")
        found[plain] = tensor
    if found and not any(name.startswith("lm_head.") for name in found):
        raise InvalidValueError(
            f"{folder} holds no lm_head.weight: wanted a CodeGenForCausalLM, not a network without "
            "its head"
        )
    return found
