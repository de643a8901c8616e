"""What `adapter_config.json` of PEFT says of an adapter: which modules it changes, and how much.

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
from codegen_pax.weights import hugging_face, layout

FILE = "adapter_config.json"
EMBEDDING = layout.EMBEDDING.hugging_face.removesuffix(".weight")

# What decides the merged weights.
_READ = {
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
# What is of training alone, or means nothing for a network of plain linear layers, as CodeGen's:
# `fan_in_fan_out` is for GPT-2's, which PEFT sets to False for these too.
_PASSED_OVER = {
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
_MOST = 2.0**127  # of a rank or an alpha: what float32 holds
# Ways to start that leave the base's own weights as they are; the others take the adapter's first
# value out of them, so that the base of the training is another than the one that is named.
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclasses.dataclass(frozen=True)
class Config:
    """An adapter's settings.

    Attributes:
        path: of the file.
        values: as it has them.
    """

    path: Path
    values: Mapping[str, Any]

    @property
    def base(self) -> str:
        """What the adapter says it is of: a name on the hub, or a folder of its trainer's."""
        return str(self.values.get("base_model_name_or_path"))

    @property
    def dora(self) -> bool:
        """Whether magnitudes of rows are trained apart from their directions."""
        return bool(self.values.get("use_dora"))

    def rank(self, module: str) -> Any:
        """r of a module."""
        return self._by_pattern("rank_pattern", module, self.values.get("r", 8))

    def scaling(self, module: str) -> float:
        """What the product of a module's two matrices is multiplied by."""
        alpha = self._by_pattern("alpha_pattern", module, self.values.get("lora_alpha", 8))
        rank = self.rank(module)
        return alpha / (math.sqrt(rank) if self.values.get("use_rslora") else rank)

    def targets(self, modules: Iterable[str]) -> set[str]:
        """Those of some modules that it changes by LoRA."""
        return {module for module in modules if self._is_target(module)}

    def tokens(self, module: str) -> Sequence[int] | None:
        """The rows of a module's weight that were trained as they are; None if none was."""
        said = self.values.get("trainable_token_indices") or {}
        of_module = said if isinstance(said, dict) else {EMBEDDING: said}
        return next((rows for name, rows in of_module.items() if module.endswith(name)), None)

    def _is_target(self, module: str) -> bool:
        wanted, without = self.values.get("target_modules"), self.values.get("exclude_modules")
        if without and self._named(without, module):
            return False
        if any(
            re.match(rf"(^|.*\.){saved}($|\..*)", module)
            for saved in self.values.get("modules_to_save") or ()
        ):
            return False
        if not self._named(wanted or (), module):
            return False
        layers = self.values.get("layers_to_transform")
        if layers in (None, []) or isinstance(wanted, str) or module in wanted:
            return True
        patterns = self.values.get("layers_pattern") or r"[^.]*"
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            if found := re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", module):
                return int(found[1]) in ([layers] if isinstance(layers, int) else layers)
        return False

    def _named(self, names: str | Iterable[str], module: str) -> bool:
        """Whether a pattern, or a list of names or of their ends, names a module."""
        if isinstance(names, str):
            return re.fullmatch(names, module) is not None
        return any(module == name or module.endswith(f".{name}") for name in names)

    def _by_pattern(self, key: str, module: str, otherwise: Any) -> Any:
        for pattern, value in (self.values.get(key) or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        return otherwise


def read(folder: Path) -> Config:
    """The settings of an adapter's folder.

    Raises:
        FileNotFoundError: it has none.
        ValueError: they are no JSON object, of no LoRA, or of a kind of LoRA that is not merged
            here.
    """
    path = folder / FILE
    if not path.is_file():
        below = sorted(found.parent.name for found in folder.glob(f"*/{FILE}"))
        hint = f"; it holds folders that have one: {', '.join(below)}" if below else ""
        raise MissingFileError(f"{folder} has no {FILE}; wanted a folder that PEFT saved{hint}")
    values = hugging_face.read_settings(path)
    kind = values.get("peft_type")
    if kind != "LORA":
        raise InvalidValueError(
            f"{path} is of a {kind} adapter; wanted LORA, the only kind that is merged here: merge "
            "it with PEFT's merge_and_unload, and import what that saves"
        )
    for key, value in values.items():
        if value and key not in _READ | _PASSED_OVER:
            raise InvalidValueError(
                f"{path} has {key} {value!r}, a kind of LoRA that is not merged here: merge it "
                "with PEFT's merge_and_unload, and import what that saves"
            )
    start = values.get("init_lora_weights")
    if start not in _PLAIN_STARTS:
        raise InvalidValueError(
            f"{path} has init_lora_weights {start!r}, which changes the base's own weights: save "
            "the adapter as plain LoRA by PEFT's path_initial_model_for_weight_conversion"
        )
    found = Config(path, values)
    _check(found)
    return found


def _check(config: Config) -> None:
    """Raises ValueError unless every value that is read can be what it says."""
    kinds = {
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
    for key, kind in kinds.items():
        if key in config.values and not isinstance(config.values[key], kind):
            raise InvalidValueError(f"{config.path} is damaged: its {key} {config.values[key]!r}")
    ranks = (*(config.values.get("rank_pattern") or {}).values(), config.values.get("r", 8))
    alphas = (
        *(config.values.get("alpha_pattern") or {}).values(),
        config.values.get("lora_alpha", 8),
    )
    if not all(isinstance(rank, int) and 0 < rank <= _MOST for rank in ranks) or not all(
        isinstance(alpha, (int, float)) and abs(alpha) <= _MOST for alpha in alphas
    ):
        raise InvalidValueError(
            f"{config.path} is damaged: a rank is no number of rows, or an alpha no finite number"
        )
    tokens = config.values.get("trainable_token_indices") or ()
    for rows in tokens.values() if isinstance(tokens, dict) else [tokens]:
        whole = isinstance(rows, (list, tuple)) and all(isinstance(row, int) for row in rows)
        if not whole or min(rows, default=0) < 0:
            raise InvalidValueError(f"{config.path} is damaged: a token's row is {rows!r}")
    try:
        for key in ("rank_pattern", "alpha_pattern", "modules_to_save", "layers_pattern"):
            names = config.values.get(key) or ()
            for pattern in [names] if isinstance(names, str) else names:
                re.compile(pattern)
        config.targets(["transformer.h.0.attn.qkv_proj"])
    except (re.error, TypeError) as error:
        raise InvalidValueError(f"{config.path} names its modules wrongly: {error}") from error
