"""PEFT's LoRA adapters, merged into the weights of their base a few rows at a time.

    linear, embedding:  W' = W + s B A                       s = alpha / r, or alpha / sqrt(r)
    DoRA:               W' = m (W + s B A) / |W + s B A|     by rows of a linear layer, or by
                                                             columns of the embedding's table
    tokens:             W'[token] = the row that was trained

Everything is computed in float32, in the order of the letters, and rounded once, to the base's own
type, as `PeftModel.from_pretrained(...).merge_and_unload()` does on a CPU for all types of base and
adapter. Only the embedding's delta is rounded before it is added. (With `safe_merge`, or without
`autocast_adapter_dtype`, PEFT rounds every delta first.) Source: huggingface/peft 0.21.2,
`tuners/lora/layer.py`, `tuners/lora/variants.py` and `tuners/trainable_tokens/layer.py`.

The last bit of a sum depends on its order, which differs between libraries, and within a library
between processors and shapes. The sums here use the orders of PyTorch 2.13 on x86-64 with AVX2,
where they were checked, so that merged weights are bit-identical to PEFT's. Each number is summed
on its own, so that a merge is the same on every machine and for any number of rows read at a time.
"""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codegen_pax import floats, git_lfs
from codegen_pax.errors import InvalidValueError, MissingFileError
from codegen_pax.weights import adapter_config, slices, tensor_files
from codegen_pax.weights.adapter_config import EMBEDDING, AdapterConfig
from codegen_pax.weights.tensors import FileReader, TensorReader

_FILES = {
    "adapter_model.safetensors": tensor_files.find_safetensors,
    "adapter_model.bin": tensor_files.find_torch,
}
_PREFIX = "base_model.model."
# The name of a tensor of LoRA: its module, and its role in the module.
_LORA = re.compile(
    r"(.+)\.(lora_A\.weight|lora_B\.weight|lora_B\.bias|lora_embedding_A|lora_embedding_B"
    r"|lora_magnitude_vector)"
)
# The name of a tensor of embedding rows that were trained directly.
_TOKENS = re.compile(r"(.+)\.token_adapter\.trainable_tokens_delta")
# The part that marks the name of a tensor as a replacement for the base's tensor.
_WRAPPED = re.compile(r"(?:\.token_adapter)?\.(base_layer|modules_to_save)(?=\.)")

# Numbers that are summed at a time, few enough to stay in a processor's cache.
_SUM_BLOCK = 32 << 10
_LANES = 8  # float32 numbers in a register of AVX2


def product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns [m, k] @ [k, n]: terms added one after another, by fused multiply-adds.

    MKL does the same for up to 192 terms, beyond which it adds the sums of two halves. A product of
    two float32 is exact in float64. The sum is rounded to float64 first, which changes the float32
    result in one case of 2^29. A term takes 1.4 ns on one core, some twenty times as long as in
    numpy's own product.
    """
    terms, columns = right.shape
    left, right = left.astype(np.float64), right.astype(np.float64)
    result = np.zeros((len(left), columns), np.float32)
    step = max(1, _SUM_BLOCK // columns)
    for start in range(0, len(left), step):
        rows, sums = left[start : start + step], result[start : start + step]
        wide = np.empty(sums.shape, np.float64)
        for term in range(terms):
            np.multiply(rows[:, term : term + 1], right[term], out=wide)
            np.add(wide, sums, out=wide)
            sums[...] = wide
    return result


def row_norms(matrix: np.ndarray) -> np.ndarray:
    """Returns the norms [m] of the rows of [m, n], n a multiple of 8: the sum of eight sums."""
    squares = np.square(matrix, order="C").reshape(len(matrix), -1, _LANES)
    return np.sqrt(np.add.accumulate(squares.sum(axis=1), axis=1)[:, -1])


def add_squares(sums: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Adds to sums [n] the squares of the rows of [m, n], one row after another."""
    squares = np.square(rows, order="C")
    squares[0] += sums
    return squares.sum(axis=0)


@dataclasses.dataclass(frozen=True)
class _Delta:
    """The delta of a module's weight, as the names of the adapter's tensors.

    Attributes:
        first: A [r, in], or [r, V] for an embedding.
        second: B [out, r], or [D, r] for an embedding.
        scaling: s.
        magnitude: m [out], or [D] for an embedding; None without DoRA.
        bias: [out], added to the module's bias; None if there is none.
    """

    first: str
    second: str
    scaling: float
    magnitude: str | None
    bias: str | None


@dataclasses.dataclass(frozen=True)
class _TokenRows:
    """Rows of a weight that are replaced.

    Attributes:
        name: the name of the adapter's tensor that holds them.
        indices: the indices of the rows, [n].
    """

    name: str
    indices: np.ndarray


class MergedReader(TensorReader):
    """The weights of a base with an adapter merged into them.

    Attributes:
        config: the adapter's settings.
        adapter: the adapter's tensors.
    """

    def __init__(self, base: TensorReader, config: AdapterConfig, adapter: FileReader):
        """Checks that the adapter belongs to the base.

        Raises:
            ValueError: a tensor is unknown, missing, misshaped, or not of a module of the base; or
                the settings and the tensors name different modules; or a number in the tensors of
                LoRA or of tokens is not finite.
        """
        super().__init__(base)
        self.config, self.adapter = config, adapter
        self._replacements: dict[str, str] = {}  # a tensor of the base -> one of the adapter
        self._deltas: dict[str, _Delta] = {}
        self._token_rows: dict[str, _TokenRows] = {}
        self._norms: np.ndarray | None = None  # [D], for an embedding with DoRA
        self._computing_norms = threading.Lock()
        lora: dict[str, dict[str, str]] = {}  # a module -> role of a tensor -> its name
        tokens: dict[str, str] = {}  # a module -> name
        for name in adapter.tensors:
            plain = name.removeprefix(_PREFIX)
            if match := _LORA.fullmatch(plain):
                lora.setdefault(match[1], {})[match[2]] = name
            elif match := _TOKENS.fullmatch(plain):
                tokens[match[1]] = name
            else:
                self._replace(name, plain)
        linear = (name.removesuffix(".weight") for name in self.tensors if "ln_" not in name)
        modules = {name for name in linear if f"{name}.weight" in self.tensors}
        self._check_modules(config.targets(modules), lora, "tensors")
        for module, names in lora.items():
            self._deltas[module] = self._make_delta(module, names)
        with_tokens = {module for module in modules if config.tokens(module) is not None}
        self._check_modules(with_tokens, tokens, "rows of tokens")
        for module, name in tokens.items():
            self._token_rows[module] = self._make_token_rows(module, name)

    def paths(self) -> list[Path]:
        """Returns the files of base and adapter."""
        return [*super().paths(), *self.adapter_paths()]

    def adapter_paths(self) -> list[Path]:
        """Returns the adapter's own files."""
        return [self.config.path, *self.adapter.paths()]

    def describe(self, name: str) -> str:
        """Returns where a tensor comes from, with the adapter if it changes the tensor."""
        description = super().describe(name)
        if name in self._replacements:
            description = self.adapter.describe(self._replacements[name])
        changed = name.rpartition(".")[0] in self._deltas | self._token_rows
        return (
            f"{description} with the adapter {self.config.path.parent}" if changed else description
        )

    # The code that moves the numbers reports those that are not finite, with the tensor's name.
    @np.errstate(over="ignore", divide="ignore", invalid="ignore")
    def read_rows(self, name: str, start: int, stop: int, row_shape: tuple[int, ...]) -> np.ndarray:
        """Reads some rows of a tensor; see `TensorReader`."""
        dtype = self.tensors[name].numpy_dtype
        rows = self._read_base(name, start, stop, row_shape)
        module, _, parameter = name.rpartition(".")
        delta = self._deltas.get(module)
        if delta is None or (parameter == "bias" and delta.bias is None):
            return rows
        rows = rows.astype(np.float32, order="C")
        if parameter == "bias" and delta.bias is not None:
            added = self.adapter.read_rows(delta.bias, start, stop, ()).astype(np.float32)
            return (rows + added * np.float32(delta.scaling)).astype(dtype)
        merged = rows + self._scaled_product(module, start, stop)
        if delta.magnitude is None:
            return merged.astype(dtype)
        if module == EMBEDDING:
            factor = self.adapter.read(delta.magnitude).astype(np.float32) / self._table_norms()
        else:
            magnitudes = self.adapter.read_rows(delta.magnitude, start, stop, ())
            factor = (magnitudes.astype(np.float32) / row_norms(merged))[:, np.newaxis]
        return (factor * merged).astype(dtype)

    def close(self) -> None:
        """Closes the files of base and adapter."""
        self.adapter.close()
        super().close()

    def _replace(self, name: str, plain: str) -> None:
        """Replaces a tensor of the base by one of the adapter's, unless that is a copy."""
        if "original_module" in plain.split("."):
            return  # the base's own, which is no longer used
        wrapped, plain = plain, _WRAPPED.sub("", plain)
        if wrapped != plain and f"{_PREFIX}{plain}" in self.adapter.tensors:
            return  # saved twice, as resized embeddings are: PEFT reads the plain name
        if plain not in self.tensors or plain in self._replacements:
            raise self._error(f"{name} belongs to no tensor of the base")
        self._replacements[plain] = name
        shape = self.adapter.tensors[name].shape
        self.tensors[plain] = dataclasses.replace(self.tensors[plain], shape=shape)

    def _read_base(
        self, name: str, start: int, stop: int, row_shape: tuple[int, ...]
    ) -> np.ndarray:
        """Reads rows without the delta of LoRA, in the base's type."""
        if name in self._replacements:
            rows = self.adapter.read_rows(self._replacements[name], start, stop, row_shape)
            rows = rows.astype(self.tensors[name].numpy_dtype)
        else:
            rows = self.base.read_rows(name, start, stop, row_shape)
        tokens = self._token_rows.get(name.removesuffix(".weight"))
        if tokens is not None:
            inside = (start <= tokens.indices) & (tokens.indices < stop)
            rows[tokens.indices[inside] - start] = self.adapter.read(tokens.name)[inside]
        return rows

    def _scaled_product(self, module: str, start: int, stop: int) -> np.ndarray:
        """Returns rows of s B A in float32."""
        delta, scaling = self._deltas[module], np.float32(self._deltas[module].scaling)
        if module != EMBEDDING:
            rank = self.adapter.tensors[delta.second].shape[1:]
            second = self.adapter.read_rows(delta.second, start, stop, rank)
            return product(second, self.adapter.read(delta.first)) * scaling
        first = self.adapter.read(delta.first)[:, start:stop]
        scaled = product(self.adapter.read(delta.second), first).T * scaling
        if delta.magnitude is not None:
            return scaled
        return scaled.astype(self.tensors[f"{module}.weight"].numpy_dtype).astype(np.float32)

    def _table_norms(self) -> np.ndarray:
        """Returns the norms [D] of the columns of the embedding's merged table, in one pass."""
        with self._computing_norms:
            if self._norms is None:
                name = f"{EMBEDDING}.weight"
                vocab_size, dims = self.tensors[name].shape
                step = max(1, slices.SLICE_BYTES // (4 * dims))
                squares = np.zeros(dims, np.float32)
                for start in range(0, vocab_size, step):
                    stop = min(vocab_size, start + step)
                    rows = self._read_base(name, start, stop, (dims,)).astype(np.float32)
                    rows += self._scaled_product(EMBEDDING, start, stop)
                    squares = add_squares(squares, rows)
                self._norms = np.sqrt(squares)
            return self._norms

    def _make_delta(self, module: str, names: dict[str, str]) -> _Delta:
        """Returns a module's delta, with all tensors checked to exist and to fit the base."""
        shape, rank = self.tensors[f"{module}.weight"].shape, self.config.rank(module)
        if module == EMBEDDING:
            first, second = "lora_embedding_A", "lora_embedding_B"
            rows, columns = shape[::-1]
        else:
            first, second = "lora_A.weight", "lora_B.weight"
            rows, columns = shape
        expected: dict[str, tuple[int, ...]] = {first: (rank, columns), second: (rows, rank)}
        if self.config.dora:
            expected["lora_magnitude_vector"] = (rows,)
        if self.config.values.get("lora_bias") and module != EMBEDDING:
            if f"{module}.bias" not in self.tensors:
                raise self._error(f"{module} has no bias that lora_bias could be added to")
            expected["lora_B.bias"] = (rows,)
        for part in sorted(expected.keys() ^ names.keys()):
            raise self._error(
                f"{module} has no {part}" if part in expected else f"{names[part]} is not expected"
            )
        for part, size in expected.items():
            self._check_tensor(names[part], size)
        return _Delta(
            names[first],
            names[second],
            self.config.scaling(module),
            names.get("lora_magnitude_vector"),
            names.get("lora_B.bias"),
        )

    def _make_token_rows(self, module: str, name: str) -> _TokenRows:
        """Returns the rows of a module that one of the adapter's tensors replaces."""
        indices = np.array(self.config.tokens(module), np.int64)
        if module in self._deltas:
            raise self._error(f"{name} has rows of a weight that is changed by LoRA too")
        vocab_size, *row_shape = self.tensors[f"{module}.weight"].shape
        self._check_tensor(name, (len(indices), *row_shape))
        if indices.size and indices.max() >= vocab_size:
            raise self._error(f"{name} has row {indices.max():,}, and the base {vocab_size:,} rows")
        return _TokenRows(name, indices)

    def _check_tensor(self, name: str, expected: tuple[int, ...]) -> None:
        """Raises ValueError unless a tensor of the adapter has this shape and is finite."""
        shape = self.adapter.tensors[name].shape
        if shape != expected:
            raise self._error(f"{name} has shape {shape}, expected {expected}")
        with self.adapter:
            numbers = self.adapter.read(name)
        if not floats.is_finite(numbers):
            raise floats.non_finite_error(self.adapter.describe(name), shape, [(0, numbers)])

    def _check_modules(self, configured: set[str], present: Iterable[str], what: str) -> None:
        """Raises ValueError unless the settings name exactly the modules that have tensors."""
        for module in sorted(configured ^ {*present}):
            if module in configured:
                raise self._error(f"no {what} of {module}, which {adapter_config.FILE} names")
            raise self._error(f"{what} of {module}, which {adapter_config.FILE} does not name")

    def _error(self, problem: str) -> InvalidValueError:
        return InvalidValueError(f"the adapter {self.config.path.parent}: {problem}")


def merge(base: TensorReader, folder: Path) -> MergedReader:
    """Merges the adapter of a folder into a network of Hugging Face's layout.

    Args:
        base: the weights that the adapter was trained on.
        folder: the folder that PEFT saved.

    Raises:
        FileNotFoundError: the folder does not exist, or holds no adapter.
        ValueError: the adapter is of another kind, was made for another network, or is damaged.
    """
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is no directory; expected one that PEFT saved")
    config = adapter_config.read(folder)
    for name, find in _FILES.items():
        if (folder / name).is_file():
            git_lfs.check_fetched([folder / name])
            return MergedReader(base, config, FileReader(find(folder / name)))
    raise MissingFileError(f"{folder} holds no {' or '.join(_FILES)}")


def lineage_entry(reader: MergedReader, file_hashes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns an adapter's entry in the lineage of an import.

    Args:
        reader: the reader of the merged weights that were imported.
        file_hashes: the entries of the adapter's files from `fingerprints.hash_files`.
    """
    return {
        "directory": str(reader.config.path.parent),
        "base_model": reader.config.values.get("base_model_name_or_path"),
        "revision": reader.config.values.get("revision"),
        "files": [*file_hashes],
    }
