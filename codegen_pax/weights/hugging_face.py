"""Folders that transformers saves: configuration, tokenizer and the files of weights.

The configuration is written for an export and checked on import. Trainers wrap a network, which
changes the names of its tensors, and save tensors that are not part of it. Names are mapped to
those of `CodeGenForCausalLM`; a folder with any other tensor is refused, and the error names the
tensor.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from etils import epath

from codegen_pax import git_lfs, json_files
from codegen_pax.errors import InvalidValueError, MissingFileError
from codegen_pax.text import tokenizer
from codegen_pax.weights import layouts, tensor_files
from codegen_pax.weights.tensors import Tensor

CONFIG_FILE = "config.json"
ADAPTER_CONFIG_FILE = "adapter_config.json"  # written by PEFT

ARCHITECTURES = {"codegen": "CodeGenForCausalLM", "gptj": "GPTJForCausalLM"}
_EPSILON = 1e-5
# transformers' names for the approximation of GELU by tanh; they differ only in rounding.
TANH_GELUS = ("gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate")

# The defaults of transformers' CodeGenConfig for missing keys.
_DEFAULTS = {
    "model_type": "codegen",
    "n_layer": 28,
    "n_embd": 4096,
    "n_head": 16,
    "rotary_dim": 64,
    "vocab_size": 50400,
    "n_inner": None,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": _EPSILON,
    "tie_word_embeddings": False,
    "n_positions": 2048,
}
# CodeGenConfig's aliases of some keys, which take precedence over them.
_ALIASES = {
    "n_layer": "num_hidden_layers",
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
}

# Where transformers looks for weights, in its order: one file, or an index of several.
_SINGLE_FILES: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    tensor_files.SAFETENSORS: tensor_files.find_safetensors,
    "pytorch_model.bin": tensor_files.find_torch,
}
_INDEX_FILES: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    tensor_files.SAFETENSORS_INDEX: tensor_files.find_safetensors,
    "pytorch_model.bin.index.json": tensor_files.find_torch,
}

# Parts of names that stand for a wrapper: PyTorch's data parallelism, compiler, FSDP and activation
# checkpoints, DeepSpeed, Lightning, PEFT and TRL.
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
# The names of a network without its head lack the prefix that the network with the head adds.
_HEADLESS = re.compile(r"(wte|h\.\d+|ln_f)\.")
# Names of tensors that do not belong to the network, and what they belong to.
_FOREIGN_TENSORS = {
    r".*\.lora_(A|B|embedding_A|embedding_B|magnitude_vector)\b.*": "part of an adapter that is "
    "not merged: save it with PEFT's merge_and_unload, or by itself and give --adapter",
    r".*\.(SCB|absmax|quant_map|quant_state\b.*|nested_absmax|weight_format|qweight|qzeros|scales"
    r"|g_idx)": "of quantised weights: load them with transformers, dequantize() and save them",
    r"(score|classifier|v_head)\b.*": "the head of another task: save the CodeGenForCausalLM alone",
}
# Files that a folder without readable weights may hold instead.
_HINTS = {
    ADAPTER_CONFIG_FILE: "it is an adapter's",
    "checkpoint-*": "it holds a trainer's checkpoints: name one of them",
    "global_step*": "it is DeepSpeed's: run its zero_to_fp32.py first",
    "*.distcp": "it is a distributed checkpoint of PyTorch's: save the model as one first",
    "*.gguf": "it holds llama.cpp's weights, which cannot be converted back",
    "flax_model.msgpack": "it holds Flax's weights: load them with from_flax=True and save them",
    "tf_model.h5": "it holds TensorFlow's weights: load them with from_tf=True and save them",
    "model.*.safetensors": "it holds a variant: give the file its plain name, model.safetensors",
}


def config(
    size: Any, *, model_type: str, dtype: str, tokenizer_class: str, end_of_text_id: int
) -> dict[str, Any]:
    """Returns the content of `config.json`.

    Args:
        size: a row of the table of sizes.
        model_type: 'codegen' or 'gptj'.
        dtype: the type of the weights, as which `from_pretrained(..., dtype="auto")` loads them:
            'float32', 'float16' or 'bfloat16'.
        tokenizer_class: transformers' name of the class, as `text.tokenizer.write_tokenizer`
            returns it.
        end_of_text_id: the id of `<|endoftext|>` in that tokenizer.
    """
    values = {
        "architectures": [ARCHITECTURES[model_type]],
        "model_type": model_type,
        "vocab_size": size.vocab_size,
        "n_positions": size.context,
        "n_embd": size.model_dims,
        "n_layer": size.layers,
        "n_head": size.heads,
        "rotary_dim": size.rotary_dims,
        "n_inner": None,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": _EPSILON,
        "scale_attn_weights": True,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "initializer_range": 0.02,
        "tie_word_embeddings": False,
        "use_cache": True,
        "bos_token_id": end_of_text_id,
        "eos_token_id": end_of_text_id,
        "tokenizer_class": tokenizer_class,
        "torch_dtype": dtype,  # the name that older versions of transformers read too
    }
    return values | ({"n_ctx": size.context} if model_type == "codegen" else {})


def generation_config(end_of_text_id: int) -> dict[str, Any]:
    """Returns the content of `generation_config.json`: greedy decoding up to the end of text."""
    ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end_of_text_id)
    return {"do_sample": False, **ends}


def read_settings(path: Path) -> dict[str, Any]:
    """Reads a JSON file of settings.

    Raises:
        ValueError: the file is not a JSON object, or is a pointer of git-LFS.
    """
    git_lfs.check_fetched([path])
    settings = json_files.read(epath.Path(path))
    if not isinstance(settings, dict):
        raise InvalidValueError(
            f"{path} holds a {type(settings).__name__}; expected an object of settings"
        )
    return settings


def read_config(folder: Path) -> dict[str, Any]:
    """Reads `config.json`; heads and rotary dimensions do not follow from the weights' shapes.

    Raises:
        FileNotFoundError: the folder has no `config.json`.
        ValueError: the file is not a JSON object, or the folder holds an adapter.
    """
    path = folder / CONFIG_FILE
    if path.is_file():
        return read_settings(path)
    if (folder / ADAPTER_CONFIG_FILE).is_file():
        base = read_settings(folder / ADAPTER_CONFIG_FILE).get("base_model_name_or_path")
        raise InvalidValueError(
            f"{folder} is an adapter of {base}: give the folder of that, and --adapter {folder}"
        )
    raise MissingFileError(
        f"{folder} has no {CONFIG_FILE}; expected the one saved with the weights"
    )


def check_config(values: Mapping[str, Any], size: Any) -> None:
    """Checks that weights are of a network of this size.

    Args:
        values: the content of `config.json`; a missing key has transformers' default.
        size: the expected row of the table of sizes.

    Raises:
        ValueError: the network is different, or its weights are quantised; the message names the
            first key that says so, what was found and what was expected.
    """
    model_type, _ = _read_key(values, "model_type")
    if model_type == "gptj":
        raise InvalidValueError(
            "config.json has model_type 'gptj'; expected 'codegen': GPT-J's layout is exported, "
            "and not imported"
        )
    if quantised := values.get("quantization_config"):
        method = quantised.get("quant_method") if isinstance(quantised, Mapping) else quantised
        raise InvalidValueError(
            f"config.json says that the weights are quantised by {method}: load them with "
            "transformers, dequantize() and save them"
        )
    expected: dict[str, tuple[Any, ...]] = {
        "model_type": ("codegen",),
        "n_layer": (size.layers,),
        "n_embd": (size.model_dims,),
        "n_head": (size.heads,),
        "rotary_dim": (size.rotary_dims,),
        "n_inner": (None, 4 * size.model_dims),
        "activation_function": TANH_GELUS,
        "layer_norm_epsilon": (_EPSILON,),
        "tie_word_embeddings": (False, None),
    }
    for key, accepted in expected.items():
        value, description = _read_key(values, key)
        if value not in accepted:
            raise InvalidValueError(f"{description}; expected {' or '.join(map(repr, accepted))}")
    positions, description = _read_key(values, "n_positions")
    if not isinstance(positions, int) or positions < size.context:
        raise InvalidValueError(
            f"{description}; expected at least {size.context}, the experiment's context"
        )


def check_vocab_size(values: Mapping[str, Any], rows: int) -> None:
    """Raises ValueError unless `config.json` has as many ids as there are rows of the embedding."""
    value, description = _read_key(values, "vocab_size")
    if value != rows:
        raise InvalidValueError(
            f"{description}; expected {rows}, the rows of transformer.wte.weight"
        )


def _read_key(values: Mapping[str, Any], key: str) -> tuple[Any, str]:
    """Returns the value that transformers uses for a key, and a sentence on what was found."""
    if (alias := _ALIASES.get(key)) in values:
        key = str(alias)
    if key in values:
        return values[key], f"config.json has {key} {values[key]!r}"
    return _DEFAULTS[key], f"config.json has no {key}, which means {_DEFAULTS[key]!r}"


def check_tokenizer(folder: Path, vocabulary: str) -> None:
    """Checks that a folder's own tokenizer, if it has one, has no other tokens than the network's.

    A tokenizer with fewer tokens, such as GPT-2's, is accepted: the other tokens still have rows.

    Args:
        folder: the folder of the weights.
        vocabulary: the experiment's vocabulary. The released models of the NL phase have the
            tokenizer of 'codegen', which begins as 'gpt2' does.

    Raises:
        ValueError: a token has another id or is not one of CodeGen's, or a file is damaged.
    """
    name = "codegen" if vocabulary == "gpt2" else vocabulary
    known = tokenizer.load(name).get_vocab(with_added_tokens=True)
    for token, number in _read_tokens(folder).items():
        if known.get(token) != number:
            problem = "another id" if token in known else "no such token"
            raise InvalidValueError(
                f"the tokenizer of {folder} has {token!r} as {number}, and CodeGen's has {problem}"
                ": resize the embeddings to CodeGen's tokens and save them with its tokenizer"
            )


def _read_tokens(folder: Path) -> dict[str, int]:
    """Reads all tokens of a folder's tokenizer and their ids from the files transformers reads."""
    path = folder / "tokenizer.json"
    git_lfs.check_fetched([path, folder / "vocab.json", folder / "added_tokens.json"])
    if path.is_file():
        try:
            return tokenizers.Tokenizer.from_file(str(path)).get_vocab(with_added_tokens=True)
        except Exception as error:  # the type that the library raises
            raise InvalidValueError(f"{path} is no tokenizer: {error}") from error
    ids: dict[str, int] = {}
    for name in ("vocab.json", "added_tokens.json"):
        if (folder / name).is_file():
            ids |= read_settings(folder / name)
    return ids


def find_weights(folder: Path) -> dict[str, Tensor]:
    """Finds the weights of a folder.

    Returns:
        The tensors by name, without the constants that older versions saved.

    Raises:
        FileNotFoundError: there is no file of weights, or the index names a file that does not
            exist.
        ValueError: a file is damaged, is a pointer of git-LFS, does not hold what the index says,
            or holds an adapter, quantised weights or the head of another task.
    """
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is no directory; expected one that transformers saved")
    for (single, find), index in zip(_SINGLE_FILES.items(), _INDEX_FILES, strict=True):
        if (folder / single).is_file():
            return _rename_weights(folder, find(folder / single))
        if (folder / index).is_file():
            return _rename_weights(folder, _find_indexed(folder, index))
    hint = next((hint for pattern, hint in _HINTS.items() if any(folder.glob(pattern))), "")
    raise MissingFileError(
        f"{folder} holds no weights: expected one of "
        f"{', '.join((*_SINGLE_FILES, *_INDEX_FILES))}" + (f"; {hint}" if hint else "")
    )


def _find_indexed(folder: Path, index: str) -> dict[str, Tensor]:
    """Finds the tensors that an index places in the files of its folder."""
    git_lfs.check_fetched([folder / index])
    try:
        file_of_tensor = dict(json.loads((folder / index).read_text())["weight_map"])
        files = sorted({*file_of_tensor.values()})
        base_names = [Path(file).name for file in files]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidValueError(f"{folder / index} is no index of tensors: {error!r}") from error
    git_lfs.check_fetched(folder / name for name in base_names)
    tensors: dict[str, Tensor] = {}
    for file, base_name in zip(files, base_names, strict=True):
        if base_name != file:
            raise InvalidValueError(
                f"{folder / index} names {file!r}; expected a file of its own folder"
            )
        if not (folder / file).is_file():
            raise MissingFileError(f"{folder} has no {file}, which {index} names")
        in_file = _INDEX_FILES[index](folder / file)
        indexed = [name for name, place in file_of_tensor.items() if place == file]
        for name in in_file:
            if name not in indexed and not layouts.is_constant(name):
                raise InvalidValueError(
                    f"{folder / file} holds {name}, which {index} does not place there: "
                    "transformers would load it nevertheless"
                )
        for name in indexed:
            if name not in in_file:
                raise InvalidValueError(f"{folder / file} does not hold {name}, as {index} says")
            tensors[name] = in_file[name]
    return tensors


def _rename_weights(folder: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights among `tensors`, by their names in CodeGenForCausalLM."""
    weights: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if layouts.is_constant(name):
            continue
        plain = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
        if _HEADLESS.match(plain):
            plain = f"transformer.{plain}"
        for pattern, description in _FOREIGN_TENSORS.items():
            if re.fullmatch(pattern, plain):
                raise InvalidValueError(f"{folder} holds {name}, {description}")
        if plain in weights:
            raise InvalidValueError(f"{folder} holds {plain} twice, once as {name}")
        weights[plain] = tensor
    if weights and not any(name.startswith("lm_head.") for name in weights):
        raise InvalidValueError(
            f"{folder} holds no lm_head.weight: expected a CodeGenForCausalLM, not a network "
            "without its head"
        )
    return weights
