"""PEFT's `adapter_config.json`: which modules an adapter changes, and by how much.

Source: huggingface/peft, `LoraConfig`, `check_target_module_exists` and `get_pattern_key`.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from codegen_pax.errors import InvalidValueError, MissingFileError
from codegen_pax.weights import hugging_face, layouts

FILE = hugging_face.ADAPTER_CONFIG_FILE
EMBEDDING = layouts.EMBEDDING.hugging_face.removesuffix(".weight")

# Keys that decide the merged weights.
_USED_KEYS = {
    "alpha_pattern",
    "bias",
    "exclude_modules",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_bias",
    "modules_to_save",
    "peft_type",
    "r",
    "rank_pattern",
    "target_modules",
    "trainable_token_indices",
    "use_dora",
    "use_rslora",
}
# Keys that concern training alone, or have no effect on a network of plain linear layers such as
# CodeGen's: `fan_in_fan_out` is for GPT-2's layers, and PEFT sets it to False for plain ones.
_IGNORED_KEYS = {
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "fan_in_fan_out",
    "inference_mode",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
}
_MAX_NUMBER = 2.0**127  # the largest rank or alpha, a number that float32 holds
# Initialisations that do not change the base's own weights. The others subtract the adapter's first
# value from them, so that the adapter was trained on weights other than those of the named base.
_PLAIN_INITIALISATIONS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """An adapter's settings.

    Attributes:
        path: the path of the file.
        values: the content of the file.
    """

    path: Path
    values: Mapping[str, Any]

    @property
    def base(self) -> str:
        """The base that the adapter names: a name on the hub, or a folder of the trainer."""
        return str(self.values.get("base_model_name_or_path"))

    @property
    def dora(self) -> bool:
        """Whether magnitudes of rows are trained separately from their directions."""
        return bool(self.values.get("use_dora"))

    def rank(self, module: str) -> Any:
        """Returns r of a module."""
        return self._by_pattern("rank_pattern", module, self.values.get("r", 8))

    def scaling(self, module: str) -> float:
        """Returns the factor of the product of a module's two matrices."""
        alpha = self._by_pattern("alpha_pattern", module, self.values.get("lora_alpha", 8))
        rank = self.rank(module)
        return alpha / (math.sqrt(rank) if self.values.get("use_rslora") else rank)

    def targets(self, modules: Iterable[str]) -> set[str]:
        """Returns the modules, among `modules`, that the adapter changes by LoRA."""
        return {module for module in modules if self._is_target(module)}

    def tokens(self, module: str) -> Sequence[int] | None:
        """Returns the rows of a module's weight that were trained directly; None if none were."""
        indices = self.values.get("trainable_token_indices") or {}
        by_module = indices if isinstance(indices, dict) else {EMBEDDING: indices}
        return next((rows for name, rows in by_module.items() if module.endswith(name)), None)

    def _is_target(self, module: str) -> bool:
        targets, excluded = self.values.get("target_modules"), self.values.get("exclude_modules")
        if excluded and _matches(excluded, module):
            return False
        if any(
            re.match(rf"(^|.*\.){saved}($|\..*)", module)
            for saved in self.values.get("modules_to_save") or ()
        ):
            return False
        if not _matches(targets or (), module):
            return False
        if isinstance(targets, str) or module in (targets or ()):
            return True
        return self._is_in_layers(module)

    def _is_in_layers(self, module: str) -> bool:
        """Returns whether a module is in the layers that the settings restrict LoRA to."""
        layers = self.values.get("layers_to_transform")
        if layers in (None, []):
            return True
        patterns = self.values.get("layers_pattern") or r"[^.]*"
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            if match := re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", module):
                return int(match[1]) in ([layers] if isinstance(layers, int) else layers)
        return False

    def _by_pattern(self, key: str, module: str, default: Any) -> Any:
        for pattern, value in (self.values.get(key) or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        return default


def _matches(names: str | Iterable[str], module: str) -> bool:
    """Returns whether a pattern, or a list of names or suffixes of names, matches a module."""
    if isinstance(names, str):
        return re.fullmatch(names, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in names)


def read(folder: Path) -> AdapterConfig:
    """Reads the settings of an adapter's folder.

    Raises:
        FileNotFoundError: the folder has no settings.
        ValueError: the settings are not a JSON object, not of LoRA, or of a kind of LoRA that is
            not merged here.
    """
    path = folder / FILE
    if not path.is_file():
        below = sorted(path.parent.name for path in folder.glob(f"*/{FILE}"))
        hint = f"; it holds folders that have one: {', '.join(below)}" if below else ""
        raise MissingFileError(f"{folder} has no {FILE}; expected a folder that PEFT saved{hint}")
    values = hugging_face.read_settings(path)
    peft_type = values.get("peft_type")
    if peft_type != "LORA":
        raise InvalidValueError(
            f"{path} is of a {peft_type} adapter; expected LORA, the only kind that is merged "
            "here: merge it with PEFT's merge_and_unload, and import what that saves"
        )
    for key, value in values.items():
        if value and key not in _USED_KEYS | _IGNORED_KEYS:
            raise InvalidValueError(
                f"{path} has {key} {value!r}, a kind of LoRA that is not merged here: merge it "
                "with PEFT's merge_and_unload, and import what that saves"
            )
    initialisation = values.get("init_lora_weights")
    if initialisation not in _PLAIN_INITIALISATIONS:
        raise InvalidValueError(
            f"{path} has init_lora_weights {initialisation!r}, which changes the base's own "
            "weights: save the adapter as plain LoRA by PEFT's "
            "path_initial_model_for_weight_conversion"
        )
    config = AdapterConfig(path, values)
    _check_types(config)
    _check_numbers(config)
    _check_patterns(config)
    return config


def _check_types(config: AdapterConfig) -> None:
    expected: dict[str, tuple[type, ...]] = {
        "alpha_pattern": (dict, type(None)),
        "rank_pattern": (dict, type(None)),
        "modules_to_save": (list, type(None)),
        "target_modules": (list, str, type(None)),
        "exclude_modules": (list, str, type(None)),
        "layers_to_transform": (list, int, type(None)),
        "layers_pattern": (list, str, type(None)),
        "trainable_token_indices": (dict, list, type(None)),
        "r": (int,),
        "lora_alpha": (int, float),
    }
    for key, types in expected.items():
        if key in config.values and not isinstance(config.values[key], types):
            raise InvalidValueError(
                f"{config.path} is damaged: its {key} is {config.values[key]!r}"
            )


def _check_numbers(config: AdapterConfig) -> None:
    """Raises ValueError unless ranks, alphas and rows of tokens are in range."""
    values = config.values
    ranks = (*(values.get("rank_pattern") or {}).values(), values.get("r", 8))
    alphas = (*(values.get("alpha_pattern") or {}).values(), values.get("lora_alpha", 8))
    if not all(isinstance(rank, int) and 0 < rank <= _MAX_NUMBER for rank in ranks) or not all(
        isinstance(alpha, (int, float)) and abs(alpha) <= _MAX_NUMBER for alpha in alphas
    ):
        raise InvalidValueError(
            f"{config.path} is damaged: a rank is no positive integer, or an alpha no finite number"
        )
    tokens = values.get("trainable_token_indices") or ()
    for rows in tokens.values() if isinstance(tokens, dict) else [tokens]:
        integers = isinstance(rows, (list, tuple)) and all(isinstance(row, int) for row in rows)
        if not integers or min(rows, default=0) < 0:
            raise InvalidValueError(f"{config.path} is damaged: a token's row is {rows!r}")


def _check_patterns(config: AdapterConfig) -> None:
    """Raises ValueError unless the patterns of modules are regular expressions."""
    try:
        for key in ("rank_pattern", "alpha_pattern", "modules_to_save", "layers_pattern"):
            patterns = config.values.get(key) or ()
            for pattern in [patterns] if isinstance(patterns, str) else patterns:
                re.compile(pattern)
        config.targets(["transformer.h.0.attn.qkv_proj"])
    except (re.error, TypeError) as error:
        raise InvalidValueError(
            f"{config.path} has a pattern of modules that is no regular expression: {error}"
        ) from error
