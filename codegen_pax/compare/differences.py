"""What differs between experiments, by group: network, recipe, data, hardware, run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from codegen_pax.compare.configurations import ExperimentConfig, Scalar, format_value
from codegen_pax.errors import InvalidValueError

NETWORK, RECIPE, DATA, HARDWARE, RUN = GROUPS = ("network", "recipe", "data", "hardware", "run")

# The first pattern found in a path decides. A path that matches none belongs to the run, so that
# nothing is left out. Paths begin with a section of the experiment: task, datasets, ...
_GROUP_PATTERNS = tuple(
    (re.compile(pattern), group)
    for pattern, group in (
        # How arrays and batches are sharded over devices, and what is kept in their memory.
        (r"mesh", HARDWARE),
        (r"split_dims_mapping|split_mapping", HARDWARE),
        (r"\.(repeat_optimizer_dims_mapping|contiguous_submeshes|checkpoint_policy)\b", HARDWARE),
        (r"\.(tr_atten_tpl\.kind|query_chunk|token_chunk)$", HARDWARE),
        (r"\.(num_infeed_hosts|infeed_host_index|custom_device_order)\b", HARDWARE),
        # The batch and the loss belong to the recipe, wherever Pax keeps them.
        (r"\.batch_size$", RECIPE),
        (r"^task\.model\b.*\.(z_loss_weight|entropy_loss_weight|label_smoothing\w*)\b", RECIPE),
        (r"^(datasets|decode_datasets|input_specs)\b", DATA),
        (r"^task\.train\.(learner|num_train_steps|random_seed|init_from_\w+)\b", RECIPE),
        (r"^task\.(vn|loss_aggregator|early_stopping_fn)\b", RECIPE),
        (r"^task\.model\.decoder_tpl\b", RUN),
        (r"^task\.model\b", NETWORK),
    )
)

# A step of a path starts at a dot outside brackets; `[0]` stays with the name before it.
_STEPS = re.compile(r"(?:[^.\[]|\[[^\]]*\])+")


@dataclass(frozen=True)
class Difference:
    """One path whose values are not all equal.

    Attributes:
        path: The path, from the section on: `task.model.lm_tpl.model_dims`.
        group: One of `GROUPS`.
        values: Name of the experiment -> its value. An experiment without the path has no entry.
    """

    path: str
    group: str
    values: Mapping[str, Scalar]


def find_differences(configs: Sequence[ExperimentConfig]) -> list[Difference]:
    """Finds every path at which the experiments are not all equal.

    Args:
        configs: The experiments, two or more.

    Returns:
        The differences by group, within a group in the order of the configurations.

    Raises:
        ValueError: There are fewer than two experiments, or two different ones have the same name.
    """
    if len(configs) < 2:
        raise InvalidValueError(
            f"found {len(configs)} experiment to compare; expected at least two"
        )
    tables = [config.flatten() for config in configs]
    by_name: dict[str, dict[str, Scalar]] = {}
    for config, table in zip(configs, tables, strict=True):
        if by_name.setdefault(config.name, table) != table:
            raise InvalidValueError(f"two different experiments are called {config.name!r}")
    result = [
        Difference(
            path=path,
            group=group_of(path),
            values={name: table[path] for name, table in by_name.items() if path in table},
        )
        for path in dict.fromkeys(path for table in tables for path in table)
        if len({format_value(table[path]) if path in table else None for table in tables}) > 1
    ]
    return sorted(result, key=lambda difference: GROUPS.index(difference.group))


def group_of(path: str) -> str:
    """Returns the group that a path belongs to."""
    return next((group for pattern, group in _GROUP_PATTERNS if pattern.search(path)), RUN)


def shorten_paths(paths: Iterable[str]) -> dict[str, str]:
    """Finds short names for long paths.

    Returns:
        Path -> the shortest end of it, of two steps or more, that is the end of no other path. A
        path that is itself the end of another one keeps all its steps.
    """
    steps = {path: _STEPS.findall(path) for path in paths}
    count = Counter(end for names in steps.values() for end in set(_ends(names)))
    return {
        path: next((end for end in _ends(names) if count[end] == 1), path)
        for path, names in steps.items()
    }


def _ends(steps: list[str]) -> list[str]:
    """Returns the ends of a path that has these steps, the shortest first."""
    return [".".join(steps[-n:]) for n in range(min(2, len(steps)), len(steps) + 1)]
