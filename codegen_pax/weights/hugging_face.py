"""The settings that transformers keeps beside weights: written for an export, checked on import."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etils import epath

from codegen_pax import git_lfs, json_files
from codegen_pax.errors import InvalidValueError
from codegen_pax.text.tokenizer import END_OF_TEXT_ID

_ARCHITECTURES = {"codegen": "CodeGenForCausalLM", "gptj": "GPTJForCausalLM"}
_EPSILON = 1e-5
# transformers' names for the GELU's approximation by tanh; they differ in rounding alone.
TANH_GELUS = ("gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate")

# What transformers' CodeGenConfig takes for a key that is missing.
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
# Its other names for some keys, which overrule them.
_ALIASES = {
    "n_layer": "num_hidden_layers",
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
}


def config(size: Any, *, model_type: str, dtype: str, tokenizer_class: str) -> dict[str, Any]:
    """What `config.json` says of a network.

    Args:
        size: a row of the table of sizes.
        model_type: 'codegen' or 'gptj'.
        dtype: of the weights, which `from_pretrained(..., dtype="auto")` loads them as: 'float32',
            'float16' or 'bfloat16'.
        tokenizer_class: transformers' name, as `text.tokenizer.write_tokenizer` returns it.
    """
    found = {
        "architectures": [_ARCHITECTURES[model_type]],
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
        "bos_token_id": END_OF_TEXT_ID,
        "eos_token_id": END_OF_TEXT_ID,
        "tokenizer_class": tokenizer_class,
        "torch_dtype": dtype,  # the name that older versions of transformers read too
    }
    return found | ({"n_ctx": size.context} if model_type == "codegen" else {})


def generation_config() -> dict[str, Any]:
    """What `generation_config.json` says: the likeliest token, until the end of the text."""
    ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), END_OF_TEXT_ID)
    return {"do_sample": False, **ends}


def read_settings(path: Path) -> dict[str, Any]:
    """What a file of settings says.

    Raises:
        ValueError: it is no JSON object, or a pointer of git-LFS.
    """
    git_lfs.check_fetched([path])
    found = json_files.read(epath.Path(path))
    if not isinstance(found, dict):
        raise InvalidValueError(f"{path} is no object of settings; found a {type(found).__name__}")
    return found


def check_config(found: Mapping[str, Any], size: Any) -> None:
    """Refuses the weights of another network.

    Args:
        found: what `config.json` says; a missing key means what it means to transformers.
        size: the wanted row of the table of sizes.

    Raises:
        ValueError: one line that names the first key that tells another network, or quantised
            weights; what was found and what was wanted.
    """
    model_type, _ = _read(found, "model_type")
    if model_type == "gptj":
        raise InvalidValueError(
            "config.json has model_type 'gptj'; wanted 'codegen': GPT-J's layout is exported, and "
            "not imported"
        )
    if quantised := found.get("quantization_config"):
        by = quantised.get("quant_method") if isinstance(quantised, Mapping) else quantised
        raise InvalidValueError(
            f"config.json says that the weights are quantised by {by}: load them with "
            "transformers, dequantize() and save them"
        )
    wanted = {
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
    for key, accepted in wanted.items():
        value, said = _read(found, key)
        if value not in accepted:
            raise InvalidValueError(f"{said}; wanted {' or '.join(map(repr, accepted))}")
    positions, said = _read(found, "n_positions")
    if not isinstance(positions, int) or positions < size.context:
        raise InvalidValueError(f"{said}; wanted at least {size.context}, the experiment's context")


def check_vocab_size(found: Mapping[str, Any], rows: int) -> None:
    """Raises ValueError unless the settings have as many ids as there are rows of the embedding."""
    value, said = _read(found, "vocab_size")
    if value != rows:
        raise InvalidValueError(f"{said}; wanted {rows}, the rows of transformer.wte.weight")


def _read(found: Mapping[str, Any], key: str) -> tuple[Any, str]:
    """What a key means to transformers, and what is found in words."""
    key = _ALIASES[key] if _ALIASES.get(key) in found else key
    if key in found:
        return found[key], f"config.json has {key} {found[key]!r}"
    return _DEFAULTS[key], f"config.json has no {key}, which means {_DEFAULTS[key]!r}"
