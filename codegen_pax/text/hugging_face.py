"""A vocabulary as the files that transformers' AutoTokenizer loads, fast and slow.

`tokenizer.json` is all that the fast tokenizer reads; `vocab.json`, `merges.txt` and the added
tokens are for the slow one. Both give the ids of `vocabulary.encode`. Only the fast one gives a
text back: the slow one's `decode` puts spaces around added tokens.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers

from codegen_pax.text import tokenizer

TOKENIZER_CLASSES = {"gpt2": "GPT2Tokenizer", "codegen": "CodeGenTokenizer"}

# Padding as the released models do it, which have no token of their own for it: what is padded is
# told by the attention mask.
_SPECIAL_TOKENS = dict.fromkeys(
    ("bos_token", "eos_token", "pad_token", "unk_token"), tokenizer.END_OF_TEXT
)


def write_tokenizer(
    folder: Path, vocabulary: str, model_max_length: int, length: int | None = None
) -> str:
    """Writes the files of a tokenizer into a folder.

    The same arguments give the same bytes: `vocab.json` and `merges.txt` are GPT-2's own files.
    A longer one has tokens that no text is made of, `<|extratoken_1|>` and so on, as GPT-J's own
    has: programs that read GPT-J want a token for every row of its embedding.

    Args:
        folder: that is there.
        vocabulary: 'gpt2' or 'codegen'.
        model_max_length: tokens, beyond which transformers warns.
        length: of the vocabulary, if it is to have more tokens than its own.

    Returns:
        The name of transformers' class, which `config.json` may carry too.

    Raises:
        ValueError: there is no such vocabulary, or GPT-2's files are damaged.
        FileNotFoundError: GPT-2's files are not installed.
    """
    loaded = tokenizer.load(vocabulary)
    if extra := max(0, (length or 0) - loaded.get_vocab_size()):
        loaded = tokenizers.Tokenizer.from_str(loaded.to_str())  # the other one is shared
        loaded.add_tokens([f"<|extratoken_{number}|>" for number in range(1, extra + 1)])
    encoder, merges = tokenizer.vocabulary_files()
    (folder / "vocab.json").write_bytes(encoder.read_bytes())
    (folder / "merges.txt").write_bytes(merges.read_bytes())
    (folder / "tokenizer.json").write_text(loaded.to_str(pretty=True) + "\n", encoding="utf-8")
    added = dict(sorted(loaded.get_added_tokens_decoder().items()))
    beyond = {token.content: i for i, token in added.items() if i >= tokenizer.GPT2_SIZE}
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
        "added_tokens_decoder": {str(i): _described(token) for i, token in added.items()},
        **_SPECIAL_TOKENS,
    }
    _save(folder / "tokenizer_config.json", config)
    return TOKENIZER_CLASSES[vocabulary]


def _described(token: tokenizers.AddedToken) -> dict[str, Any]:
    # As in tokenizer.json: a token that differs from it is added to the fast tokenizer again.
    names = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    return {name: getattr(token, name) for name in names}


def _save(path: Path, said: dict[str, Any]) -> None:
    path.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
