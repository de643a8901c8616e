"""PEFT's LoRA adapters: merged into the weights that they are of, a few rows at a time.

    linear, embedding:  W' = W + s B A                       s = alpha / r, or alpha / sqrt(r)
    DoRA:               W' = m (W + s B A) / |W + s B A|     by rows of a linear layer, or by
                                                             columns of the embedding's table
    tokens:             W'[token] = the row that was trained

All of it is reckoned in float32, in the order of the letters, and rounded once, to the base's own
type, as `PeftModel.from_pretrained(...).merge_and_unload()` does on a CPU, whatever the types of
base and adapter. The embedding's delta alone is rounded before it is added. (With `safe_merge`, or
without `autocast_adapter_dtype`, PEFT rounds every delta first.) Source: huggingface/peft 0.21.2,
`tuners/lora/layer.py`, `tuners/lora/variants.py` and `tuners/trainable_tokens/layer.py`.
"""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codegen_pax import git_lfs
from codegen_pax.errors import InvalidValueError, MissingFileError
from codegen_pax.weights import adapter_config, finite, safetensors_files, summing, torch_files
from codegen_pax.weights.adapter_config import Config
from codegen_pax.weights.cuts import CUT_BYTES
from codegen_pax.weights.tensors import Files, Source

_FILES = {
    "adapter_model.safetensors": safetensors_files.find,
    "adapter_model.bin": torch_files.find,
}
_PREFIX = "base_model.model."
# A tensor of LoRA: its module, and which of the module's it is.
_LORA = re.compile(
    r"(.+)\.(lora_A\.weight|lora_B\.weight|lora_B\.bias|lora_embedding_A|lora_embedding_B"
    r"|lora_magnitude_vector)"
)
# Rows of an embedding that were trained as they are.
_TOKENS = re.compile(r"(.+)\.token_adapter\.trainable_tokens_delta")
# What stands in the name of a tensor that is replaced whole.
_WRAPPED = re.compile(r"(?:\.token_adapter)?\.(base_layer|modules_to_save)(?=\.)")
_EMBEDDING = adapter_config.EMBEDDING


@dataclasses.dataclass(frozen=True)
class _Delta:
    """What is added to a module's weight: names of an adapter's tensors.

    Attributes:
        first: A [r, in], or of an embedding [r, V].
        second: B [out, r], or of an embedding [D, r].
        scaling: s.
        magnitude: m [out], or of an embedding [D]; None without DoRA.
        bias: [out], added to the module's; None without.
    """

    first: str
    second: str
    scaling: float
    magnitude: str | None
    bias: str | None


@dataclasses.dataclass(frozen=True)
class _Tokens:
    """Rows of a weight that are replaced.

    Attributes:
        name: of the adapter's tensor that holds them.
        rows: [n], which they are.
    """

    name: str
    rows: np.ndarray


class Merged(Source):
    """The weights of a base with an adapter's in them.

    Attributes:
        config: the adapter's settings.
        adapter: its tensors.
    """

    def __init__(self, below: Source, config: Config, adapter: Files):
        """Checks that the adapter is one of the base's.

        Raises:
            ValueError: a tensor is unknown, missing, of no module of the base, or misshaped; or
                the settings name other modules than the tensors; or a number of LoRA's or of a
                token's is not finite.
        """
        super().__init__(below)
        self.config, self.adapter = config, adapter
        self._replaced: dict[str, str] = {}  # a tensor of the base -> what stands in its place
        self._deltas: dict[str, _Delta] = {}
        self._tokens: dict[str, _Tokens] = {}
        self._norms: np.ndarray | None = None  # [D], of an embedding with DoRA
        self._reckoning = threading.Lock()
        parts: dict[str, dict[str, str]] = {}
        tokens: dict[str, str] = {}
        for name in adapter.tensors:
            plain = name.removeprefix(_PREFIX)
            if found := _LORA.fullmatch(plain):
                parts.setdefault(found[1], {})[found[2]] = name
                continue
            if found := _TOKENS.fullmatch(plain):
                tokens[found[1]] = name
                continue
            if "original_module" in plain.split("."):
                continue  # what stood there before, and does no more
            wrapped, plain = plain, _WRAPPED.sub("", plain)
            if wrapped != plain and f"{_PREFIX}{plain}" in adapter.tensors:
                continue  # saved twice, as resized embeddings are: PEFT reads the plain name
            if plain not in self.tensors or plain in self._replaced:
                raise self._error(f"{name} belongs to no tensor of the base")
            self._replaced[plain] = name
            shape = adapter.tensors[name].shape
            self.tensors[plain] = dataclasses.replace(self.tensors[plain], shape=shape)
        linear = (name.removesuffix(".weight") for name in self.tensors if "ln_" not in name)
        modules = {name for name in linear if f"{name}.weight" in self.tensors}
        self._check_named(config.targets(modules), parts, "tensors")
        for module, found in parts.items():
            self._deltas[module] = self._delta(module, found)
        named = {module for module in modules if config.tokens(module) is not None}
        self._check_named(named, tokens, "rows of tokens")
        for module, name in tokens.items():
            self._tokens[module] = self._tokens_of(module, name)

    def paths(self) -> list[Path]:
        return [*super().paths(), *self.adapter_paths()]

    def adapter_paths(self) -> list[Path]:
        """The adapter's own files."""
        return [self.config.path, *self.adapter.paths()]

    def place(self, name: str) -> str:
        place = super().place(name)
        if name in self._replaced:
            place = self.adapter.place(self._replaced[name])
        changed = name.rpartition(".")[0] in self._deltas | self._tokens
        return f"{place} with the adapter {self.config.path.parent}" if changed else place

    # What is not finite is told by whoever moves it, with its name.
    @np.errstate(over="ignore", divide="ignore", invalid="ignore")
    def rows(self, name: str, start: int, stop: int, row_shape: tuple[int, ...]) -> np.ndarray:
        kind = self.tensors[name].dtype
        rows = self._base(name, start, stop, row_shape)
        module, _, parameter = name.rpartition(".")
        delta = self._deltas.get(module)
        if delta is None or (parameter == "bias" and delta.bias is None):
            return rows
        rows = rows.astype(np.float32, order="C")
        if parameter == "bias":
            added = self.adapter.rows(delta.bias, start, stop, ()).astype(np.float32)
            return (rows + added * np.float32(delta.scaling)).astype(kind)
        merged = rows + self._product(module, start, stop)
        if delta.magnitude is None:
            return merged.astype(kind)
        if module == _EMBEDDING:
            factor = self.adapter.whole(delta.magnitude).astype(np.float32) / self._table_norms()
        else:
            magnitudes = self.adapter.rows(delta.magnitude, start, stop, ()).astype(np.float32)
            factor = (magnitudes / summing.row_norms(merged))[:, np.newaxis]
        return (factor * merged).astype(kind)

    def close(self) -> None:
        self.adapter.close()
        super().close()

    def _base(self, name: str, start: int, stop: int, row_shape: tuple[int, ...]) -> np.ndarray:
        """Rows without LoRA's part, in the base's type."""
        if name in self._replaced:
            rows = self.adapter.rows(self._replaced[name], start, stop, row_shape)
            rows = rows.astype(self.tensors[name].dtype)
        else:
            rows = self.below.rows(name, start, stop, row_shape)
        tokens = self._tokens.get(name.removesuffix(".weight"))
        if tokens is not None:
            among = (start <= tokens.rows) & (tokens.rows < stop)
            rows[tokens.rows[among] - start] = self.adapter.whole(tokens.name)[among]
        return rows

    def _product(self, module: str, start: int, stop: int) -> np.ndarray:
        """Rows of s B A in float32."""
        delta, scaling = self._deltas[module], np.float32(self._deltas[module].scaling)
        if module != _EMBEDDING:
            rank = self.adapter.tensors[delta.second].shape[1:]
            second = self.adapter.rows(delta.second, start, stop, rank)
            return summing.product(second, self.adapter.whole(delta.first)) * scaling
        first = self.adapter.whole(delta.first)[:, start:stop]
        product = summing.product(self.adapter.whole(delta.second), first).T * scaling
        if delta.magnitude is not None:
            return product
        return product.astype(self.tensors[f"{module}.weight"].dtype).astype(np.float32)

    def _table_norms(self) -> np.ndarray:
        """The norms [D] of the columns of the embedding's merged table: one pass over it."""
        with self._reckoning:
            if self._norms is None:
                name = f"{_EMBEDDING}.weight"
                vocab_size, dims = self.tensors[name].shape
                step = max(1, CUT_BYTES // (4 * dims))
                squares = np.zeros(dims, np.float32)
                for start in range(0, vocab_size, step):
                    stop = min(vocab_size, start + step)
                    rows = self._base(name, start, stop, (dims,)).astype(np.float32)
                    rows += self._product(_EMBEDDING, start, stop)
                    squares = summing.add_squares(squares, rows)
                self._norms = np.sqrt(squares)
            return self._norms

    def _delta(self, module: str, found: dict[str, str]) -> _Delta:
        """A module's tensors, all of them there and of the shapes that the base wants."""
        shape, rank = self.tensors[f"{module}.weight"].shape, self.config.rank(module)
        if module == _EMBEDDING:
            first, second = "lora_embedding_A", "lora_embedding_B"
            rows, columns = shape[::-1]
        else:
            first, second = "lora_A.weight", "lora_B.weight"
            rows, columns = shape
        wanted: dict[str, tuple[int, ...]] = {first: (rank, columns), second: (rows, rank)}
        if self.config.dora:
            wanted["lora_magnitude_vector"] = (rows,)
        if self.config.values.get("lora_bias") and module != _EMBEDDING:
            if f"{module}.bias" not in self.tensors:
                raise self._error(f"{module} has no bias that lora_bias could be added to")
            wanted["lora_B.bias"] = (rows,)
        for part in sorted(wanted.keys() ^ found.keys()):
            raise self._error(
                f"{module} has no {part}" if part in wanted else f"{found[part]} has no place"
            )
        for part, size in wanted.items():
            self._check_tensor(found[part], size)
        return _Delta(
            found[first],
            found[second],
            self.config.scaling(module),
            found.get("lora_magnitude_vector"),
            found.get("lora_B.bias"),
        )

    def _tokens_of(self, module: str, name: str) -> _Tokens:
        """The rows of a module that one of the adapter's tensors replaces."""
        rows = np.array(self.config.tokens(module), np.int64)
        if module in self._deltas:
            raise self._error(f"{name} has rows of a weight that is changed by LoRA too")
        vocab_size, *row_shape = self.tensors[f"{module}.weight"].shape
        self._check_tensor(name, (len(rows), *row_shape))
        if rows.size and rows.max() >= vocab_size:
            raise self._error(f"{name} has row {rows.max():,}, and the base {vocab_size:,} rows")
        return _Tokens(name, rows)

    def _check_tensor(self, name: str, wanted: tuple[int, ...]) -> None:
        """Raises ValueError unless one of the adapter's tensors has this shape, and is finite."""
        shape = self.adapter.tensors[name].shape
        if shape != wanted:
            raise self._error(f"{name} has shape {shape}, wanted {wanted}")
        with self.adapter:
            numbers = self.adapter.whole(name)
        if not finite.is_finite(numbers):
            raise finite.refusal(self.adapter.place(name), shape, [(0, numbers)])

    def _check_named(self, named: set[str], found: Iterable[str], what: str) -> None:
        """Raises ValueError unless the settings name the modules that there are tensors of."""
        for module in sorted(named ^ {*found}):
            if module in named:
                raise self._error(f"no {what} of {module}, which {adapter_config.FILE} names")
            raise self._error(f"{what} of {module}, which {adapter_config.FILE} does not name")

    def _error(self, what: str) -> InvalidValueError:
        return InvalidValueError(f"the adapter {self.config.path.parent}: {what}")


def merged(base: Source, folder: Path) -> Merged:
    """A network of Hugging Face's layout with the adapter of a folder in it.

    Args:
        base: the weights that it is of.
        folder: that PEFT saved.

    Raises:
        FileNotFoundError: the folder is not there, or holds no adapter.
        ValueError: the adapter is of another kind or of another network, or damaged.
    """
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is no directory; wanted one that PEFT saved")
    config = adapter_config.read(folder)
    for name, find in _FILES.items():
        if (folder / name).is_file():
            git_lfs.check_fetched([folder / name])
            return Merged(base, config, Files(find(folder / name)))
    raise MissingFileError(f"{folder} holds no {' or '.join(_FILES)}")


def described(source: Merged, hashed: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """An adapter as an import's lineage has it.

    Args:
        source: what was imported.
        hashed: its files, as `lineage.hash_files` gives them.
    """
    return {
        "directory": str(source.config.path.parent),
        "base_model": source.config.values.get("base_model_name_or_path"),
        "revision": source.config.values.get("revision"),
        "files": [*hashed],
    }
